"""Conversations from files: one JSON object a line or a JSON list, media beside the file, or all in a zip archive."""

import codecs
import json
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omni.errors import InputError
from omni.prompt.messages import parse
from omni.prompt.record_media import located
from processors.io.limits import DEFAULT_LIMITS

Conversation = Sequence[Mapping[str, Any]]
KINDS = ("image", "audio", "video")
# What zipfile raises of damage, of passwords and of ways to compress that it does not know.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError, KeyError)
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_PART = 'write it into the messages, as a part of its place in a content list: {{"type": "{0}", "{0}": ...}}'
# What other tools put beside the messages: media, and what changes the prompt or what is learned.
_BESIDE = {
    **{f"{kind}{s}": _PART.format(kind) for kind in KINDS for s in ("", "s")},
    **dict.fromkeys(("files", "file", "medias", "media", "attachments"), _PART.format("image")),
    **dict.fromkeys(("system", "system_prompt"), 'write a first message {"role": "system", "content": ...}'),
    **dict.fromkeys(("tools", "functions"), "tools are not declared yet: write them into the system message"),
    **dict.fromkeys(("documents", "objects"), "write it into the messages"),
    **dict.fromkeys(("history", "conversations"), "write its turns as messages"),
    **dict.fromkeys(
        ("rejected", "chosen", "rejected_response", "rejected_messages"),
        "preferences are not learned: keep the messages that are to be learned",
    ),
}
_OTHER_FORMS = ("conversations", "conversation", "query", "instruction", "prompt", "question", "dialogue", "text")


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
        path: a `.jsonl` file, or a `.json` file with a list of such objects, media paths being relative to it; or a
            `.zip` archive with one such file at its root, or in a folder beside its media, which are read from the
            archive into memory. Text is UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: `bad_file`, it cannot be read or has no conversations; `bad_archive`, likewise of an archive;
            `bad_line`, with the number of the first line that holds none, names what the archive lacks, or has media,
            tools or a system message beside its messages.
    """
    if path.suffix.lower() == ".zip":
        return _from_archive(path)
    try:
        size = path.stat().st_size
        if size > DEFAULT_LIMITS.source_bytes:
            raise InputError("bad_file", f"{path} holds {size:,} bytes, the limit is {DEFAULT_LIMITS.source_bytes:,}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("bad_file", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def beside(name: str) -> str:
        here = path.parent / name
        # A file that was written on Windows.
        there = path.parent / name.replace("\\", "/")
        return str(there if "\\" in name and "\0" not in name and not here.exists() and there.exists() else here)

    return _from_text(data, str(path), path.name, beside)


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
    most = DEFAULT_LIMITS.source_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            if sum(info.file_size for info in files.values()) > most:
                raise InputError("bad_archive", f"{path.name} holds more than {most:,} bytes: unpack it")
            # What macOS adds, and hidden files, are nobody's.
            visible = [name for name in files if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))]
            title = _records_file(path.name, visible)
            folder = posixpath.dirname(title)

            def medium(name: str) -> bytes:
                # A file of Windows may have its own separators; what leads out of the archive is not in it.
                entry = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
                info = files.get(entry)
                if info is None:
                    raise InputError("missing_entry", f"{path.name} holds no {name[:160]!r}")
                return _entry(archive, info)

            return _from_text(_entry(archive, files[title]), title, title, medium)
    except _DAMAGE as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError("bad_archive", f"{path} cannot be read as a zip archive: {reason[:200]}") from error


def _records_file(archive: str, names: Sequence[str]) -> str:
    """The one file of records: at the root, or beside its media in the one folder that holds everything."""
    for depth in (0, 1):
        if depth and (len(names) < 2 or len({name.partition("/")[0] for name in names}) != 1):
            break
        candidates = [name for name in names if name.count("/") == depth]
        for suffix in (".jsonl", ".json"):
            chosen = [name for name in candidates if name.lower().endswith(suffix)]
            if len(chosen) == 1:
                return chosen[0]
            if chosen:
                raise InputError("bad_archive", f"{archive} must hold one {suffix} file at its root, not {len(chosen)}")
    raise InputError("bad_archive", f"{archive} must hold one .jsonl file at its root, not 0")


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """An entry's bytes, no more than it promises."""
    with archive.open(info) as stream:
        data = stream.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"an entry holds other than its {info.file_size:,} bytes")
    return data


def _from_text(data: bytes, title: str, name: str, beside: Callable[[str], Any]) -> list[Record]:
    """The records of a file's content; `beside` turns what it calls a medium into what `parse` takes."""
    text = _decoded(data, title)
    if name.lower().endswith(".json"):
        entries = _listed(text, name)
    else:
        lines = text.split("\n")  # other separators may stand in strings
        entries = ((f"line {i} of {name}", partial(_loaded, line)) for i, line in enumerate(lines, 1) if line.strip())
    records = []
    for where, entry in entries:
        try:
            records.append(_record(entry(), beside))
        except InputError as error:
            raise InputError("bad_line", f"{where}: {error}") from error
    if not records:
        raise InputError("bad_file", f"{title} holds no conversations")
    return records


def _decoded(data: bytes, title: str) -> str:
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    try:
        return data[len(mark) :].decode(_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise InputError("bad_file", f"{title} cannot be read: it is not UTF-8 text") from error


def _listed(text: str, name: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The entries of a JSON list; a file that is not one is read line by line all the same."""
    try:
        value = _loaded(text)
    except InputError as error:
        if "\n" in text.strip():
            try:
                for i, line in enumerate(text.split("\n"), 1):
                    if line.strip():
                        yield f"line {i} of {name}", partial(_loaded, line)
                return
            except InputError:
                pass
        raise InputError("bad_file", f"{name} is not a JSON list: {error}") from error
    for i, entry in enumerate(value if isinstance(value, list) else [value], 1):
        yield f"entry {i} of {name}", lambda entry=entry: entry


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("bad_json", "its JSON is nested too deeply") from None
    except ValueError as error:  # also of numbers of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
        raise InputError("bad_json", f'it is not an object with "messages": {reason}') from None


def _record(raw: Any, beside: Callable[[str], Any]) -> Record:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("messages"), list):
        other = next((key for key in _OTHER_FORMS if isinstance(raw, Mapping) and key in raw), None)
        hint = "" if other is None else f'; {other!r} is another form: write {{"role": ..., "content": ...}} dicts'
        raise InputError("bad_record", f'it is not an object with "messages"{hint}')
    for key, form in _BESIDE.items():
        if raw.get(key):
            raise InputError("unknown_key", f"{key!r} beside messages is not read: {form}")
    messages = located(raw["messages"], beside)
    parse(messages)
    skill = raw.get("skill", "all")
    if not isinstance(skill, str) or not skill.strip():
        raise InputError("bad_skill", f"a skill must be a name, got {json.dumps(skill)[:40]}")
    return Record(messages, skill)
