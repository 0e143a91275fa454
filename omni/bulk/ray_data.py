"""Classes that `ray.data.Dataset.map_batches` takes as they are, and that a UDF of any other engine can call.

`Encoder` alone reads, decodes and encodes. Where decoding keeps a device waiting, `Decoder` on many actors without
one goes before it.

    rows.map_batches(Encoder, fn_constructor_kwargs={"column": "path"}, batch_size=32, compute=..., num_gpus=0.5)
"""

import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from omni.bulk.contents import cell_content
from omni.bulk.items import Item
from omni.bulk.pipeline import Reader, processors_of
from omni.bulk.ray_engine import RayEngine, claim_share
from omni.bulk.recipe import Recipe
from omni.bulk.storage import extra, is_address
from omni.bulk.table_rows import VECTOR_DTYPES, record_batch, schema
from omni.bulk.vectors import Content, chosen_pooling, vector_width
from omni.call_options import DTypeName
from omni.checkpoint.config_file import read_config
from omni.checkpoint.directory import find_directory
from omni.checkpoint.processor_settings import read_processor_settings
from omni.errors import InputError, check_batch_size, shown
from omni.model import Model
from processors import Access, Limits, Sources
from processors.features import Processors

__all__ = ["Decoder", "Encoder", "RayEngine", "encoded_schema"]

Batch = Any
"""Columns by name: a dict of arrays or lists, a table of pyarrow, or a data frame."""
_DECODED = ("id", "kind", "source", "content")


def encoded_schema(
    model: str | os.PathLike[str] = "demo", *, pooling: str = "auto", dtype: str = "float32", tokens: bool = False
) -> Any:
    """Return the schema of the rows that an `Encoder` of the same arguments gives, without loading weights.

    Args:
        model: a checkpoint directory, a name on the hub, or "demo".
        pooling: how tokens become one vector, as `encode_files` takes it.
        dtype: of the vectors, float32 or float16.
        tokens: whether rows hold the tokens themselves.

    Raises:
        InputError: `bad_option`, `needs_bulk_extra`.
        CheckpointError: the checkpoint's settings cannot be read.
    """
    if dtype not in VECTOR_DTYPES:
        raise InputError("bad_option", f"dtype must be one of {', '.join(VECTOR_DTYPES)}, not {shown(dtype)}")
    directory = find_directory(model)
    recipe, config = chosen_pooling(pooling, directory), read_config(directory)[1]
    width = vector_width(config if recipe == "embed" else replace(config, text=None))
    return schema(width, dtype, tokens, {"omni.pooling": recipe})


class Decoder:
    """Reads the media and texts of batches, for an `Encoder` on other actors; it needs no device and no weights.

    Its rows have the columns `id`, `kind`, `source` and `content`, the last an object of Python.

    Args:
        model: a directory or a name on the hub; of it, settings are read.
        column: of media: paths, URLs, bytes, or dicts with `bytes` and `path`; None where there are texts alone.
        text: the column of texts; where `column` is named too, each row gives a medium and a text, whose id ends in
            "#text".
        id_column: the column of ids; when None, a path or URL is its own id, and bytes and texts have a digest.
        workers: processes that decode for this actor.
        protocols: of fsspec, that cells may name addresses of, such as ["s3"].
        limits: how much any medium may take.
        sources: where media may come from.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "demo",
        *,
        column: str | None = "path",
        text: str | None = None,
        id_column: str | None = None,
        workers: int = 1,
        protocols: Sequence[str] = (),
        limits: Limits | None = None,
        sources: Sources | None = None,
    ):
        directory = find_directory(model)
        config = read_config(directory)[1]
        images, videos, mel = read_processor_settings(directory, config)
        seen, audio = config.vision is not None, config.audio is not None
        processors = Processors(images if seen else None, videos if seen else None, mel if audio else None, "no_media")
        access = Access(limits or Limits(), sources or Sources())
        self._rows = _Rows(column, text, id_column, frozenset(protocols))
        self._reader = Reader(processors, access, workers)

    def __call__(self, batch: Batch) -> dict[str, Shaped[np.ndarray, " rows"]]:
        """Return the items of a batch, read."""
        begun = [(item, _begun(self._reader, item, content)) for item, content in self._rows.read(batch)]
        read = [_ended(item, content) for item, content in begun]
        columns = {
            "id": [item.id for item, _ in read],
            "kind": [item.kind for item, _ in read],
            "source": [item.source for item, _ in read],
            "content": [content for _, content in read],
        }
        return {name: _objects(values) for name, values in columns.items()}


class Encoder:
    """Encodes batches of rows to rows of the table that `omni.encode_files` writes; the model is loaded once.

    A row that cannot be encoded is a row with its code. On Ray, JAX takes the share of the machine that Ray has
    assigned, so several may share one device.

    Args:
        model: as `omni.load` takes it, or a loaded one.
        column: as in `Decoder`; rows that a `Decoder` gave are recognised, and read as they are.
        text: as in `Decoder`.
        id_column: as in `Decoder`.
        pooling: "mean", "embed", or "auto", as in `omni.encode_files`.
        instruction: of the pooling `embed`.
        dtype: of the vectors, "float32" or "float16".
        tokens: keep the tokens' own embeddings too, as the column `token_embeddings`.
        batch_size: how many items are encoded together, whatever the batches of rows.
        workers: processes that decode for this actor.
        model_dtype: of the weights.
        protocols: as in `Decoder`.
        limits: how much any medium may take.
        sources: where media may come from.

    Raises:
        InputError: `bad_option`, `bad_batch_size`, `needs_bulk_extra`.
        CheckpointError: the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model = "demo",
        *,
        column: str | None = "path",
        text: str | None = None,
        id_column: str | None = None,
        pooling: str = "auto",
        instruction: str | None = None,
        dtype: str = "float32",
        tokens: bool = False,
        batch_size: int = 8,
        workers: int = 1,
        model_dtype: DTypeName | None = None,
        protocols: Sequence[str] = (),
        limits: Limits | None = None,
        sources: Sources | None = None,
    ):
        check_batch_size(batch_size)
        if _is_actor():
            claim_share()
        directory = model._origin.directory if isinstance(model, Model) else find_directory(model)
        self.schema: Any = encoded_schema(directory, pooling=pooling, dtype=dtype, tokens=tokens)
        recipe = Recipe(model, model_dtype, chosen_pooling(pooling, directory), instruction, limits, sources)
        loaded = recipe.load()
        self._encoder, self._batch_size = recipe.encoder(loaded), batch_size
        self._rows = _Rows(column, text, id_column, frozenset(protocols))
        self._reader = Reader(processors_of(loaded.media), recipe.access, workers)

    def __call__(self, batch: Batch) -> Any:
        """Return the rows of a batch as a table of pyarrow, with the columns of `schema`."""
        decoded = _names(batch).issuperset(_DECODED)
        read = _decoded(batch) if decoded else self._read(batch)
        results = []
        while some := list(islice(read, self._batch_size)):
            results += self._encoder.encode([item for item, _ in some], [content for _, content in some])
        return extra("pyarrow").Table.from_batches([record_batch(results, self.schema)])

    def _read(self, batch: Batch) -> Iterator[tuple[Item, Content]]:
        """Read the items of a batch ahead of those that are encoded, but not all of a large one."""
        most = self._batch_size + max(self._batch_size, 2 * self._reader.workers)
        waiting = deque[tuple[Item, Any]]()
        for item, content in self._rows.read(batch):
            waiting.append((item, _begun(self._reader, item, content)))
            if len(waiting) == most:
                yield _ended(*waiting.popleft())
        while waiting:
            yield _ended(*waiting.popleft())


class _Rows(NamedTuple):
    """Which columns are read, and how."""

    column: str | None
    text: str | None
    id_column: str | None
    protocols: frozenset[str]

    def read(self, batch: Batch) -> list[tuple[Item, str | bytes | InputError]]:
        """Return an item for each medium and each text, with what its cell holds."""
        kinds = [(kind, name) for kind, name in (("medium", self.column), ("text", self.text)) if name is not None]
        there = _names(batch)
        for name in [name for _, name in kinds] + [self.id_column] * (self.id_column is not None):
            if name not in there:
                raise InputError("table_column", f"the rows have no column {str(name)[:60]!r}")
        if not kinds:
            raise InputError("bad_option", "name the column of media, of texts, or both")
        columns = [(kind, _cells(batch, name)) for kind, name in kinds]
        ids = None if self.id_column is None else _cells(batch, self.id_column)
        items = []
        for row in range(len(columns[0][1])):
            cells = [(kind, cells[row]) for kind, cells in columns]
            name = _digest(*cells[0]) if ids is None else str(ids[row])
            for kind, cell in cells:
                where = ("row", name) if kind == "text" else _where(cell, name, self.protocols)
                item = Item(name if kind == cells[0][0] else f"{name}#text", kind, where)
                items.append((item, self._content(cell, item)))
        return items

    def _content(self, cell: Any, item: Item) -> str | bytes | InputError:
        try:
            content = cell_content(cell, item)
        except InputError as error:
            return error
        if item.kind == "medium" and isinstance(content, str) and is_address(content):
            named = _protocol(content)
            if named not in {*self.protocols, "http", "https", "file"}:
                return InputError("source_scheme", f"cells may not name addresses of {named!r}: see protocols")
        return content


def _begun(reader: Reader, item: Item, content: str | bytes | InputError) -> Any:
    return content if isinstance(content, InputError) else reader.submit_content(item, content)


def _ended(item: Item, begun: Any) -> tuple[Item, Content]:
    return item, begun if isinstance(begun, InputError) else begun.result()


def _decoded(batch: Batch) -> Iterator[tuple[Item, Content]]:
    """The items that a `Decoder` has read."""
    for name, kind, source, content in zip(*(_cells(batch, column) for column in _DECODED), strict=True):
        if not isinstance(content, Content):
            content = InputError("table_row", f"{str(name)[:100]} holds nothing that a Decoder has read")
        yield Item(str(name), str(kind), ("path", str(source))), content


def _where(cell: Any, name: str, protocols: frozenset[str]) -> tuple[str, str]:
    source = cell.get("path") if isinstance(cell, Mapping) and cell.get("bytes") is None else cell
    if not isinstance(source, str) or source.lower().startswith("data:"):
        return "row", name
    # What is named "remote" is read by fsspec, which no policy of sources holds back.
    return ("remote" if _protocol(source) in protocols else "path"), source


def _protocol(source: str) -> str:
    """Return the whole protocol of an address, a chained one too; empty for a path."""
    return source.partition("://")[0].lower() if is_address(source) else ""


def _digest(kind: str, cell: Any) -> str:
    """The id of a cell: what it names, or a digest of what it holds."""
    if isinstance(cell, Mapping):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, str) and kind == "medium" and not cell.lower().startswith("data:"):
        return cell
    data = cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "surrogatepass")
    return f"sha256:{hashlib.sha256(data).hexdigest()[:32]}"


def _names(batch: Batch) -> set[str]:
    return set(batch.column_names if hasattr(batch, "column_names") else batch)


def _cells(batch: Batch, name: str) -> list[Any]:
    column = batch[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _is_actor() -> bool:
    """Whether this is an actor of Ray, which has assigned a share of the machine to it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
