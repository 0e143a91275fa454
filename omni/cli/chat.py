"""`omni chat`: a conversation in the terminal."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omni.cli.common import Adapters, Dtype, Media, ModelName, notes_last
from omni.cli.line_editing import history_file, read_lines
from omni.errors import InputError

if TYPE_CHECKING:
    from omni.chat import Chat

COMMANDS = {
    "/add": "/add FILE   add an image, audio or a video to the next message: a path or a URL",
    "/drop": "/drop       take back what was added and not sent yet",
    "/help": "/help       show this; begin a message with // for one that starts with a slash",
    "/quit": "/quit       leave, as do Ctrl-D and Ctrl-C",
}


def chat(
    media: Media = None,
    model: ModelName = "demo",
    message: Annotated[str | None, typer.Option("--say", "-s", help="Say this, print the answer and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens an answer.")] = 512,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    history: Annotated[bool, typer.Option(help="Keep what is typed for the arrow keys of later sessions.")] = True,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Talk with a model about images, audio and video."""
    import omni

    # What cannot be read is refused before a model is loaded.
    waiting = [_medium(source) for source in media or []]
    talk = omni.load(model, dtype=dtype, adapters=adapter or ()).chat(
        system, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    if message is not None:
        _answer(talk, message, waiting)
        return
    typer.echo("Say something. /add FILE adds a medium to your next message, /help tells of more, /quit leaves.")
    for line in read_lines(list(COMMANDS), history_file() if history and sys.stdin.isatty() else None):
        if line.startswith("/") and not line.startswith("//"):
            command, _, argument = line.partition(" ")
            if command == "/quit":
                return
            _obey(command, argument.strip(), waiting)
            continue
        try:
            _answer(talk, line[1:] if line.startswith("//") else line, waiting)
        except InputError as error:
            # The conversation stands as it was: the user may mend the message and go on.
            typer.echo(f"{error}", err=True)
        waiting = []


def _obey(command: str, argument: str, waiting: list[Any]) -> None:
    """Do what a line with a slash asks for; what cannot be done is told at once, and changes nothing."""
    if command == "/help":
        typer.echo("\n".join(COMMANDS.values()))
    elif command == "/drop":
        waiting.clear()
    elif command != "/add":
        typer.echo(f"there is no command {command[:40]}; there are {', '.join(COMMANDS)}", err=True)
    elif not argument:
        typer.echo("/add needs a file: /add FILE", err=True)
    else:
        try:
            waiting.append(_medium(argument))
        except InputError as error:
            typer.echo(f"{error}", err=True)


def _medium(source: str) -> Any:
    """A medium that is there and of a known kind; a body that was fetched to see so is kept."""
    from omni.media.encoder import as_medium

    return as_medium(source)


def _answer(talk: "Chat", message: str, media: list[Any]) -> None:
    with notes_last():
        for piece in talk.stream(message, *media):
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo()
