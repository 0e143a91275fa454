"""Where media come from: a path, a URL, a data URI or bytes, each opened with limits and refused in plain words."""

import base64
import binascii
import io
import os
import re
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from io import BufferedIOBase
from pathlib import Path
from typing import TypeGuard

from processors.errors import InputError

MAX_BYTES = 1 << 30
"""The most that is ever held in memory of one source: a gibibyte. Audio and video in local files have no such limit."""
TIMEOUT = 30.0
"""Seconds a server may stay silent."""
MAX_DOWNLOAD_SECONDS = 600.0

Source = str | os.PathLike[str] | bytes | bytearray | memoryview

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_CHUNK = 1 << 20


def is_source(value: object) -> TypeGuard[Source]:
    """Whether `value` names or holds encoded bytes, as opposed to decoded pixels or samples."""
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview)


def describe(source: object) -> str:
    """Names a source for a message, in the user's own words: never an address, never a path that was not given."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        if text[:5].lower() == "data:":
            return "the data URI"
        return repr(text if len(text) <= 160 else text[:157] + "...")
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the input of {len(source):,} bytes"
    return f"the {type(source).__name__} given"


def open_source(source: Source, max_bytes: int | None = None) -> BufferedIOBase:
    """Opens a source for reading from its start, seekable; the caller closes it.

    Args:
        source: a path, an http or https URL, a base64 data URI, or the encoded bytes.
        max_bytes: limit on a local file; what is held in memory (URLs, data URIs, bytes) is limited to MAX_BYTES.

    Raises:
        InputError: `source_scheme`, `source_not_found`, `source_not_a_file`, `source_unreadable`, `source_too_large`,
            `source_empty`, `source_bad_data_uri` or `source_download`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(bytes(source), source)
    text = os.fspath(source)
    if isinstance(source, str):
        if text[:5].lower() == "data:":
            return _in_memory(_decode_data_uri(text), source)
        if match := _SCHEME.match(text):
            scheme = match[0][:-3].lower()
            if scheme not in {"http", "https"}:
                raise InputError(
                    "source_scheme", f"{describe(source)}: only http and https URLs are read, not {scheme}"
                )
            return _in_memory(_download(text), source)
    return _open_file(Path(text), source, max_bytes)


def read_source(source: Source, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a whole source into memory; errors as `open_source`."""
    with open_source(source, max_bytes) as stream:
        return stream.read()


def _in_memory(data: bytes, source: Source) -> BufferedIOBase:
    if not data:
        raise InputError("source_empty", f"{describe(source)}: holds no bytes")
    if len(data) > MAX_BYTES:
        raise InputError("source_too_large", f"{describe(source)}: {len(data):,} bytes, the limit is {MAX_BYTES:,}")
    return io.BytesIO(data)


def _open_file(path: Path, source: Source, max_bytes: int | None) -> BufferedIOBase:
    name = describe(source)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("source_not_found", f"no file at {name}") from None
    except (OSError, ValueError) as error:  # too long a name, a NUL in it, a directory that may not be entered
        raise InputError("source_unreadable", f"{name} cannot be read: {_reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise InputError("source_not_a_file", f"{name} is {kind}")
    if status.st_size == 0:
        raise InputError("source_empty", f"{name} holds no bytes")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputError("source_too_large", f"{name}: {status.st_size:,} bytes, the limit is {max_bytes:,}")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError("source_unreadable", f"{name} cannot be read: {_reason(error)}") from None


def _decode_data_uri(text: str) -> bytes:
    header, comma, payload = text.partition(",")
    if not comma:
        raise InputError("source_bad_data_uri", "the data URI has no comma between its header and its data")
    if not header.lower().endswith(";base64"):
        return urllib.parse.unquote_to_bytes(payload)
    try:
        # Percent signs and line breaks survive many copy-and-paste paths; anything else is damage.
        return base64.b64decode(re.sub(r"\s", "", urllib.parse.unquote(payload)), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("source_bad_data_uri", "the data URI does not hold valid base64") from None


def _http_opener() -> urllib.request.OpenerDirector:
    # The default opener also answers file: and ftp:, which a redirect could reach.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _download(url: str) -> bytes:
    name = describe(url)
    deadline = time.monotonic() + MAX_DOWNLOAD_SECONDS
    data = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "omni-jax", "Accept": "*/*"})
        with _http_opener().open(request, timeout=TIMEOUT) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK):
                data += chunk
                if max(len(data), expected) > MAX_BYTES:
                    raise InputError("source_too_large", f"{name}: more than the limit of {MAX_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise InputError("source_download", f"{name}: not complete after {MAX_DOWNLOAD_SECONDS:.0f} s")
    except InputError:
        raise
    except Exception as error:  # urllib raises many kinds: URLError, HTTPException, OSError, ValueError
        raise InputError("source_download", f"{name} could not be fetched: {_reason(error)}") from None
    if len(data) < expected:
        raise InputError("source_download", f"{name}: {len(data):,} of {expected:,} bytes arrived")
    return bytes(data)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # OSError's own text repeats the path as resolved; `strerror` is the sentence alone.
    return (getattr(error, "strerror", None) or type(error).__name__).lower()
