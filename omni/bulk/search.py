"""`omni.search`: the rows of a job's table that are most like a text, a picture, a clip or a recording."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from omni.bulk.fingerprint import checkpoint_fingerprint, model_fingerprint
from omni.bulk.manifest import read_settings, shards_of
from omni.bulk.storage import extra
from omni.bulk.table_rows import vectors_of
from omni.bulk.table_sinks import lance_path
from omni.bulk.vectors import VectorEncoder
from omni.call_options import PartName
from omni.checkpoint.directory import find_directory
from omni.errors import InputError, is_whole, shown
from omni.loading import load
from omni.model import Model
from processors import Access, Limits, Sources
from processors.io.sources import names_media

# Of an index: candidates that are compared by their whole vectors for each wanted row, and the least that it looks at.
_REFINED, _SEARCHED = 8, 256
_COLUMNS = ["id", "source", "kind"]


@dataclass(frozen=True)
class Hit:
    """A row that was looked for.

    Attributes:
        score: the cosine between its vector and the query's.
        id: of the row.
        source: path, address, or place in a table.
        kind: `image`, `audio`, `video` or `text`.
    """

    score: float
    id: str
    source: str
    kind: str


def search(
    query: Any,
    where: str | os.PathLike[str],
    *,
    k: int = 10,
    model: str | os.PathLike[str] | Model | None = None,
    instruction: str | None = None,
    exact: bool = False,
    limits: Limits | None = None,
    sources: Sources | None = None,
) -> list[Hit]:
    """Return the rows of a job of `encode_files` whose vectors are nearest to the query's, by cosine.

    Args:
        query: a text, or a medium: a string that names a file or a URL is that medium, as is whatever `Model.encode`
            takes.
        where: the job's folder, its format parquet or lance.
        k: most rows.
        model: the one that made the table, where it is loaded already or lies elsewhere now.
        instruction: of the query, with the recipe `embed`; the table's own when None.
        exact: look at every vector, also where there is an index; of Parquet every vector is always looked at.
        limits: how much a medium may take.
        sources: where a medium may come from.

    Raises:
        InputError: `no_job`; `other_model`, another checkpoint made the table; `text_not_embedded`, a text, and a table
            of means; `needs_bulk_extra`; or the query cannot be read.
    """
    if not is_whole(k) or k < 1:
        raise InputError("bad_option", f"k must be a whole number of 1 or more, not {shown(k)}")
    settings = read_settings(Path(where))
    text = isinstance(query, str) and names_media(query, Access(sources=sources or Sources())) is None
    if text and settings["pooling"] != "embed":
        message = "the table holds means of a tower's tokens, which no text is like: search by a medium"
        raise InputError("text_not_embedded", message)
    loaded = _loaded(model, settings, limits, sources)
    access = loaded.access(limits, sources)
    encoder = VectorEncoder(loaded, settings["pooling"], instruction or settings["instruction"], access)
    vector = encoder.vector(query if text else loaded.media.read(query, access))
    return nearest(Path(where), vector, k, exact=exact)


def nearest(where: Path, vector: Float32[np.ndarray, "width"], k: int, *, exact: bool = False) -> list[Hit]:
    """Return the rows whose vectors are nearest to one of length 1."""
    found: list[tuple[float, Hit]] = []
    for table in _tables(where):
        hits = table.nearest(vector, k) if table.indexed and not exact else _exactly(table, vector, k)
        found += [(hit.score, hit) for hit in hits]
    # Sorting keeps the order of rows with one score.
    return [hit for _, hit in sorted(found, key=lambda pair: -pair[0])[:k]]


def recall(where: str | os.PathLike[str], k: int = 10, queries: int = 100) -> float:
    """Return the share of the exact `k` nearest rows that the index finds, for vectors of the table as queries.

    Raises:
        InputError: `no_index`, the table has none.
    """
    tables = [table for table in _tables(Path(where)) if table.indexed]
    if not tables:
        raise InputError("no_index", "the table has no index: every vector is looked at")
    dice, hits, wanted = np.random.default_rng(0), 0, 0
    for table in tables:
        vectors = np.concatenate(list(table.blocks()))
        usable = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
        for row in dice.choice(usable, min(queries, len(usable)), replace=False):
            noisy = vectors[row] + dice.normal(0, 0.1 / np.sqrt(vectors.shape[1]), vectors.shape[1])
            query = (noisy / np.linalg.norm(noisy)).astype(np.float32)
            exactly = {hit.id for hit in _exactly(table, query, k)}
            hits += len(exactly & {hit.id for hit in table.nearest(query, k)})
            wanted += len(exactly)
    return hits / max(wanted, 1)


class _Parquet:
    indexed = False

    def __init__(self, path: Path):
        self._file = extra("pyarrow.parquet").ParquetFile(path)

    def blocks(self) -> Iterator[Float32[np.ndarray, "rows width"]]:
        for batch in self._file.iter_batches(columns=["vector"], batch_size=8192):
            yield vectors_of(batch.column(0))

    def rows(self, numbers: list[int]) -> list[dict[str, Any]]:
        return self._file.read(columns=_COLUMNS).take(numbers).to_pylist()

    def nearest(self, vector: Float32[np.ndarray, "width"], k: int) -> list[Hit]:
        return _exactly(self, vector, k)


class _Lance:
    def __init__(self, path: Path):
        self._data = extra("lance").dataset(str(path))
        self.indexed = bool(self._data.describe_indices())

    def blocks(self) -> Iterator[Float32[np.ndarray, "rows width"]]:
        for batch in self._data.to_batches(columns=["vector"], batch_size=8192, scan_in_order=True):
            yield vectors_of(batch.column(0))

    def rows(self, numbers: list[int]) -> list[dict[str, Any]]:
        return self._data.take(numbers, columns=_COLUMNS).to_pylist()

    def nearest(self, vector: Float32[np.ndarray, "width"], k: int) -> list[Hit]:
        wanted = {
            "column": "vector",
            "q": vector,
            "k": k,
            "refine_factor": _REFINED,
            "ef": max(_SEARCHED, _REFINED * k),
        }
        rows = self._data.to_table(columns=[*_COLUMNS, "_distance"], nearest=wanted).to_pylist()
        return [Hit(1.0 - row["_distance"], row["id"], row["source"], row["kind"]) for row in rows]


def _exactly(table: Any, vector: Float32[np.ndarray, "width"], k: int) -> list[Hit]:
    """The nearest rows of one table, of which only a block is held at a time."""
    scores, rows, start = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    for block in table.blocks():
        there = np.flatnonzero(block.any(axis=1))  # rows of errors are zeros
        scores = np.concatenate([scores, block[there] @ vector / np.linalg.norm(block[there], axis=1)])
        rows = np.concatenate([rows, start + there])
        best = np.argsort(-scores, kind="stable")[:k]
        scores, rows, start = scores[best], rows[best], start + len(block)
    found = table.rows(rows.tolist()) if len(rows) else []
    return [Hit(float(score), row["id"], row["source"], row["kind"]) for score, row in zip(scores, found, strict=True)]


def _tables(where: Path) -> Iterator[Any]:
    form = read_settings(where)["format"]
    for shard in shards_of(where):
        if form == "parquet":
            yield from map(_Parquet, sorted(where.glob(f"part-{shard}-*.parquet")))
        elif (path := lance_path(where, shard)).exists():
            yield _Lance(path)


def _loaded(model: Any, settings: dict[str, Any], limits: Limits | None, sources: Sources | None) -> Model:
    """The model that made a table.

    Raises:
        InputError: `other_model`.
    """
    name = settings["model"] if model is None else model
    directory = name._origin.directory if isinstance(name, Model) else find_directory(name)
    if checkpoint_fingerprint(directory) != settings["checkpoint"]:
        raise InputError("other_model", f"the table was made by another checkpoint than {str(model or name)[:160]!r}")
    parts: tuple[PartName, ...] = ("vision", "audio", "text") if settings["pooling"] == "embed" else ("vision", "audio")
    if not isinstance(name, Model):
        name = load(name, parts=parts, dtype=settings["model_dtype"], limits=limits, sources=sources)
    if settings["weights"] not in (None, model_fingerprint(name)):
        raise InputError(
            "other_model", "the table was made by a loaded model whose weights are not these: hand it over"
        )
    return name
