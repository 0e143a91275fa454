"""Ctrl-C and SIGTERM as a request to come to an end, for commands that save first."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the program was asked to end.

    Attributes:
        signal: by which signal; None as long as it was not.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def interruption(note: str) -> Iterator[Interruption]:
    """The first signal is noted, and the note printed; a second one ends the program at once.

    A thread reads the signals, so that both work while the main thread waits for the device. Outside the main thread
    of a program nothing is changed, and the request never comes.
    """
    asked = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def wait() -> None:
        # An end without a byte: the command is done.
        while number := reader.recv(1):
            if number[0] not in _SIGNALS:
                continue
            if asked:
                os._exit(128 + number[0])
            asked.signal = signal.Signals(number[0])
            typer.echo(note, err=True)

    # Python hands a signal to the descriptor only where it has a handler of its own.
    handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()
        thread.join()
        reader.close()
