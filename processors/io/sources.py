"""Where media come from: a path, a URL, a data URI, bytes or a binary stream, each opened with limits and a policy."""

import base64
import binascii
import io
import os
import re
import stat
import threading
import urllib.parse
import weakref
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.fetch import fetch


@runtime_checkable
class BinaryStream(Protocol):
    """Anything that gives bytes: an open file, `io.BytesIO`, an upload, a response's body."""

    def read(self, size: int = ..., /) -> Any: ...


class NamedBytes(bytes):
    """The bytes of a source that was read already, under the name that messages call it."""

    name: str = ""


class FileByPosition(io.RawIOBase):
    """A file that is open already, read by position: its descriptor may share its own position with others'."""

    def __init__(self, fd: int):
        self._fd, self._position, self._length = fd, 0, os.fstat(fd).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = max(0, offset + (0, self._position, self._length)[whence])
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        count = os.preadv(self._fd, [buffer], self._position)
        self._position += count
        return count


@dataclass(frozen=True)
class OpenFile:
    """A file that was opened already, as a source: each reading starts at its beginning, and none holds it in memory.

    Attributes:
        fd: its descriptor, which stays open.
        name: what messages call it.
    """

    fd: int
    name: str

    def open(self, max_bytes: int | None = None) -> BufferedIOBase:
        """Return a stream of its own; errors as `open_source` of a path."""
        size = os.fstat(self.fd).st_size
        if not size:
            raise InputError("source_empty", f"{self.name} holds no bytes")
        if max_bytes is not None and size > max_bytes:
            raise InputError("source_too_large", f"{self.name}: {size:,} bytes, the limit is {max_bytes:,}")
        return io.BufferedReader(FileByPosition(self.fd), 1 << 16)


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryStream | OpenFile

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_DATA = re.compile(r"\s*data:", re.IGNORECASE)
# As a data URI is written, and a sentence that begins with the word is not.
_DATA_URI = re.compile(r"\s*data:(?:(?:image|audio|video|application|text)/[^\s,]*|[^\s,]*;base64),", re.IGNORECASE)
# What base64 of the usual formats begins with: JPEG, PNG, GIF, RIFF, Ogg, FLAC, ID3, MP4, Matroska.
_BARE_BASE64 = re.compile(
    r"(?:/9j/|iVBORw0K|R0lGOD|UklGR|T2dnU|ZkxhQ|SUQz|AAAA[A-Za-z]{2}|GkXfo)[A-Za-z0-9+/_=\s-]{40,}\Z"
)
_STREAM_LOCK = threading.Lock()
_CONSUMED: "weakref.WeakKeyDictionary[Any, bytes]" = weakref.WeakKeyDictionary()


def is_source(value: object) -> TypeGuard[Source]:
    """Whether `value` names or holds encoded bytes, as opposed to decoded pixels or samples."""
    if isinstance(value, str | os.PathLike | bytes | bytearray | OpenFile):
        return True
    if isinstance(value, memoryview):
        return value.ndim == 1 and value.itemsize == 1
    return callable(getattr(value, "read", None)) and not hasattr(value, "__array__")


def describe(source: object) -> str:
    """Names a source for a message, in the user's own words: never an address, never a path that was not given."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        if _DATA.match(text):
            return "the data URI"
        return repr(text if len(text) <= 160 else text[:157] + "...")
    if isinstance(source, NamedBytes | OpenFile):
        return source.name
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the input of {memoryview(source).nbytes:,} bytes"
    return f"the {type(source).__name__} given"


def open_source(source: Source, access: Access = DEFAULT_ACCESS, max_bytes: int | None = None) -> BufferedIOBase:
    """Opens a source for reading from its start, seekable; the caller closes it.

    Args:
        source: a path, an http, https or file URL, a data URI, the encoded bytes, or a binary stream, which is read
            from its beginning and left where it stands.
        access: limits, and the policy of schemes, hosts and folders. What is held in memory (URLs, data URIs, bytes,
            streams) is limited to `limits.source_bytes`.
        max_bytes: limit on a local file.

    Raises:
        InputError: `source_scheme`, `source_url`, `source_not_allowed`, `source_address`, `source_not_found`,
            `source_not_a_file`, `source_unreadable`, `source_too_large`, `source_empty`, `source_bad_data_uri`,
            `source_download`, `deadline` or `cancelled`.
    """
    access.check()
    name = describe(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(source, access, name)
    if isinstance(source, OpenFile):
        return source.open(max_bytes)
    if not isinstance(source, str | os.PathLike):
        return _open_stream(source, access, name)
    text = os.fspath(source)
    if isinstance(source, str):
        if _DATA.match(text):
            access.sources.check_scheme("data", name)
            return _in_memory(_decode_data_uri(text, access), access, name)
        if match := _SCHEME.match(text.lstrip()):
            scheme = match[1].lower()
            if scheme in ("http", "https"):
                return _in_memory(fetch(text, access, name), access, name)
            if scheme != "file" or access.sources.folders is None:
                _refuse_scheme(scheme, access, name)
            return _open_file(_path_of_url(text.strip(), name), access, name, max_bytes)
        if len(text) > 64 and _BARE_BASE64.match(text):
            raise InputError(
                "source_unreadable", "the text looks like bare base64: write data:;base64, before it, or decode it"
            )
    return _open_file(Path(os.fsdecode(text)), access, name, max_bytes)


def read_source(source: Source, access: Access = DEFAULT_ACCESS) -> bytes:
    """Reads a whole source into memory; errors as `open_source`."""
    with open_source(source, access, access.limits.source_bytes) as stream:
        return stream.read()


def names_media(text: str, access: Access = DEFAULT_ACCESS) -> str | None:
    """Return what a string is that `open_source` opens: "a file", "a URL" or "data"; None for any other text.

    A file is one only where the policy lets it be read: of others it is not told whether they exist.
    """
    if _DATA_URI.match(text) or (len(text) > 64 and _BARE_BASE64.match(text)):
        return "data"
    if match := _SCHEME.match(text.strip()):
        scheme, alone = match[1].lower(), len(text.split()) == 1
        if scheme != "file" or not alone or access.sources.folders is None:
            return "a URL" if alone and scheme in ("http", "https") else None
        text = text.strip()
    try:
        path = _path_of_url(text, "") if _SCHEME.match(text) else Path(text)
        access.sources.check_file(path, "")
        return "a file" if stat.S_ISREG(path.stat().st_mode) else None
    except (OSError, ValueError):  # no such file, a name that none can have, or one that may not be read
        return None


def held(source: Any, access: Access = DEFAULT_ACCESS) -> Any:
    """Return what is slow or costly to open twice (URLs, data URIs, streams) as its bytes; all else as it is."""
    if not is_source(source) or isinstance(source, bytes | bytearray | memoryview | os.PathLike | OpenFile):
        return source
    if isinstance(source, str) and not _DATA.match(source) and not _SCHEME.match(source.lstrip()):
        return source
    data = NamedBytes(read_source(source, access))
    data.name = describe(source)
    return data


def _in_memory(data: bytes | bytearray | memoryview, access: Access, name: str) -> BufferedIOBase:
    size = memoryview(data).nbytes
    if not size:
        raise InputError("source_empty", f"{name}: holds no bytes")
    if size > access.limits.source_bytes:
        limit = access.limits.source_bytes
        raise InputError("source_too_large", f"{name}: {size:,} bytes, the limit is {limit:,}")
    # A view may step over bytes, and BytesIO takes only what lies together.
    return io.BytesIO(data.tobytes() if isinstance(data, memoryview) else data)


def _refuse_scheme(scheme: str, access: Access, name: str) -> None:
    if scheme == "file":
        raise InputError(
            "source_scheme", f"{name}: give the path itself, or allow folders with omni.Sources(folders=...)"
        )
    readable = ", ".join(one for one in access.sources.schemes if one != "file")
    raise InputError("source_scheme", f"{name}: only {readable} URLs are read, not {scheme[:40]}")


def _path_of_url(url: str, name: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise InputError("source_url", f"{name}: a file URL names a file of this machine, as file:///path")
    return Path(urllib.parse.unquote(parts.path))


def _open_file(path: Path, access: Access, name: str, max_bytes: int | None) -> BufferedIOBase:
    try:
        access.sources.check_file(path, name)
        # Without blocking: a pipe in a file's place would wait for its writer for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("source_not_found", f"no file at {name}") from None
    except IsADirectoryError:
        raise InputError("source_not_a_file", f"{name} is a directory") from None
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, no permission
        raise InputError("source_unreadable", f"{name} cannot be read: {_reason(error)}") from None
    stream = os.fdopen(handle, "rb") if stat.S_ISREG((status := os.fstat(handle)).st_mode) else None
    if stream is None:
        os.close(handle)
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError("source_not_a_file", f"{name} is {kind}")
    if status.st_size == 0:
        stream.close()
        raise InputError("source_empty", f"{name} holds no bytes")
    if max_bytes is not None and status.st_size > max_bytes:
        stream.close()
        raise InputError("source_too_large", f"{name}: {status.st_size:,} bytes, the limit is {max_bytes:,}")
    return stream


def _open_stream(source: Any, access: Access, name: str) -> BufferedIOBase:
    """The content of a stream from its beginning, into memory; the stream is left where it stands."""
    if isinstance(source, io.BytesIO) and not source.closed:
        return _in_memory(source.getvalue(), access, name)
    if isinstance(source, io.TextIOBase):
        raise InputError("source_unreadable", f'{name} gives text: open it in binary mode, "rb"')
    try:
        # One stream may stand in several places of one call, which are read in several threads.
        with _STREAM_LOCK:
            data = _CONSUMED.get(source)
            if data is None:
                data = _read_stream(source, access.limits.source_bytes + 1)
    except Exception as error:  # a stream is any object: closed files raise ValueError, others what they like
        raise InputError("source_unreadable", f"{name} cannot be read: {_reason(error)}") from None
    if not isinstance(data, bytes):
        raise InputError("source_unreadable", f"{name} does not give bytes")
    return _in_memory(data, access, name)


def _read_stream(source: Any, most: int) -> Any:
    if callable(getattr(source, "seekable", None)) and source.seekable():
        position = source.tell()
        try:
            source.seek(0)
            return source.read(most)
        finally:
            source.seek(position)
    data = source.read(most)
    # What can be read once only is kept for as long as the stream itself.
    _CONSUMED[source] = data
    return data


def _decode_data_uri(text: str, access: Access) -> bytes:
    if len(text) > access.limits.source_bytes * 4:
        limit = access.limits.source_bytes
        raise InputError("source_too_large", f"the data URI has {len(text):,} characters, the limit is {limit:,} bytes")
    header, comma, payload = text.partition(",")
    if not comma:
        raise InputError("source_bad_data_uri", "the data URI has no comma between its header and its data")
    if not re.search(r";\s*base64\s*\Z", header, re.IGNORECASE):
        try:
            return urllib.parse.unquote_to_bytes(payload)
        except UnicodeEncodeError:
            raise InputError("source_bad_data_uri", "the data URI holds half a surrogate pair") from None
    # Percent signs and line breaks survive many copy-and-paste paths, padding is optional, and some encoders write the
    # letters that are safe in URLs; anything else is damage.
    if "%" in payload:
        payload = urllib.parse.unquote(payload)
    return decode_base64(payload)


def decode_base64(text: str) -> bytes:
    """Decodes base64 with or without padding and white space, of either alphabet.

    Raises:
        InputError: `source_bad_data_uri`, it is not base64.
    """
    letters = "".join(text.split()).rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        if len(letters) % 4 == 1:
            raise ValueError("one letter too many")
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("source_bad_data_uri", "the data does not hold valid base64") from None


def _reason(error: Exception) -> str:
    # OSError's own text repeats the path as resolved; `strerror` is the sentence alone.
    return (getattr(error, "strerror", None) or type(error).__name__).lower()[:160]
