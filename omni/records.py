"""Conversations from files: one JSON object a line, media beside the file, or all of it in a zip archive."""

import json
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni.errors import InputError
from omni.messages import parse
from processors.limits import DEFAULT_LIMITS

Conversation = Sequence[Mapping[str, Any]]
KINDS = ("image", "audio", "video")
# What zipfile raises of damage, of passwords and of ways to compress that it does not know.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


@dataclass(frozen=True)
class Record:
    """A line of a file.

    Attributes:
        messages: a conversation, its media as paths, URLs or bytes.
        skill: what it is an example of; "all" where the line does not say.
    """

    messages: Conversation
    skill: str = "all"


def read_records(path: Path) -> list[Record]:
    """The records of a file, one JSON object `{"messages": [...], "skill": "..."}` a line; the skill may be left out.

    Args:
        path: a `.jsonl` file, media paths being relative to it; or a `.zip` archive with one such file at its root,
            whose media are read from the archive into memory.

    Raises:
        InputError: `bad_file`, it cannot be read or has no conversations; `bad_archive`, likewise of an archive;
            `bad_line`, with the number of the first line that holds none or names what the archive lacks.
    """
    if path.suffix.lower() == ".zip":
        return _from_archive(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("bad_file", f"{path} cannot be read: {error.strerror or error}") from error
    return _from_lines(data, str(path), path.name, lambda name: str(path.parent / name))


@contextmanager
def naming(index: int) -> Iterator[None]:
    """Says of an error which conversation it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(error.code, f"conversation {index + 1}: {error}") from error


def size(conversation: Conversation) -> tuple[tuple[int, ...], int]:
    """How many media of each kind a conversation holds, and how many characters."""
    kinds, characters = [0, 0, 0], 0
    for message in parse(conversation).messages:
        content = message["content"]
        for part in [content] if isinstance(content, str) else content:
            if isinstance(part, str) or part["type"] == "text":
                characters += len(part if isinstance(part, str) else part["text"])
            else:
                kinds[KINDS.index(part["type"])] += 1
    return tuple(kinds), characters


def _from_archive(path: Path) -> list[Record]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            if sum(info.file_size for info in files.values()) > DEFAULT_LIMITS.source_bytes:
                raise InputError(
                    "bad_archive", f"{path.name} holds more than {DEFAULT_LIMITS.source_bytes:,} bytes: unpack it"
                )
            found = [name for name in files if "/" not in name and name.endswith(".jsonl")]
            if len(found) != 1:
                raise InputError("bad_archive", f"{path.name} must hold one .jsonl file at its root, not {len(found)}")

            def medium(name: str) -> bytes:
                info = files.get(posixpath.normpath(name))
                if info is None:
                    raise InputError("missing_entry", f"{path.name} holds no {name[:160]!r}")
                return archive.read(info)

            return _from_lines(archive.read(found[0]), found[0], found[0], medium)
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError("bad_archive", f"{path} cannot be read as a zip archive: {reason}") from error


def _from_lines(data: bytes, title: str, name: str, located: Callable[[str], Any]) -> list[Record]:
    """The records of a file's content; `located` turns what it calls a medium into what `parse` takes."""
    try:
        lines = data.decode("utf-8").split("\n")  # other separators may stand in strings
    except UnicodeDecodeError as error:
        raise InputError("bad_file", f"{title} cannot be read: it is not UTF-8 text") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_record(json.loads(line), located))
        except (json.JSONDecodeError, KeyError, TypeError, InputError) as error:
            reason = error if isinstance(error, InputError) else 'it is not an object with "messages"'
            raise InputError("bad_line", f"line {number} of {name}: {reason}") from error
    if not found:
        raise InputError("bad_file", f"{name} holds no conversations")
    return found


def _record(raw: Any, located: Callable[[str], Any]) -> Record:
    messages = _located(raw["messages"], located)
    parse(messages)
    skill = raw.get("skill", "all")
    if not isinstance(skill, str) or not skill.strip():
        raise InputError("bad_skill", f"a skill must be a name, got {json.dumps(skill)[:40]}")
    return Record(messages, skill)


def _located(messages: Any, located: Callable[[str], Any]) -> Any:
    """The messages with media taken from where they lie."""

    def part(raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        moved = {}
        for key in KINDS:
            value = raw.get(key)
            if isinstance(value, str) and "://" not in value and not value.startswith("data:"):
                moved[key] = located(value)
        return {**raw, **moved}

    def message(raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("content"), list):
            return raw
        return {**raw, "content": [part(p) for p in raw["content"]]}

    return [message(m) for m in messages] if isinstance(messages, list) else messages
