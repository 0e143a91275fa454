"""Tables with a column of media or texts: Parquet, Lance, and data sets that `datasets` saved."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from omni.bulk.storage import extra, is_address, open_binary
from omni.errors import InputError
from processors.io.sources import describe

SUFFIXES = (".parquet", ".lance", ".arrow")
_LANCE_BLOCK = 256


@dataclass
class Table:
    """A table that is read block by block; the last block of each column is kept.

    Attributes:
        name: path or address.
        columns: their names.
        edges: the first row of each block, and behind the last the number of all rows.
    """

    name: str
    columns: list[str]
    edges: np.ndarray
    _blocks: Any
    _held: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return int(self.edges[-1])

    def value(self, row: int, column: str) -> Any:
        """Return one cell."""
        block = int(np.searchsorted(self.edges, row, side="right")) - 1
        if not 0 <= row < self.rows or column not in self.columns:
            raise InputError("table_row", f"{describe(self.name)} has no row {row} any more, or no column {column!r}")
        held = self._held.get(column)
        if held is None or held[0] != block:
            self._held[column] = held = block, self._blocks(block, column)
        return held[1][row - int(self.edges[block])].as_py()

    def values(self, column: str | None) -> Iterator[Any]:
        """Yield a column's cells in order."""
        for block in range(len(self.edges) - 1):
            yield from self._blocks(block, column).to_pylist()


def open_table(name: str) -> Table:
    """Open a table by what it is called.

    Raises:
        InputError: `needs_bulk_extra`, or `table_unreadable`.
    """
    arrow = extra("pyarrow")
    try:
        if name.rstrip("/").endswith(".lance") or (not is_address(name) and is_lance(name)):
            return _lance(name)
        return _arrow(name) if name.lower().endswith(".arrow") else _parquet(name)
    except InputError:
        raise
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError("table_unreadable", f"{describe(name)} cannot be read as a table: {_short(error)}") from error


def is_lance(folder: str) -> bool:
    """Whether a folder holds a Lance data set."""
    return os.path.isdir(os.path.join(folder, "_versions"))


def saved_tables(folder: str) -> list[Table]:
    """Return the tables of a data set, or of each split of several, as `datasets` saves them; empty for another folder.

    Raises:
        InputError: `table_unreadable`, its list of files is damaged.
    """
    try:
        if (whole := Path(folder, "dataset_dict.json")).is_file():
            splits = json.loads(whole.read_text("utf-8"))["splits"]
            return [table for split in splits for table in saved_tables(os.path.join(folder, split))]
        state = Path(folder, "state.json")
        if not state.is_file() or not Path(folder, "dataset_info.json").is_file():
            return []
        names = [one["filename"] for one in json.loads(state.read_text("utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("table_unreadable", f"{describe(folder)}: its list of files is damaged") from error
    return [open_table(os.path.join(folder, name)) for name in names]


class Tables:
    """Tables that are open, so that rows in order are read block by block."""

    def __init__(self) -> None:
        self._open = lru_cache(maxsize=4)(open_table)

    def value(self, name: str, row: int, column: str) -> Any:
        """Return one cell of a table."""
        return self._open(name).value(row, column)


def _parquet(name: str) -> Table:
    if not is_address(name):
        open_binary(name).close()  # which says what is wrong with a path
    file = extra("pyarrow.parquet").ParquetFile(open_binary(name) if is_address(name) else name)
    counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]

    def block(number: int, column: str) -> Any:
        return file.read_row_group(number, columns=[column]).column(column).combine_chunks()

    return Table(name, list(file.schema_arrow.names), _edges(counts), block)


def _arrow(name: str) -> Table:
    arrow = extra("pyarrow")
    source = open_binary(name) if is_address(name) else arrow.memory_map(name)
    try:
        batches = list(arrow.ipc.open_stream(source))
    except arrow.ArrowInvalid:
        reader = arrow.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    columns = list(batches[0].schema.names) if batches else []
    return Table(name, columns, _edges([len(one) for one in batches]), lambda i, column: batches[i].column(column))


def _lance(name: str) -> Table:
    data = extra("lance").dataset(name)
    rows = data.count_rows()
    counts = [min(_LANCE_BLOCK, rows - start) for start in range(0, rows, _LANCE_BLOCK)]

    def block(number: int, column: str) -> Any:
        table = data.to_table(columns=[column], offset=number * _LANCE_BLOCK, limit=_LANCE_BLOCK)
        return table.column(column).combine_chunks()

    return Table(name, list(data.schema.names), _edges(counts), block)


def _edges(counts: list[int]) -> np.ndarray:
    return np.cumsum([0, *counts])


def _short(error: Exception) -> str:
    return str(error).split("\n")[0][:160]
