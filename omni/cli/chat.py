"""`omni chat`: a conversation in the terminal."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from omni.cli.common import Adapters, Dtype, Media, ModelName, notes_last
from omni.errors import InputError


def chat(
    media: Media = None,
    model: ModelName = "demo",
    message: Annotated[str | None, typer.Option("--say", "-s", help="Say this, print the answer and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens an answer.")] = 512,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Talk with a model about images, audio and video."""
    import omni

    loaded = omni.load(model, dtype=dtype, adapters=adapter or ())
    talk = loaded.chat(system, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    waiting = list(media or [])
    if message is not None:
        _answer(talk, message, waiting)
        return
    typer.echo("Say something. /add FILE adds a medium to your next message, /quit leaves.")
    for line in _lines():
        if line == "/quit":
            return
        if line.startswith("/add "):
            waiting.append(line.removeprefix("/add ").strip())
            continue
        try:
            _answer(talk, line, waiting)
            waiting = []
        except InputError as error:
            # The conversation stands as it was: the user may mend the message and go on.
            typer.echo(f"{error}", err=True)
            waiting = []


def _answer(talk, message: str, media: list[str]) -> None:
    with notes_last():
        for piece in talk.stream(message, *media):
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo()


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        if line:
            yield line
