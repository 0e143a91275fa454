"""A safetensors file a medium: what is there already and still the same is left alone."""

import errno
import hashlib
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from omni.bulk.fingerprint import source_fingerprint
from omni.bulk.items import Item
from omni.bulk.manifest import Part
from omni.bulk.results import Result
from omni.errors import InputError, printable
from omni.media.embedding import Embedding, read_notes

_SUFFIX = ".safetensors"
_LONGEST_NAME = 255
"""Bytes that a file's name may have on the usual file systems."""
_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of writing that no other file would be spared."""


@dataclass(frozen=True)
class Job:
    """A medium to encode, and where its embedding goes."""

    item: Item
    target: Path

    @property
    def other_target(self) -> Path:
        """Return where it goes when something else is in its place: the name with a digest of the source."""
        return self.target.with_name(_file_name(self.target.name.removesuffix(_SUFFIX), self.item.source))

    def is_current(self, fingerprint: str) -> bool:
        """Return whether the embedding is there, made by the same checkpoint of the same content."""
        return any(
            (notes := read_notes(target)) is not None
            and notes.get("model") == fingerprint
            and notes.get("source_sha256") == source_fingerprint(self.item.source)
            for target in (self.target, self.other_target)
        )


def plan(items: Iterable[Item], out: Path) -> list[Job]:
    """Return a job for every medium; the tree of a folder is kept.

    A name that another source has taken, or that is longer than file names can be, gets a digest of the source.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    for item in items:
        parent = out / Path(item.below).parent
        name = os.path.basename(item.below) or _name(item.source)
        target = parent / _file_name(name)
        if target in taken:
            target = parent / _file_name(name, item.source)
        taken.add(target)
        jobs.append(Job(item, target))
    return jobs


class FileSink:
    """Writes each embedding as soon as it is made.

    Args:
        jobs: of `plan`.
        fingerprint: of the checkpoint and of how it was loaded.
        batch_size: how many make a part.
    """

    def __init__(self, jobs: list[Job], fingerprint: str, batch_size: int):
        self._jobs, self._fingerprint, self._batch_size = jobs, fingerprint, batch_size
        self._begun: list[Job] = []

    def parts(self) -> Iterator[Part]:
        """Yield the jobs as parts."""
        for start in range(0, len(self._jobs), self._batch_size):
            items = tuple(job.item for job in self._jobs[start : start + self._batch_size])
            yield Part(start // self._batch_size, items, start)

    def begin(self, part: Part) -> None:
        """Look up where the embeddings go."""
        self._begun = self._jobs[part.first : part.first + len(part.items)]

    def write(self, results: list[Result]) -> list[Result]:
        """Write the embeddings; one that cannot be written becomes an error.

        Raises:
            OSError: nothing can be written any more.
        """
        return [self._written(result, job) for result, job in zip(results, self._begun, strict=True)]

    def commit(self) -> None:
        """Every file is there already."""

    def close(self) -> None:
        """What was written stays."""

    def _written(self, result: Result, job: Job) -> Result:
        if result.embedding is None:
            return result
        try:
            self._write(result.embedding, job)
        except OSError as error:
            if error.errno in _STOPPING:
                raise
            reason = (error.strerror or type(error).__name__).lower()
            return replace(result, embedding=None, error=InputError("embedding_not_written", reason))
        return result

    def _write(self, embedding: Embedding, job: Job) -> None:
        given = job.item.source
        source = "a data URI" if given.startswith("data:") else printable(given)
        notes = {"source": source, "source_sha256": source_fingerprint(given), "model": self._fingerprint}
        job.target.parent.mkdir(parents=True, exist_ok=True)
        target = job.target
        if target.exists():
            there = read_notes(target)
            # Another source's embedding, or a file that is none, is not ours to replace.
            if there is None or there.get("source", source) != source:
                target = job.other_target
        embedding.save(target, notes=notes)


def _name(source: str) -> str:
    """What a source's embedding is called: the last part of its path."""
    if source.startswith("data:"):
        return "data"
    path = urllib.parse.urlsplit(source).path if "://" in source else source
    return Path(path).name or "medium"


def _file_name(name: str, source: str = "") -> str:
    """A file name that every file system takes; with a digest of the source where one is named."""
    name = name.replace("\0", "")
    ending = _SUFFIX
    if source or len(os.fsencode(name + _SUFFIX)) > _LONGEST_NAME:
        ending = f"-{hashlib.sha256(os.fsencode(source or name)).hexdigest()[:8]}{_SUFFIX}"
    kept = os.fsencode(name)[: _LONGEST_NAME - len(ending)]
    # A cut may fall within a character.
    return kept.decode("utf-8", "ignore" if len(kept) < len(os.fsencode(name)) else "surrogateescape") + ending
