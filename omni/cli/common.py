"""What several commands share: their options, folders, and warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[str, typer.Option("--model", "-m", help="demo, a checkpoint directory, or a name on the hub.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or bfloat16; the checkpoint's own when not given.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="Merge a LoRA adapter, a directory of PEFT, into the weights; again for more."),
]
Media = Annotated[list[str] | None, typer.Argument(help="Images, audio, videos: paths, URLs or data URIs.")]


def folder(path: Path) -> Path:
    """Make a folder where there is none."""
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def notes_last() -> Iterator[None]:
    """Says at the end, and once, what was warned of on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for note in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
        typer.echo(f"({note})", err=True)
