"""`omni transcribe`: what is said in audio, written down."""

import json
from typing import Annotated

import typer

from omni.cli.common import Adapters, Dtype
from omni.errors import InputError, printable


def transcribe(
    audio: Annotated[list[str], typer.Argument(help="Audio, or videos for their audio tracks: paths, URLs.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A speech recogniser, such as Qwen/Qwen3-ASR-0.6B.")],
    language: Annotated[str | None, typer.Option(help="What is spoken, such as English or en.")] = None,
    context: Annotated[str, typer.Option(help="Names and terms that may occur.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with languages and times.")] = False,
    stretch_seconds: Annotated[float | None, typer.Option(help="Longest stretch that is read at once.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most stretches that are read together.")] = 8,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Transcribe audio of any length, one line for each file.

    A file that cannot be read is named and passed over, and the exit code is then 2.
    """
    import omni
    from omni.tasks.transcribe import Transcriber

    loaded = omni.load(model, parts=("audio", "text"), dtype=dtype, adapters=adapter or ())
    transcriber = Transcriber(loaded, language, context, stretch_seconds, None, batch_size, None)
    failed = False
    for source, result in zip(audio, transcriber.run(audio), strict=True):
        if isinstance(result, InputError):
            typer.echo(printable(f"{source}: {result}"), err=True)
            failed = True
        elif as_json:
            typer.echo(json.dumps({"file": source, **result.to_dict()}, ensure_ascii=False))
        else:
            typer.echo(" ".join(result.text.split("\n")))
    if failed:
        raise typer.Exit(2)
