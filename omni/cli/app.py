"""The program `omni`: its commands, and how it ends."""

import os
import signal
import socket
import threading
import time
from typing import Annotated

import typer

from omni.cli.chat import chat
from omni.cli.doctor import doctor
from omni.cli.encode import encode
from omni.cli.evaluate import evaluate
from omni.cli.info import info
from omni.cli.inspect import inspect
from omni.cli.search import search
from omni.cli.serve import serve
from omni.cli.train import train
from omni.cli.transcribe import transcribe
from omni.cli.verify import verify
from omni.cli.warmup import warmup
from omni.errors import CheckpointError, InputError, printable

app = typer.Typer(
    help="Images, video and audio to embeddings and chat with Qwen3-Omni, in JAX.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (chat, encode, search, transcribe, serve, warmup, inspect, train, verify, info, doctor):
    app.command()(command)
app.command("eval")(evaluate)
# What is being written is finished in this time, or is a file by another name that nobody reads.
_SECONDS_TO_LEAVE = 0.7


def _print_version(asked: bool | None) -> bool:
    if asked:
        import omni

        typer.echo(f"omni {omni.__version__}")
        raise typer.Exit
    return False


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Images, video and audio to embeddings and chat with Qwen3-Omni, in JAX."""


def program() -> None:
    """Runs the command line as a process of its own."""
    _leave_soon_when_interrupted()
    main()


def main() -> None:
    """Runs the command line; bad input is one line on stderr and exit code 2."""
    try:
        app(prog_name="omni")
    except (InputError, CheckpointError) as error:
        typer.echo(printable(f"omni: {error}"), err=True)
        raise SystemExit(2) from None
    except OSError as error:
        # Pictures and embeddings that cannot be written: no space, no permission, a file in a folder's place.
        where = f": {error.filename}" if error.filename else ""
        typer.echo(f"omni: {(error.strerror or str(error)).lower()}{where}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _leave_soon_when_interrupted() -> None:
    """Ctrl-C ends the program within a second, also while the device computes and Python cannot look at signals."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while reader.recv(1, socket.MSG_WAITALL)[:1] != bytes([signal.SIGINT]):
            pass
        time.sleep(_SECONDS_TO_LEAVE)
        os._exit(130)

    wait.sockets = reader, writer  # type: ignore[attr-defined]  # open for as long as the thread runs
    threading.Thread(target=wait, daemon=True).start()
