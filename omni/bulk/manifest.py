"""The manifest of a job: its settings, and its items in the order that they are encoded in, cut into parts.

`manifest.json` holds the settings and their digest. `items-SHARD-of-SHARDS-ROUND.jsonl` hold the items, one a line: the
first round all that were there when the job began, each later one what had come since. A round is cut into parts of
equal length, whose numbers go on from round to round. Which item is encoded beside which is thereby written down before
anything is encoded, and no clock and no interruption can change it.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from omni.bulk.items import Item
from omni.errors import InputError, printable, shown

_FORMAT = "omni-bulk-1"
_MERGED = 1 << 16
_PAIR = np.dtype([("a", "<u8"), ("b", "<u8")])


@dataclass(frozen=True)
class Shard:
    """One of so many equal shares of a job: an item belongs to the one that a digest of its id names.

    Attributes:
        index: from 0 on.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= 99_999:
            raise InputError("bad_option", f"a shard must be 0 to {self.count - 1} of {self.count}, not {self.index}")

    def __str__(self) -> str:
        return f"{self.index:05d}-of-{self.count:05d}"

    @classmethod
    def of(cls, value: Any) -> "Shard":
        """Return the shard that a pair or "i/n" names."""
        if isinstance(value, cls):
            return value
        pair = value.split("/") if isinstance(value, str) else value
        try:
            index, count = (int(one) for one in pair)
        except (TypeError, ValueError):
            raise InputError("bad_option", f"a shard must be such as 0/8, not {shown(value)}") from None
        return cls(index, count)

    def holds(self, key: bytes) -> bool:
        """Whether the item with this digest of its id belongs to it."""
        return int.from_bytes(key[:8], "big") % self.count == self.index


@dataclass(frozen=True)
class Part:
    """A stretch of a round that is written as a whole.

    Attributes:
        number: counted over all rounds.
        items: in order.
        first: rows in the parts before it.
    """

    number: int
    items: tuple[Item, ...]
    first: int


class Manifest:
    """The manifest of one shard, held by one process at a time.

    Args:
        out: the job's folder.
        settings: all that rows depend on.
        notes: what else is written down beside them.
        shard: whose items it lists.
        part_rows: items in a part.

    Raises:
        InputError: `other_job`, the folder belongs to a job of other settings; `job_running`.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], notes: Mapping[str, Any], shard: Shard, part_rows: int):
        self.out, self.shard, self.part_rows = out, shard, part_rows
        self._path = out / "manifest.json"
        out.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(out / f".lock-{shard}")
        try:
            self.fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
            self._whole = {"format": _FORMAT, "fingerprint": self.fingerprint, "settings": settings, "notes": notes}
            if self._path.exists():
                self._check()
            for left in out.glob(f".items-{shard}-*"):
                left.unlink()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def extend(self, items: Iterable[Item]) -> tuple[int, int, int]:
        """List the items of this shard that are new, as a round of their own.

        Returns:
            How many items the shard has, how many of them are new, and how many were named twice.
        """
        known = _Keys()
        for item in _listed(self._rounds()):
            known.add(key_of(item.id))
        before, met, twice = len(known), _Keys(), 0
        path = self.out / f"items-{self.shard}-{len(self._rounds()):04d}.jsonl"
        partial = self.out / f".{path.name}"
        with partial.open("w", encoding="ascii") as file:
            for item in items:
                key = key_of(item.id)
                if not self.shard.holds(key):
                    continue
                if not met.add(key):
                    twice += 1
                elif known.add(key):
                    file.write(json.dumps(item, separators=(",", ":")) + "\n")
            synced(file)
        new = len(known) - before
        if new:
            if not self._path.exists():
                self._write()
            renamed(partial, path)
        else:
            partial.unlink()
        return len(known), new, twice

    def parts(self) -> Iterator[Part]:
        """Yield the parts in order, one held at a time."""
        yield from read_parts(self._rounds(), self.part_rows)

    def _rounds(self) -> list[Path]:
        return sorted(self.out.glob(f"items-{self.shard}-*.jsonl"))

    def _write(self) -> None:
        partial = self._path.with_name(f".{self._path.name}-{self.shard}")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(self._whole, file, sort_keys=True, indent=1)
            synced(file)
        renamed(partial, self._path)

    def _check(self) -> None:
        there = read_settings(self.out)
        wanted = json.loads(json.dumps(self._whole))["settings"]
        if other := sorted(name for name in wanted if name not in there or there[name] != wanted[name]):
            raise InputError("other_job", f"the folder holds a job of other settings: {', '.join(other)[:200]}")


def read_parts(paths: Iterable[Path], part_rows: int) -> Iterator[Part]:
    """Yield the parts that lists of items are cut into."""
    number = first = 0
    for path in paths:
        with path.open("rb") as file:
            while lines := list(islice(file, part_rows)):
                items = tuple(_item(json.loads(line)) for line in lines)
                yield Part(number, items, first)
                number, first = number + 1, first + len(items)


def find_items(out: Path, ids: Iterable[str]) -> dict[str, Item]:
    """Return the items of some ids, of whichever shard."""
    wanted, found = set(ids), {}
    for item in _listed(sorted(out.glob("items-*.jsonl"))):
        # Tables hold ids as they can be printed.
        if (name := printable(item.id)) in wanted:
            found[name] = item
    return found


def read_settings(out: Path) -> dict[str, Any]:
    """Return the settings of the job in a folder, and its notes.

    Raises:
        InputError: `no_job`, none is there.
    """
    try:
        manifest = json.loads((out / "manifest.json").read_text("utf-8"))
        if manifest["format"] == _FORMAT and isinstance(manifest["settings"], dict):
            return manifest["notes"] | manifest["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError("no_job", f"{str(out)[:200]!r} holds no table that omni encode has made") from None


def shards_of(out: Path) -> list[Shard]:
    """Return the shards that have begun in a folder."""
    found = {re.match(r"items-(\d+)-of-(\d+)-", path.name) for path in out.glob("items-*.jsonl")}
    return sorted({Shard(int(m[1]), int(m[2])) for m in found if m}, key=lambda shard: shard.index)


def synced(file: Any) -> None:
    """Bring what was written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def renamed(partial: Path, path: Path) -> None:
    """Give a finished file its name, for good."""
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InputError("job_running", "another process encodes this shard into the same folder") from None
    except OSError:  # a file system without locks
        pass
    return fd


def key_of(name: str) -> bytes:
    """Return a digest of an id."""
    # Of 16 bytes: among a billion ids, two share one with a probability of 1e-21.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]


def _listed(paths: Iterable[Path]) -> Iterator[Item]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                yield _item(json.loads(line))


def _item(fields: list[Any]) -> Item:
    name, kind, where, below = fields
    return Item(name, kind, tuple(where), below)


class _Keys:
    """A set of keys in 16 bytes each: most lie sorted in one array, the latest in a set."""

    def __init__(self) -> None:
        self._sorted, self._recent = np.zeros(0, _PAIR), set[bytes]()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def add(self, key: bytes) -> bool:
        """Add a key; False where it is there already."""
        if key in self._recent or self._has(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= max(_MERGED, len(self._sorted) // 4):
            recent = np.frombuffer(b"".join(self._recent), _PAIR)
            both = np.concatenate([self._sorted, recent])
            self._sorted = both[np.argsort(both["a"], kind="stable")]
            self._recent.clear()
        return True

    def _has(self, key: bytes) -> bool:
        if not len(self._sorted):
            return False
        one = np.frombuffer(key, _PAIR)[0]
        keys = self._sorted
        low = int(np.searchsorted(keys["a"], one["a"], side="left"))
        while low < len(keys) and keys["a"][low] == one["a"]:
            if keys["b"][low] == one["b"]:
                return True
            low += 1
        return False
