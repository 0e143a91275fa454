"""Tables of embeddings as files of Parquet and as Lance data sets, part by part."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni.bulk.manifest import Manifest, Part, Shard, renamed, synced
from omni.bulk.results import Result
from omni.bulk.storage import extra
from omni.bulk.table_rows import record_batch, schema
from omni.errors import InputError

# A group of rows is written when it has so many rows, or takes so many bytes.
_GROUP_ROWS, _GROUP_BYTES = 1024, 1 << 26
_INDEXED_ROWS = 4096
"""Of fewer rows than these, looking at every vector is as fast as an index."""


class ParquetSink:
    """A file a part, `part-SHARD-of-SHARDS-NUMBER.parquet`, which appears when it is whole.

    Args:
        manifest: of the job.
        columns: of `schema`.
    """

    def __init__(self, manifest: Manifest, columns: Any):
        self._out, self._shard, self._schema = manifest.out, manifest.shard, columns
        self._writer: Any = None
        self._path = self._partial = Path()
        self._rows: list[Any] = []

    @classmethod
    def path(cls, out: Path, shard: Shard, number: int) -> Path:
        """Return where a part lies."""
        return out / f"part-{shard}-{number:06d}.parquet"

    def has(self, part: Part) -> bool:
        """Whether a part is there."""
        return self.path(self._out, self._shard, part.number).exists()

    def begin(self, part: Part) -> None:
        """Begin a part under another name."""
        self._path = self.path(self._out, self._shard, part.number)
        self._partial = self._path.with_name(f".{self._path.name}")
        self._file = self._partial.open("wb")
        self._writer = extra("pyarrow.parquet").ParquetWriter(
            self._file, self._schema, compression="zstd", use_dictionary=["kind", "error_code"]
        )

    def write(self, results: list[Result]) -> list[Result]:
        """Add rows."""
        self._rows.append(record_batch(results, self._schema))
        if sum(map(len, self._rows)) >= _GROUP_ROWS or sum(one.nbytes for one in self._rows) >= _GROUP_BYTES:
            self._flush()
        return results

    def commit(self) -> None:
        """Give the part its name."""
        self._flush()
        self._writer.close()
        synced(self._file)
        self._file.close()
        renamed(self._partial, self._path)
        self._writer = None

    def close(self) -> None:
        """Drop a part that was not finished."""
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            self._partial.unlink()
            self._writer, self._rows = None, []

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(extra("pyarrow").Table.from_batches(self._rows))
            self._rows = []


class LanceSink:
    """A data set a shard, to which each part is appended at once; its number of rows says how many are there.

    Args:
        manifest: of the job.
        columns: of `schema`.

    Raises:
        InputError: `table_unreadable`, the data set has rows that the job did not write.
    """

    def __init__(self, manifest: Manifest, columns: Any):
        self._path, self._schema = lance_path(manifest.out, manifest.shard), columns
        if self._path.exists() and not any(self._path.glob("_versions/*.manifest")):
            shutil.rmtree(self._path)  # the first part had not become a version
        self._there = extra("lance").dataset(str(self._path)).count_rows() if self._path.exists() else 0
        self._rows: list[Any] = []

    def has(self, part: Part) -> bool:
        """Whether a part is there: they come in order."""
        end = part.first + len(part.items)
        if part.first < self._there < end:
            raise InputError("table_unreadable", "the data set has other rows than its manifest lists")
        return end <= self._there

    def begin(self, part: Part) -> None:
        """Begin a part in memory."""
        self._rows = []

    def write(self, results: list[Result]) -> list[Result]:
        """Add rows."""
        self._rows.append(record_batch(results, self._schema))
        return results

    def commit(self) -> None:
        """Append the part."""
        table = extra("pyarrow").Table.from_batches(self._rows)
        mode = "append" if self._path.exists() else "create"
        extra("lance").write_dataset(table, str(self._path), mode=mode)
        self._there += len(table)
        self._rows = []

    def close(self) -> None:
        """Drop a part that was not finished."""
        self._rows = []


def lance_path(out: Path, shard: Shard) -> Path:
    """Return where a shard's data set lies."""
    return out / ("table.lance" if shard.count == 1 else f"table-{shard}.lance")


def update_index(out: Path, shard: Shard) -> None:
    """Make the index of a shard's data set, or let it take in the rows that have come since."""
    if not (path := lance_path(out, shard)).exists():
        return
    data = extra("lance").dataset(str(path))
    if not data.describe_indices():
        if data.count_rows("vector IS NOT NULL") >= _INDEXED_ROWS:
            data.create_index("vector", "IVF_HNSW_SQ", metric="cosine", num_partitions=1)
    elif data.stats.index_stats("vector_idx")["num_unindexed_rows"]:
        data.optimize.optimize_indices()


def table_schema(settings: Mapping[str, Any], width: int, fingerprint: str) -> Any:
    """Return the schema of a job's table."""
    notes = {f"omni.{name}": settings[name] for name in ("pooling", "checkpoint")} | {"omni.fingerprint": fingerprint}
    return schema(width, settings["dtype"], settings["tokens"], notes)


def count_rows(out: Path, form: str, shard: Shard) -> tuple[int, int]:
    """Return how many rows a shard has, and how many of them are errors."""
    if form == "lance":
        if not (path := lance_path(out, shard)).exists():
            return 0, 0
        data = extra("lance").dataset(str(path))
        return data.count_rows(), data.count_rows("error_code IS NOT NULL")
    rows = errors = 0
    for path in sorted(out.glob(f"part-{shard}-*.parquet")):
        metadata = extra("pyarrow.parquet").read_metadata(path)
        rows += metadata.num_rows
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            place = next(i for i in range(group.num_columns) if group.column(i).path_in_schema == "error_code")
            errors += group.num_rows - group.column(place).statistics.null_count
    return rows, errors
