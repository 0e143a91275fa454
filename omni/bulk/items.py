"""Items of a bulk job: media and texts of folders, patterns, tables, archives and addresses, always in one order."""

import glob
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omni.bulk.media_files import is_medium, is_remote_medium
from omni.bulk.storage import address_of, file_system, is_address, open_binary
from omni.bulk.tables import SUFFIXES as TABLES
from omni.bulk.tables import Table, is_lance, open_table, saved_tables
from omni.errors import InputError, shown
from processors.io.sources import describe

_EMBEDDING = ".safetensors"
_LINES = (".jsonl", ".ndjson")
_TABULAR = (*TABLES, *_LINES, ".tar")
_MEDIA_COLUMNS = ("image", "audio", "video", "media", "path", "file", "file_name", "url", "bytes")
# Members of a WebDataset's samples that describe a medium, and are none.
_NOT_MEDIA = frozenset("json txt cls cls2 id idx index npy npz pth pt pkl pickle cbor msgpack tsv csv xml html".split())


class Item(NamedTuple):
    """One medium or text, and where it lies.

    Attributes:
        id: unique in the job.
        kind: `medium`, or `text`.
        where: what `Contents` reads it by: ("path", path), ("remote", address), ("row", table, row, column),
            ("line", file, offset, column) or ("member", archive, offset, size, name).
        below: its path below the folder that was named; empty otherwise.
    """

    id: str
    kind: str
    where: tuple[Any, ...]
    below: str = ""

    @property
    def source(self) -> str:
        """Return what people call it: a path, an address, or a place in a table or an archive."""
        return str(self.where[1]) if self.where[0] in ("path", "remote") else self.id.removesuffix("#text")


@dataclass
class Listing:
    """What is to be encoded.

    Of folders and patterns, files that are no media are passed over; what is named itself is an item, whatever it is.

    Attributes:
        sources: files, folders, patterns, tables, archives, addresses.
        column: of tables, the column of media; of archives, the endings of media.
        text: of tables, the column of texts; of archives, the ending of texts.
        id_column: of tables, the column of ids; the table's name and the row's number when None.
        leave_out: a folder below which nothing is a medium.
        skipped: how many files the last listing has passed over.
    """

    sources: tuple[str, ...]
    column: str | None = None
    text: str | None = None
    id_column: str | None = None
    leave_out: Path | None = None
    skipped: int = 0

    def __iter__(self) -> Iterator[Item]:
        self.skipped = 0
        for source in self.sources:
            yield from self._of(source)

    def _of(self, source: str) -> Iterator[Item]:
        lower = source.lower()
        if lower.startswith("data:") or lower.startswith(("http://", "https://")):
            yield Item(source, "medium", ("path", source))
        elif is_address(source):
            yield from self._remote(source)
        elif os.path.isdir(source):
            yield from self._folder(source)
        elif not os.path.exists(source) and glob.has_magic(source) and (found := glob.glob(source, recursive=True)):
            for path in sorted(one for one in found if not one.endswith(_EMBEDDING)):
                if os.path.isdir(path) or path.lower().endswith(_TABULAR) or self._takes(is_medium(path)):
                    yield from self._of(path)
        else:
            yield from self._file(source, Item(source, "medium", ("path", source)))

    def _file(self, path: str, alone: Item) -> Iterator[Item]:
        """The items in a table or an archive, or the one that a file is."""
        suffix = os.path.splitext(path)[1].lower()
        if suffix in TABLES:
            yield from self._table(open_table(path))
        elif suffix in _LINES:
            yield from self._lines(path)
        elif suffix == ".tar":
            yield from self._archive(path)
        else:
            yield alone

    def _folder(self, folder: str) -> Iterator[Item]:
        if is_lance(folder):
            yield from self._table(open_table(folder))
            return
        if tables := saved_tables(folder):
            for table in tables:
                yield from self._table(table)
            return
        tabular = self.column is not None or self.text is not None
        left_out = None if self.leave_out is None else os.path.abspath(self.leave_out)
        for path in walked(folder, left_out):
            below = os.path.relpath(path, folder)
            if not tabular:
                if self._takes(is_medium(path)):
                    yield Item(path, "medium", ("path", path), below)
            elif path.lower().endswith(_TABULAR):
                yield from self._file(path, Item(path, "medium", ("path", path)))

    def _remote(self, address: str) -> Iterator[Item]:
        system, path = file_system(address)
        if glob.has_magic(path):
            found = sorted(system.glob(path))
        elif system.isdir(path):
            found = sorted(system.find(path))
        else:
            found = [path]
        named = found == [path]
        for one in found:
            name = address_of(system, one)
            if os.path.basename(one).startswith("."):
                continue
            if named or one.lower().endswith(_TABULAR) or self._takes(is_remote_medium(system, one)):
                yield from self._file(name, Item(name, "medium", ("remote", name), os.path.relpath(one, path)))

    def _takes(self, medium: bool) -> bool:
        self.skipped += not medium
        return medium

    def _table(self, table: Table) -> Iterator[Item]:
        columns = self._columns(table.columns, table.name)
        ids = table.values(self.id_column) if self.id_column is not None else None
        for row in range(table.rows):
            name = f"{table.name}#{row}" if ids is None else _id(next(ids), table.name, row)
            for kind, column in columns:
                yield Item(_id_of(name, kind, columns), kind, ("row", table.name, row, column))

    def _lines(self, path: str) -> Iterator[Item]:
        with open_binary(path) as file:
            columns: list[tuple[str, str]] | None = None
            offset = 0
            for row, line in enumerate(file):
                if line.strip():
                    record = _record(line)
                    if columns is None:
                        columns = self._columns(list(record), path)
                    name = f"{path}#{row}"
                    if self.id_column is not None:
                        name = _id(record.get(self.id_column), path, row)
                    for kind, column in columns:
                        yield Item(_id_of(name, kind, columns), kind, ("line", path, offset, column))
                offset += len(line)

    def _archive(self, path: str) -> Iterator[Item]:
        media = None if self.column is None else {one.strip(". ").lower() for one in self.column.split(";")}
        try:
            with open_binary(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    name = os.path.basename(member.name)
                    ending = name.partition(".")[2].lower()
                    if not member.isreg() or name.startswith(".") or not ending:
                        continue
                    kind = "text" if self.text is not None and ending == self.text.strip(". ").lower() else "medium"
                    wanted = ending in media if media is not None else ending.rpartition(".")[2] not in _NOT_MEDIA
                    if kind == "text" or (wanted and (media is not None or self.text is None)):
                        where = ("member", path, member.offset_data, member.size, member.name)
                        yield Item(f"{path}#{member.name}", kind, where)
                    archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # or it keeps them all
        except (tarfile.TarError, EOFError) as error:
            raise InputError("table_unreadable", f"{describe(path)} is no tar archive, or a damaged one") from error

    def _columns(self, names: list[str], table: str) -> list[tuple[str, str]]:
        """Kinds and columns of the items of each row."""
        wanted = [self.column, self.text, self.id_column]
        for name in wanted:
            if name is not None and name not in names:
                there = ", ".join(map(str, names))[:200]
                raise InputError("table_column", f"{describe(table)} has no column {name[:60]!r}, only {there}")
        column = self.column
        if column is None and self.text is None:
            likely = [name for name in _MEDIA_COLUMNS if name in names]
            if len(likely) != 1:
                there = ", ".join(map(str, names))[:200]
                raise InputError("table_column", f"{describe(table)}: name the column of media, one of {there}")
            column = likely[0]
        pairs = (("medium", column), ("text", self.text))
        return [(kind, name) for kind, name in pairs if name is not None]


def walked(folder: str, left_out: str | None = None) -> Iterator[str]:
    """Yield the files below a folder that may be media, sorted folder by folder."""
    with os.scandir(folder) as entries:
        there = sorted(entries, key=lambda entry: entry.name)
    for entry in there:
        if entry.is_dir(follow_symlinks=False):
            if left_out is None or os.path.abspath(entry.path) != left_out:
                yield from walked(entry.path, left_out)
        # The embeddings of an earlier job may lie in the same folder.
        elif not entry.name.startswith(".") and not entry.name.endswith(_EMBEDDING) and entry.is_file():
            yield os.path.normpath(entry.path)


def sources_of(source: Any) -> tuple[str, ...]:
    """Return one source or several as strings.

    Raises:
        InputError: `bad_option`, one is neither a string nor a path.
    """
    several: Iterable[Any] = source if isinstance(source, list | tuple) else [source]
    found = []
    for one in several:
        if not isinstance(one, str | os.PathLike):
            raise InputError("bad_option", f"a source must be a path, a pattern or an address, not {shown(one)}")
        found.append(os.fsdecode(one))
    return tuple(found)


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _id(value: Any, table: str, row: int) -> str:
    if value is None or isinstance(value, dict | list):
        raise InputError("table_column", f"{describe(table)}: row {row} has no id")
    return str(value)


def _id_of(name: str, kind: str, columns: list[tuple[str, str]]) -> str:
    return f"{name}#text" if kind == "text" and len(columns) > 1 else name
