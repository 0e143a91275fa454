"""Decoding in processes apart, from the parent's side: processes that are kept, and requests to them."""

import atexit
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedIOBase
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from processors.config import VideoConfig
from processors.decode.protocol import ANSWER, NEXT, REQUEST, START, STOP
from processors.decode.video.sampled_frames import SampledFrames
from processors.errors import InputError
from processors.frame_sampling import Count, Rate
from processors.io.access import Access

_most_idle = 4
_START_SECONDS = 60.0
_POLL_SECONDS = 0.1
_MOST_TEXT, _MOST_BLOCK = 1 << 16, 1 << 28
_PATIENCE = 1.0
"""Seconds for an answer that nobody waits for any more: a process that takes longer is ended."""

_lock = threading.Lock()
_idle: list["_Decoder"] = []


class _Decoder:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        paths = [os.path.abspath(path) for path in sys.path]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths), "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        # Without the current folder on the path, and out of reach of the terminal's Ctrl-C.
        command = [sys.executable, "-P", "-W", "ignore", "-m", "processors.decode.process", str(theirs.fileno())]
        null = subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(
                command, stdin=null, stdout=null, stderr=null, env=environment, pass_fds=[theirs.fileno()],
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise InputError("decoder_crashed", f"the decoding process cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        self.channel = ours

    def usable(self) -> bool:
        """Whether it is alive and silent."""
        return self.process.poll() is None and not select.select([self.channel], [], [], 0)[0]

    def end(self) -> int:
        """End the process at once; gives its exit code."""
        with suppress(OSError):
            self.channel.close()
        try:
            return self.process.wait(0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class _Session:
    """One request to a process, from its start to its last answer."""

    def __init__(self, operation: str, name: str, arguments: tuple, source: int, access: Access):
        self._name, self._access = name, access
        self._operation = operation
        self._left = float(access.limits.decoder_seconds)
        self._waiting = True
        self._decoder: _Decoder | None = _taken(access)
        try:
            inside = replace(access, isolate=False)
            data = pickle.dumps((inside, operation, arguments))
            socket.send_fds(self._decoder.channel, [REQUEST.pack(START, len(data))], [source])
            self._decoder.channel.sendall(data)
        except OSError:
            self._raise_ended()
        except BaseException:
            self.close()
            raise

    def answer(self, ask: bool = True) -> tuple[dict[str, Any], bytearray] | None:
        """Return the next answer, None at the end; and ask for the one after it.

        Raises:
            InputError: the decoder's own, `decoder_crashed`, `decoder_time`, `deadline` or `cancelled`.
        """
        try:
            text_size, size = ANSWER.unpack(self._exactly(ANSWER.size))
            if text_size > _MOST_TEXT or size > _MOST_BLOCK:
                raise ValueError("a bad answer")
            answer = json.loads(self._exactly(text_size))
            payload = self._exactly(size)
            if not isinstance(answer, dict):
                raise ValueError("a bad answer")
            if "error" in answer or "end" in answer:
                self._waiting = False
                self._release()
                if "error" in answer:
                    code, message = answer["error"]
                    raise InputError(_code(code), str(message))
                return None
            if ask:
                self._connected.channel.sendall(REQUEST.pack(NEXT, 0))
            else:
                self._waiting = False
            return answer, payload
        except InputError:
            raise
        except OSError:
            self._raise_ended()
        except (ValueError, KeyError, TypeError):
            self._kill()
            raise InputError("decoder_crashed", f"{self._name}: the decoding process gave a bad answer") from None
        raise AssertionError

    @property
    def _connected(self) -> _Decoder:
        if self._decoder is None:
            raise InputError("decoder_crashed", f"{self._name}: its decoding has ended")
        return self._decoder

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        view, channel = memoryview(data), self._connected.channel
        while view:
            began = time.monotonic()
            ready = select.select([channel], [], [], _POLL_SECONDS)[0]
            self._left -= time.monotonic() - began
            self._access.check()
            if self._left < 0:
                self._kill()
                seconds = self._access.limits.decoder_seconds
                raise InputError("decoder_time", f"{self._name}: not decoded in {seconds:g} s")
            if ready:
                count = channel.recv_into(view)
                if not count:
                    raise ConnectionError
                view = view[count:]
        return data

    def _raise_ended(self) -> None:
        """Tell what the process died of."""
        code = self._kill()
        if code == -signal.SIGXCPU:
            seconds = self._access.limits.decoder_seconds
            raise InputError("decoder_time", f"{self._name}: not decoded in {seconds:g} s of processor time") from None
        how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        raise InputError("decoder_crashed", f"{self._name}: the decoding process ended on it, with {how}") from None

    def _kill(self) -> int:
        decoder, self._decoder = self._decoder, None
        return 0 if decoder is None else decoder.end()

    def _release(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            _give_back(decoder)

    def close(self) -> None:
        """End the request, whatever stage it is at; the process is kept where it answers soon."""
        if self._decoder is None:
            return
        if sys.exc_info()[0] is not None and not isinstance(sys.exc_info()[1], Exception):
            self._kill()
            return
        try:
            if self._waiting:
                self._left, self._access = _PATIENCE, Access(self._access.limits)
                if self.answer(ask=False) is None:
                    return
            self._connected.channel.sendall(REQUEST.pack(STOP, 0))
            self._release()
        except (InputError, OSError):
            self._kill()


def _code(code: object) -> str:
    text = str(code)
    return text if len(text) <= 64 and text.isidentifier() else "decoder_crashed"


def _taken(access: Access) -> _Decoder:
    """An idle process, or a new one once it is ready."""
    while True:
        access.check()
        with _lock:
            decoder = _idle.pop() if _idle else None
        if decoder is None:
            break
        if decoder.usable():
            return decoder
        decoder.end()
    decoder = _Decoder()
    end = time.monotonic() + _START_SECONDS
    try:
        while not select.select([decoder.channel], [], [], _POLL_SECONDS)[0]:
            access.check()
            if time.monotonic() > end:
                raise InputError("decoder_crashed", "the decoding process does not start")
        ready = decoder.channel.recv(ANSWER.size + 64)
        if not ready:
            raise InputError("decoder_crashed", "the decoding process ended when it was started")
    except BaseException:
        decoder.end()
        raise
    return decoder


def _give_back(decoder: _Decoder) -> None:
    with _lock:
        if len(_idle) < _most_idle:
            _idle.append(decoder)
            return
    decoder.end()


@contextmanager
def _shared(stream: BufferedIOBase) -> Iterator[int]:
    """A descriptor of what a stream holds: its file's own, or that of a copy in memory."""
    try:
        yield stream.fileno()
        return
    except OSError:  # io.UnsupportedOperation: it is in memory
        pass
    if not hasattr(socket, "send_fds"):
        raise InputError("decoder_crashed", "decoding in a process apart needs a POSIX system")
    with (
        tempfile.TemporaryFile()
        if not hasattr(os, "memfd_create")
        else os.fdopen(os.memfd_create("media", os.MFD_CLOEXEC), "wb") as copy
    ):
        stream.seek(0)
        while block := stream.read(1 << 20):
            copy.write(block)
        copy.flush()
        yield copy.fileno()


@contextmanager
def isolated_video(
    stream: BufferedIOBase,
    name: str,
    config: VideoConfig,
    fps: Rate | None,
    num_frames: Count | None,
    access: Access,
) -> Iterator[SampledFrames]:
    """As `sample_stream`, in a process apart.

    Raises:
        InputError: the codes of `open_video`; `decoder_crashed`, the process ended; `decoder_time`, it took too long.
    """
    with _shared(stream) as source:
        session = _Session("video", name, (name, config, fps, num_frames), source, access)
        try:
            header, payload = _present(session.answer(), name)
            start, size = header.get("start"), header.get("size")
            yield SampledFrames(
                frames=_frames(session, name),
                timestamps=np.frombuffer(payload, np.float64),
                fps=float(header["fps"]),
                start=None if start is None else float(start),
                size=None if size is None else (int(size[0]), int(size[1])),
                audio=(lambda rate: _blocks(source, name, rate, start, access)) if header.get("audio") else None,
            )
        finally:
            session.close()


def isolated_audio(
    stream: BufferedIOBase, name: str, rate: int, start: float | None, access: Access
) -> Iterator[Float32[np.ndarray, "_"]]:
    """As `track_blocks`, in a process apart; errors as `isolated_video`."""
    with _shared(stream) as source:
        yield from _blocks(source, name, rate, start, access)


@contextmanager
def isolated_answers(
    operation: str, stream: BufferedIOBase, name: str, arguments: tuple[Any, ...], access: Access
) -> Iterator[Iterator[tuple[dict[str, Any], bytearray]]]:
    """The answers of any operation that the process knows; errors as `isolated_video`."""
    with _shared(stream) as source:
        session = _Session(operation, name, (name, *arguments), source, access)
        try:
            yield iter(session.answer, None)
        finally:
            session.close()


def keep_decoders(count: int) -> None:
    """Keep as many processes for the next file, where more than the usual ones work at a time."""
    global _most_idle
    _most_idle = max(_most_idle, count)


def _frames(session: _Session, name: str) -> Iterator[Image.Image]:
    while (answer := session.answer()) is not None:
        header, payload = answer
        width, height = (int(side) for side in header.get("size", (0, 0)))
        if width < 1 or height < 1 or len(payload) != width * height * 3:
            raise InputError("decoder_crashed", f"{name}: the decoding process gave a bad answer")
        yield Image.fromarray(np.frombuffer(payload, np.uint8).reshape(height, width, 3))


def _blocks(
    source: int, name: str, rate: int, start: float | None, access: Access
) -> Iterator[Float32[np.ndarray, "_"]]:
    session = _Session("audio", name, (name, rate, start), source, access)
    try:
        _present(session.answer(), name)
        while (answer := session.answer()) is not None:
            yield np.frombuffer(answer[1], np.float32)
    finally:
        session.close()


def _present(answer: tuple[dict[str, Any], bytearray] | None, name: str) -> tuple[dict[str, Any], bytearray]:
    if answer is None:
        raise InputError("decoder_crashed", f"{name}: the decoding process gave no answer")
    return answer


def end_decoders() -> None:
    """End the processes that wait for work; called when the interpreter ends."""
    with _lock:
        decoders = _idle[:]
        _idle.clear()
    for decoder in decoders:
        decoder.end()


def _forget_decoders() -> None:
    """In a forked child: the processes are the parent's, and must not be held alive by the child's sockets."""
    global _lock
    _lock = threading.Lock()
    for decoder in _idle:
        with suppress(OSError):
            decoder.channel.close()
    _idle.clear()


atexit.register(end_decoders)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_decoders)
