"""Lines that a user types: with editing, a history over sessions, and names of files completed."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

_MOST_KEPT = 1000


def history_file() -> Path:
    """Return where typed lines are kept: in the user's folder for states."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "omni-jax" / "chat_history"


def read_lines(commands: Sequence[str], history: Path | None) -> Iterator[str]:
    """Yield what is typed, line by line, without empty ones, until the end of input or Ctrl-C.

    Args:
        commands: words that the tab key completes at the beginning of a line.
        history: file of earlier lines, which this session's join; None keeps none.
    """
    readline = _readline()
    if readline is not None:
        _complete(readline, commands)
        if history is not None:
            _load(readline, history)
    try:
        while True:
            try:
                line = input("> ").strip()
            except (EOFError, KeyboardInterrupt):
                typer.echo()
                return
            if line:
                yield line
    finally:
        if readline is not None and history is not None:
            _save(readline, history)


def _readline() -> Any:
    """Line editing, where Python was built with it; else None."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def _complete(readline: Any, commands: Sequence[str]) -> None:
    def matches(text: str) -> list[str]:
        line = readline.get_line_buffer().lstrip()
        if line.startswith("/") and " " not in line:
            return [f"{command} " for command in commands if command.startswith(text)]
        if not line.startswith("/"):
            return []
        names = sorted(glob.glob(f"{glob.escape(os.path.expanduser(text))}*"))
        return [f"{name}/" if os.path.isdir(name) else name for name in names]

    def complete(text: str, state: int) -> str | None:
        found = matches(text)
        return found[state] if state < len(found) else None

    # A path is one word, and so is a command.
    readline.set_completer_delims(" \t\n")
    readline.set_completer(complete)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")


def _load(readline: Any, history: Path) -> None:
    readline.clear_history()
    readline.set_history_length(_MOST_KEPT)
    try:
        readline.read_history_file(history)
    except OSError:
        pass  # the first session, or a file of another program


def _save(readline: Any, history: Path) -> None:
    """Keep the lines where nobody else may read them; a history that cannot be kept is no reason to fail."""
    try:
        history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))
        readline.write_history_file(history)
    except OSError:
        pass
