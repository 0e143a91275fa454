"""Folders of media to a file of embeddings each, in as many goes as it takes: what is there already and still the same
is left alone, and what cannot be read is told and passed over."""

import errno
import hashlib
import os
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omni.embedding import Embedding, read_notes
from omni.encoding import MediaEncoder
from omni.errors import InputError, printable
from omni.fingerprint import source_fingerprint
from processors import Access

_SUFFIX = ".safetensors"
_LONGEST_NAME = 255
"""Bytes that a file's name may have on the usual file systems."""
_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of writing that no other file would be spared."""


@dataclass(frozen=True)
class Job:
    """A medium to encode, and where its embedding goes."""

    source: str
    target: Path


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: which.
        state: `encoded` or `failed`.
        reason: why it failed.
    """

    job: Job
    state: Literal["encoded", "failed"]
    reason: str = ""


def plan(sources: Iterable[str], out: Path) -> list[Job]:
    """Return a job for every source, and for every file below those that are folders, whose tree is kept.

    A name that another source has taken, or that is longer than file names can be, gets a digest of the source.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    for source in sources:
        folder = Path(source)
        if "://" not in source and not source.startswith("data:") and os.path.isdir(folder):
            files = sorted(path for path in folder.rglob("*") if path.is_file() and _may_be_medium(path))
            pairs = [(str(path), out / path.relative_to(folder).parent, path.name) for path in files]
        else:
            pairs = [(source, out, _name(source))]
        for given, parent, name in pairs:
            target = parent / _file_name(name)
            if target in taken:
                target = parent / _file_name(name, given)
            taken.add(target)
            jobs.append(Job(given, target))
    return jobs


def encode_files(
    media: MediaEncoder,
    jobs: Sequence[Job],
    fingerprint: str,
    *,
    batch_size: int = 8,
    access: Access | None = None,
    isolate: bool = True,
) -> Iterator[Outcome]:
    """Encode every job, in order, and write its embedding; a failed one ends nothing but itself.

    Args:
        media: processors and towers.
        jobs: of `plan`.
        fingerprint: of the checkpoint and of how it was loaded.
        batch_size: how many are read and encoded at a time.
        access: limits, source policy and deadline.
        isolate: decode what FFmpeg decodes in a process apart, so that a file on which it crashes costs one job.

    Raises:
        OSError: nothing can be written any more.
    """
    access = replace(access or media.access, isolate=isolate)
    results = media.try_stream((job.source for job in jobs), batch_size, access)
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, InputError):
            yield Outcome(job, "failed", str(result))
            continue
        try:
            yield Outcome(Job(job.source, _write(result, job, fingerprint)), "encoded")
        except OSError as error:
            if error.errno in _STOPPING:
                raise
            yield Outcome(job, "failed", (error.strerror or type(error).__name__).lower())


def is_current(job: Job, fingerprint: str) -> bool:
    """Return whether a job's embedding is there, made by the same checkpoint of the same content."""
    return any(
        (notes := read_notes(target)) is not None
        and notes.get("model") == fingerprint
        and notes.get("source_sha256") == source_fingerprint(job.source)
        for target in (job.target, _other_target(job))
    )


def _write(embedding: Embedding, job: Job, fingerprint: str) -> Path:
    source = "a data URI" if job.source.startswith("data:") else printable(job.source)
    notes = {"source": source, "source_sha256": source_fingerprint(job.source), "model": fingerprint}
    job.target.parent.mkdir(parents=True, exist_ok=True)
    target = job.target
    if target.exists():
        there = read_notes(target)
        # Another source's embedding, or a file that is none, is not ours to replace.
        if there is None or there.get("source", source) != source:
            target = _other_target(job)
    embedding.save(target, notes=notes)
    return target


def _other_target(job: Job) -> Path:
    return job.target.with_name(_file_name(job.target.name.removesuffix(_SUFFIX), job.source))


def _may_be_medium(path: Path) -> bool:
    # The embeddings of an earlier go may lie in the same folder.
    return not path.name.startswith(".") and path.suffix != _SUFFIX


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
