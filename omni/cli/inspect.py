"""`omni inspect`: pictures of what the model sees."""

import re
from pathlib import Path
from typing import Annotated

import typer

from omni.cli.common import Adapters, Media, ModelName, folder
from omni.errors import InputError


def inspect(
    media: Media = None,
    model: ModelName = "demo",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("inspect"),
    question: Annotated[str, typer.Option(help="The message whose tokens are drawn.")] = "What is this?",
    audio: Annotated[bool, typer.Option("--audio", help="Read the audio of videos as well.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Write one page with every picture, index.html.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="Draw on dark paper; a page has both.")] = False,
    adapter: Adapters = None,
) -> None:
    """Draw what the model sees: patches, spectrograms, frames, the token layout, how alike the media are."""
    import omni

    if not media:
        raise InputError("nothing_to_inspect", "no files were given")
    try:
        from omni.tools.drawing.page import page
        from omni.tools.inspect import inspect as pictures
    except ModuleNotFoundError as error:
        if error.name not in ("matplotlib", "librosa"):
            raise
        raise InputError("no_matplotlib", 'drawing needs more: pip install "omni-jax[draw]"') from None

    loaded = omni.load(model, adapters=adapter or ())
    folder(out)
    drawn = pictures(loaded, media, question, audio)
    if html:
        path = out / "index.html"
        path.write_text(page("What the model sees", (picture for _, picture in drawn)), encoding="utf-8")
        typer.echo(path)
        return
    for i, (title, picture) in enumerate(drawn):
        path = out / f"{i:02d}-{_file_name(title)}.png"
        picture.save(path, dark)
        typer.echo(path)


def _file_name(title: str) -> str:
    """A title without what some file system or shell would take amiss."""
    return re.sub(r"[^\w.-]+", "-", title)
