"""`omni encode`: media, or whole folders of them, to files or a table of embeddings."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from omni.cli.common import Adapters, Dtype, ModelName
from omni.errors import InputError, printable

_MOST_LINES = 100


def encode(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Media, folders, patterns, tables (.jsonl, .parquet, .lance), archives (.tar), addresses."),
    ] = None,
    model: ModelName = "demo",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the embeddings.")] = Path("embeddings"),
    format: Annotated[str, typer.Option("--format", "-f", help="files (one a medium), parquet or lance.")] = "files",
    column: Annotated[str | None, typer.Option(help="Of tables, the column of media; of archives, jpg;png.")] = None,
    text: Annotated[str | None, typer.Option(help="Of tables, the column of texts; of archives, their ending.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Of tables, the column of ids.")] = None,
    pooling: Annotated[str, typer.Option(help="How vectors are made: auto, mean or embed.")] = "auto",
    instruction: Annotated[str | None, typer.Option(help="What the vectors are for, with --pooling embed.")] = None,
    vector_dtype: Annotated[str, typer.Option(help="Of the vectors in tables: float32 or float16.")] = "float32",
    tokens: Annotated[bool, typer.Option(help="Keep the tokens' own embeddings in tables too.")] = False,
    shard: Annotated[str, typer.Option(help="Which share of how many to encode, from 0/N to N-1/N.")] = "0/1",
    batch_size: Annotated[int, typer.Option(min=1, help="How many media are encoded at a time.")] = 8,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode; one a core by default.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Encode again what files are there of already.")] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: actors on a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster: auto, or HOST:PORT.")] = None,
    encoders: Annotated[int | None, typer.Option(min=1, help="On Ray, actors that hold the model.")] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="On Ray, GPUs for each of them, such as 0.5.")] = None,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Encode media and texts to safetensors files, or to one table.

    A job may be done in several goes: what is there already is left alone, and one that was killed goes on where it
    was. What cannot be read is named and passed over, in a table as a row with its code, and the exit code is then 2;
    files of folders that are no media are counted alone.
    """
    import omni
    from omni.bulk.ray_engine import RayEngine

    loaded = omni.load(model, dtype=dtype, adapters=adapter) if adapter else model
    options: dict[str, Any] = {
        "format": format, "model": loaded, "model_dtype": dtype, "column": column, "text": text, "id_column": id_column,
        "pooling": pooling, "instruction": instruction, "dtype": vector_dtype, "tokens": tokens, "shard": shard,
        "batch_size": batch_size, "workers": workers, "overwrite": overwrite, "engine": engine,
    }  # fmt: skip
    if engine == "ray":
        options["engine"] = RayEngine(address, encoders, gpus=gpus)
    elif address or encoders or gpus is not None:
        raise InputError("bad_option", "address, encoders and gpus are options of --engine ray")
    began = time.perf_counter()
    summary = omni.encode_files(sources or [], out, **options)
    seconds = time.perf_counter() - began
    if summary.skipped:
        typer.echo(f"files passed over that are no media: {summary.skipped}")
    if summary.twice:
        typer.echo(f"{summary.twice} were named twice, and are encoded once")
    if summary.there:
        typer.echo(f"{summary.there} of {summary.items} are there already")
    if summary.there < summary.items:
        compiled = f", {summary.programs} programs compiled" if engine == "local" else ""
        typer.echo(f"{summary.encoded} encoded in {seconds:.1f} s, {summary.encoded / seconds:.2f} a second{compiled}")
    for source, _, reason in summary.failures[:_MOST_LINES]:
        typer.echo(printable(f"{source}: {reason}"), err=True)
    if (rest := summary.failed - len(summary.failures[:_MOST_LINES])) > 0:
        typer.echo(f"{rest} more could not be encoded", err=True)
    if summary.failed:
        raise typer.Exit(2)
