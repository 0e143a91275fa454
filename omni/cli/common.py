"""What several commands share: their options, folders, and warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.errors import InputError

if TYPE_CHECKING:
    from omni.call_options import DType, Quantization
else:
    DType = Quantization = str  # as they are typed; what cannot be used is refused with a code

_DTYPES = ("float32", "bfloat16")
_CHECKPOINT = "demo, a checkpoint directory, or a name on the hub."


def models(typed: str) -> list[str]:
    """What the shell may complete a model's name to: the demo, and folders that hold a checkpoint or others."""
    folders = [path for path in Path().glob(f"{typed.replace('[', '[[]')}*") if path.is_dir()]
    return [name for name in ("demo", *map(str, folders)) if name.startswith(typed)]


def dtypes(typed: str) -> list[str]:
    """What the shell may complete a dtype to."""
    return [name for name in _DTYPES if name.startswith(typed)]


ModelName = Annotated[str, typer.Option("--model", "-m", help=_CHECKPOINT, autocompletion=models)]
# Commands about a checkpoint alone take it as their argument, and like all others as an option.
ModelArgument = Annotated[str | None, typer.Argument(help=f"{_CHECKPOINT} The demo by default.", autocompletion=models)]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="The same.", autocompletion=models)]
Dtype = Annotated[
    DType | None,
    typer.Option(help="float32 or bfloat16; the checkpoint's own when not given.", autocompletion=dtypes),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="Merge a LoRA adapter, a directory of PEFT, into the weights; again for more."),
]
Media = Annotated[list[str] | None, typer.Argument(help="Images, audio, videos: paths, URLs or data URIs.")]


def chosen_model(argument: str | None, option: str | None) -> str:
    """Return the checkpoint that was named in either manner, the demo when in none.

    Raises:
        InputError: `bad_option`, two were named.
    """
    if argument is not None and option is not None and argument != option:
        raise InputError("bad_option", f"two checkpoints are named, {argument:.60} and {option:.60}")
    return argument or option or "demo"


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
