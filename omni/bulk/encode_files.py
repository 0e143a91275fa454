"""`omni.encode_files`: any number of media and texts to files or tables of embeddings, in as many goes as it takes."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omni.bulk.file_sink import FileSink, plan
from omni.bulk.fingerprint import checkpoint_fingerprint, model_fingerprint
from omni.bulk.items import Item, Listing, sources_of
from omni.bulk.manifest import Manifest, Part, Shard, key_of
from omni.bulk.pipeline import Encoded, Reader, encode_parts, processors_of, write_parts
from omni.bulk.ray_engine import Keep, RayEngine, encode_on_ray
from omni.bulk.recipe import Recipe
from omni.bulk.results import Result, Sink
from omni.bulk.storage import extra
from omni.bulk.table_rows import VECTOR_DTYPES
from omni.bulk.table_sinks import LanceSink, ParquetSink, count_rows, table_schema, update_index
from omni.bulk.vectors import chosen_pooling, vector_width
from omni.call_options import DTypeName, Pooling, TableFormat, VectorDType
from omni.checkpoint.config_file import read_config
from omni.checkpoint.directory import find_directory
from omni.checkpoint.processor_settings import read_processor_settings
from omni.config import ModelConfig
from omni.errors import InputError, check_batch_size, is_whole, shown
from omni.model import Model
from processors import Limits, Sources
from processors.features import Processors

FORMATS = ("files", "parquet", "lance")
_PART_ROWS, _PART_ROWS_WITH_TOKENS = 4096, 256
_MOST_FAILURES = 1000


@dataclass
class Summary:
    """How a job stands when it has ended.

    Attributes:
        items: how many the job has in this shard.
        there: how many of them an earlier go had done.
        encoded: how many this one has encoded.
        failed: how many of all are errors; of `files`, how many failed in this go.
        twice: how many were named twice, and are done once.
        skipped: how many files of folders and patterns are no media, and no items of the job.
        failures: the first 1,000 that failed in this go: what, the code, and why.
        programs: how many programs were compiled here.
    """

    items: int = 0
    there: int = 0
    encoded: int = 0
    failed: int = 0
    twice: int = 0
    skipped: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    programs: int = 0


def encode_files(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: TableFormat = "files",
    model: str | os.PathLike[str] | Model = "demo",
    model_dtype: DTypeName | None = None,
    column: str | None = None,
    text: str | None = None,
    id_column: str | None = None,
    pooling: Pooling = "auto",
    instruction: str | None = None,
    dtype: VectorDType = "float32",
    tokens: bool = False,
    shard: tuple[int, int] | str = (0, 1),
    batch_size: int = 8,
    part_rows: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    sources: Sources | None = None,
    progress: bool | None = None,
    engine: str | RayEngine = "local",
) -> Summary:
    """Encode media, and texts where the model embeds text, to files or to one table.

    `files` writes a safetensors file a medium, as `Embedding.save` does, and leaves alone what is there, made by the
    same checkpoint of the same content. Tables (extra `bulk`) have the columns `id, source, kind, vector, tokens,
    grid_thw, seconds, error_code, error`: what cannot be encoded is a row with its code. A job that was killed, at any
    moment, is started again by the same call: it ends with the rows that it would have had, none twice, in the same
    bytes of Parquet. Sources that grew are continued. Media are decoded in processes apart, so that a file on which a
    decoder crashes costs one row, and read ahead while others are encoded; memory does not grow with the number of
    items.

    A vector is made by one of two recipes, and has length 1 in both. `embed` is that of `model.embed`: the decoder
    reads the instruction and the medium or text, and the hidden state of its last token is the vector. `mean` is the
    mean of the tokens that the vision or audio tower gives; it compares media of one kind, and there are no texts
    beside it.

    Args:
        source: one or several: media, folders, patterns such as "photos/**/*.jpg", tables (.jsonl, .parquet, .lance, a
            folder that `datasets` saved), WebDataset archives (.tar), or addresses of fsspec such as
            "s3://bucket/folder". A folder is one of media, and of tables where `column` or `text` is named. Files in
            it, or of a pattern, that are no media are passed over; what is named itself and is none is an error.
        out: folder for the embeddings. One folder holds one job, with all its shards.
        format: "files", "parquet" or "lance".
        model: as `omni.load` takes it, or a loaded one.
        model_dtype: of the weights, where the model is loaded here; as in `omni.load`.
        column: of tables, the column of media: paths, URLs, bytes, or dicts with `bytes` and `path`; paths are relative
            to the table's folder. Of archives, endings such as "jpg;png".
        text: of tables, the column of texts; of archives, their ending. Where `column` is named too, each row gives a
            medium and a text, whose id ends in "#text".
        id_column: the column of ids, which must not repeat; "TABLE#ROW" when None. Media in files have their paths as
            ids.
        pooling: the recipe of the vectors: "mean", "embed", or "auto", which is "embed" for a checkpoint that was made
            for embeddings.
        instruction: of the recipe `embed`.
        dtype: of the vectors in tables, "float32" or "float16".
        tokens: keep the tokens' own embeddings in tables too, as the column `token_embeddings`.
        shard: which of how many equal shares to encode, from 0 on: `(i, n)` or "i/n". Each can run anywhere at any
            time.
        batch_size: how many items are encoded together; rows can depend on it in their last bits.
        part_rows: rows in a part of a table, which is what a killed job loses at most; 4,096 when None, 256 with
            tokens.
        workers: processes that decode; as many as there are cores when None. On Ray, actors.
        overwrite: of files, encode again what is there.
        limits: how much any medium may take.
        sources: where media may come from, files that the job names or its tables name included.
        progress: show a bar; when None, only on a terminal.
        engine: "local", this process and its children; "ray", or a `RayEngine` that says which cluster and how much of
            it. Sources and the checkpoint must then be there for all its machines; the folder `out` is written here.
            Rows are the same, and a job of one engine can go on with the other.

    Raises:
        InputError: `nothing_to_encode`; `other_job`, the folder holds a job of other settings; `job_running`;
            `bad_option`; `text_not_embedded`, texts beside means; `table_unreadable` or `table_column`, a table of the
            source; `needs_bulk_extra`; `needs_ray_extra`, `ray_unreachable`, `ray_too_small` or `ray_failed`.
        CheckpointError: the checkpoint cannot be loaded.
    """
    _check(format, dtype, part_rows, workers)
    ray = _on_ray(engine, model)
    beside = {"text": text, "instruction": instruction, "tokens": tokens, "part_rows": part_rows}
    beside |= {"dtype": dtype != "float32", "pooling": pooling != "auto"}
    for name in [name for name, value in beside.items() if value] if format == "files" else ["overwrite"] * overwrite:
        raise InputError("bad_option", f"{name} is no option of the format {format}")
    check_batch_size(batch_size)
    share, places, folder = Shard.of(shard), sources_of(source), Path(out)
    left_out = None if format == "files" else folder
    listing = Listing(places, column, text, id_column, left_out)
    directory = model._origin.directory if isinstance(model, Model) else find_directory(model)
    job = _Job(model, directory, model_dtype, workers, batch_size, limits, sources, progress, ray)
    if format == "files":
        return _to_files(job, listing, folder, share, overwrite)
    extra("pyarrow" if format == "parquet" else "lance")
    recipe = chosen_pooling(pooling, directory)
    if recipe != "embed" and (text or instruction):
        raise InputError("text_not_embedded", "texts and instructions are of vectors that are made with pooling embed")
    rows = part_rows or (_PART_ROWS_WITH_TOKENS if tokens else _PART_ROWS)
    settings = {
        "format": format,
        "checkpoint": checkpoint_fingerprint(directory),
        "weights": model_fingerprint(model) if isinstance(model, Model) else None,
        "model_dtype": model_dtype,
        "pooling": recipe,
        "instruction": instruction,
        "dtype": dtype,
        "tokens": tokens,
        "column": column,
        "text": text,
        "id_column": id_column,
        "batch_size": batch_size,
        "part_rows": rows,
        "shards": share.count,
        "limits": asdict(limits) if limits is not None else None,
    }
    with closing(Manifest(folder, settings, {"model": job.name}, share, rows)) as manifest:
        return _to_table(job, listing, manifest, settings)


@dataclass
class _Job:
    """What jobs of all formats need for encoding."""

    model: str | os.PathLike[str] | Model
    directory: Path
    model_dtype: DTypeName | None
    workers: int | None
    batch_size: int
    limits: Limits | None
    sources: Sources | None
    progress: bool | None
    ray: RayEngine | None

    @property
    def name(self) -> str:
        return self.model.name if isinstance(self.model, Model) else os.fspath(self.model)

    def config(self, pooling: str | None) -> ModelConfig:
        """Return the model's configuration, of the parts that the pooling needs."""
        if isinstance(self.model, Model):
            return self.model.config
        whole = read_config(self.directory)[1]
        return whole if pooling == "embed" else replace(whole, text=None)

    def run(
        self,
        parts: Callable[[], Iterator[Part]],
        sink: Sink,
        summary: Summary,
        pooling: str | None = None,
        instruction: str | None = None,
        keep: Keep = "all",
    ) -> None:
        """Encode parts, counting in the summary what becomes of them."""
        recipe = Recipe(self.model, self.model_dtype, pooling, instruction, self.limits, self.sources)
        programs: Callable[[], int] = lambda: 0  # noqa: E731
        if self.ray is None:
            encoded, programs = self._here(parts(), recipe)
        else:
            encoded = self._on_ray(self.ray, parts, recipe, keep)
        batches = write_parts(encoded, sink)
        show = None if self.progress is None else not self.progress
        with tqdm(total=summary.items, initial=summary.there, unit="item", disable=show) as bar, closing(batches):
            for results in batches:
                _count(results, summary)
                bar.update(len(results))
                if summary.failed:
                    bar.set_postfix(errors=summary.failed, refresh=False)
        summary.programs = programs()

    def _here(self, parts: Iterator[Part], recipe: Recipe) -> tuple[Encoded, Callable[[], int]]:
        model = recipe.load()
        reader = Reader(processors_of(model.media), recipe.access, self.workers or _cores())
        return encode_parts(parts, reader, recipe.encoder(model), self.batch_size), model.media.programs

    def _on_ray(self, ray: RayEngine, parts: Callable[[], Iterator[Part]], recipe: Recipe, keep: Keep) -> Encoded:
        config = self.config(recipe.pooling)
        images, videos, mel = read_processor_settings(self.directory, config)
        seen = config.vision is not None
        processors = Processors(
            images if seen else None, videos if seen else None, mel if config.audio is not None else None, "no_media"
        )
        recipe = replace(recipe, fingerprint=checkpoint_fingerprint(self.directory))
        return encode_on_ray(
            parts, recipe, processors, ray, decoders=self.workers, batch_size=self.batch_size, keep=keep
        )


def _to_files(job: _Job, listing: Listing, out: Path, shard: Shard, overwrite: bool) -> Summary:
    items: Iterator[Item] = (item for item in listing if shard.count == 1 or shard.holds(key_of(item.id)))
    jobs = plan(items, out)
    if not jobs:
        raise _nothing(listing)
    fingerprint = f"{checkpoint_fingerprint(job.directory)} {job.model_dtype or 'own dtype'}"
    if isinstance(job.model, Model):
        fingerprint += f" {model_fingerprint(job.model)}"
    todo = jobs if overwrite else [one for one in jobs if not one.is_current(fingerprint)]
    summary = Summary(items=len(jobs), there=len(jobs) - len(todo), skipped=listing.skipped)
    if todo:
        sink = FileSink(todo, fingerprint, job.batch_size)
        job.run(sink.parts, sink, summary)
    return summary


def _to_table(job: _Job, listing: Listing, manifest: Manifest, settings: dict[str, Any]) -> Summary:
    total, _, twice = manifest.extend(listing)
    if not total and settings["shards"] == 1:
        raise _nothing(listing)
    form = settings["format"]
    there, failed = count_rows(manifest.out, form, manifest.shard)
    summary = Summary(items=total, there=there, failed=failed, twice=twice, skipped=listing.skipped)
    if there < total:
        _add_rows(job, manifest, settings, summary)
    if form == "lance":
        update_index(manifest.out, manifest.shard)
    return summary


def _add_rows(job: _Job, manifest: Manifest, settings: dict[str, Any], summary: Summary) -> None:
    kind = ParquetSink if settings["format"] == "parquet" else LanceSink
    width = vector_width(job.config(settings["pooling"]))
    sink = kind(manifest, table_schema(settings, width, manifest.fingerprint))

    def parts() -> Iterator[Part]:
        return (part for part in manifest.parts() if not sink.has(part))

    keep: Keep = "tokens" if settings["tokens"] else "number"
    job.run(parts, sink, summary, settings["pooling"], settings["instruction"], keep)


def _nothing(listing: Listing) -> InputError:
    if not listing.skipped:
        return InputError("nothing_to_encode", "no files were given, or the folders hold none")
    message = f"none of the {listing.skipped:,} files in the folders is a medium; tables and archives in a folder are"
    return InputError("nothing_to_encode", f"{message} read where a column is named")


def _count(results: list[Result], summary: Summary) -> None:
    for result in results:
        if result.error is None:
            summary.encoded += 1
            continue
        summary.failed += 1
        if len(summary.failures) < _MOST_FAILURES:
            summary.failures.append((result.item.source, result.error.code, str(result.error)))


def _check(format: Any, dtype: Any, part_rows: Any, workers: Any) -> None:
    for name, value, allowed in (("format", format, FORMATS), ("dtype", dtype, VECTOR_DTYPES)):
        if value not in allowed:
            raise InputError("bad_option", f"{name} must be one of {', '.join(allowed)}, not {shown(value)}")
    for name, value in (("part_rows", part_rows), ("workers", workers)):
        if value is not None and (not is_whole(value) or value < 1):
            raise InputError("bad_option", f"{name} must be a whole number of 1 or more, not {shown(value)}")


def _on_ray(engine: Any, model: Any) -> RayEngine | None:
    """The engine of a job on Ray; None for one on this machine."""
    ray = RayEngine() if engine == "ray" else engine
    if isinstance(ray, RayEngine):
        if isinstance(model, Model):
            raise InputError("bad_option", "actors on Ray load the model: name its directory, or its name on the hub")
        return ray
    if engine != "local":
        raise InputError("bad_option", f"engine must be local or ray, not {shown(engine)}")
    return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
