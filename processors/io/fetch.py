"""HTTP fetches of strangers' addresses: every address is checked after it was resolved, at every hop, and connected to
as checked; the deadline holds for the whole fetch, however slowly a server drips."""

import contextlib
import gzip
import http.client
import io
import os
import queue
import re
import select
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
import zlib
from functools import cache
from typing import Any

from processors.errors import InputError
from processors.io.access import Access
from processors.io.policy import normal_host

_HEADERS = {"User-Agent": "omni-jax", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
_CHUNK = 1 << 16
_SLICE = 0.1
"""Seconds between two looks at the clock while a server is silent: so soon a fetch ends when it is cancelled."""
# What may stand in a path or query as it is; people paste addresses with spaces and letters of any script.
_PATH_SAFE, _QUERY_SAFE = "/%:@!$&'()*+,;=~-._", "/%:@!$&'()*+,;=~-._?[]"


def fetch(url: str, access: Access, name: str) -> bytes:
    """Fetch an http or https URL into memory.

    Args:
        url: as people write it: spaces and letters of any script in its path, any script in its host.
        access: limits on bytes and seconds, the policy of hosts and addresses.
        name: what messages call it.

    Raises:
        InputError: `source_url`, `source_scheme`, `source_not_allowed`, `source_address`, `source_download`,
            `source_too_large`, `deadline` or `cancelled`.
    """
    clock = _Clock(access, name)
    for _ in range(access.limits.redirects + 1):
        target = _Target.parse(url, name)
        access.sources.check_scheme(target.scheme, name)
        access.sources.check_host(target.host, name)
        try:
            with _respond(target, access, clock, name) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    return _body(response, access, name)
                location = response.getheader("Location")
        except InputError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError("source_download", f"{name} could not be fetched: {_reason(error)}") from None
        if not location:
            raise InputError("source_download", f"{name} could not be fetched: a redirect names no address")
        # Servers send raw UTF-8, which http.client reads as Latin-1.
        with contextlib.suppress(UnicodeError):
            location = location.encode("latin-1").decode("utf-8")
        url = urllib.parse.urljoin(target.url, location)
    raise InputError("source_download", f"{name} could not be fetched: more than {access.limits.redirects} redirects")


class _Target:
    """A parsed URL: what to connect to and what to ask for."""

    def __init__(self, scheme: str, host: str, port: int | None, path: str):
        self.scheme, self.host, self.port, self.path = scheme, host, port or {"http": 80, "https": 443}[scheme], path
        shown = f"[{host}]" if ":" in host else host
        self.netloc = shown if port is None else f"{shown}:{port}"
        self.url = f"{scheme}://{self.netloc}{path}"

    @classmethod
    def parse(cls, url: str, name: str) -> "_Target":
        try:
            parts = urllib.parse.urlsplit(url.strip())
            if parts.scheme not in ("http", "https"):
                raise InputError("source_scheme", f"{name}: only http and https URLs are fetched")
            if "@" in parts.netloc:
                raise InputError("source_url", f"{name}: user names and passwords in URLs are not supported")
            host, port = normal_host(urllib.parse.unquote(parts.hostname or "")), parts.port
            if re.search(r"[^a-z0-9._:%-]", host):
                raise ValueError("characters that no host has")
        except InputError:
            raise
        except ValueError:
            raise InputError("source_url", f"{name}: not a valid URL") from None
        path = urllib.parse.quote(parts.path or "/", safe=_PATH_SAFE, errors="replace")
        query = urllib.parse.quote(parts.query, safe=_QUERY_SAFE, errors="replace")
        return cls(parts.scheme, host, port, path + (f"?{query}" if query else ""))


class _Clock:
    """The deadline of a whole fetch, and of each silence in it."""

    def __init__(self, access: Access, name: str):
        self._access, self._name = access, name
        self._end = time.monotonic() + access.limits.fetch_seconds

    def check(self) -> None:
        """Raise once the time of the fetch, or of the call that it serves, is up."""
        self._access.check()
        if time.monotonic() > self._end:
            seconds = self._access.limits.fetch_seconds
            raise InputError("source_download", f"{self._name}: not complete after {seconds:g} s")

    def wait(self, ready: Any) -> None:
        """Call `ready(seconds)` in slices until it returns true; the server may stay silent for so long only."""
        began = time.monotonic()
        while not ready(_SLICE):
            self.check()
            if time.monotonic() - began > self._access.limits.silence_seconds:
                raise InputError("source_download", f"{self._name} could not be fetched: no answer in time")
        self.check()


class _TimedSocket:
    """A socket as http.client uses it, whose every read looks at the clock. It is closed by who opened it."""

    def __init__(self, raw: socket.socket, clock: _Clock):
        self.raw, self._clock = raw, clock
        raw.settimeout(_SLICE)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.raw.send(view) :]
            except TimeoutError:
                pass
            self._clock.check()

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self.raw, self._clock), _CHUNK)

    def close(self) -> None:
        # http.client closes the socket of a response that it has yet to read.
        return None


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: socket.socket, clock: _Clock):
        self._raw, self._clock = raw, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = 0

        def ready(_: float) -> bool:
            nonlocal count
            try:
                count = self._raw.recv_into(buffer)
            except (TimeoutError, ssl.SSLWantReadError):
                return False
            return True

        self._clock.wait(ready)
        return count


@contextlib.contextmanager
def _respond(target: _Target, access: Access, clock: _Clock, name: str) -> Any:
    """The response to one request; its connection is closed behind it."""
    proxy = _proxy(target)
    # The names behind a proxy may be known to it alone.
    addresses = _resolve(target.host, target.port, clock, name, required=proxy is None)
    for address in addresses:
        access.sources.check_address(address[4][0], name)
    if proxy is not None:
        addresses = _resolve(proxy.host, proxy.port, clock, name)
    with contextlib.closing(_connect(addresses, clock, name)) as raw:
        connection = http.client.HTTPConnection(target.host, target.port)
        path = target.path
        if proxy is not None and target.scheme == "http":
            path = target.url
        elif proxy is not None:
            connection.sock = _TimedSocket(raw, clock)  # pyright: ignore[reportAttributeAccessIssue]
            connection.set_tunnel(target.host, target.port)
            connection._tunnel()  # type: ignore[attr-defined]
        if target.scheme == "https":
            raw.settimeout(min(access.limits.silence_seconds, 10.0))
            raw = _tls().wrap_socket(raw, server_hostname=target.host)
        with contextlib.closing(raw):
            connection.sock = _TimedSocket(raw, clock)  # pyright: ignore[reportAttributeAccessIssue]
            connection.request("GET", path, headers={"Host": target.netloc, **_HEADERS})
            yield connection.getresponse()


def _resolve(host: str, port: int, clock: _Clock, name: str, required: bool = True) -> list[Any]:
    """The addresses of a host; looked up in a thread of its own, which nothing can hurry."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=look_up, daemon=True).start()
    answer: Any = None

    def ready(seconds: float) -> bool:
        nonlocal answer
        with contextlib.suppress(queue.Empty):
            answer = answers.get(timeout=seconds)
        return answer is not None

    clock.wait(ready)
    if isinstance(answer, list):
        return answer
    if required:
        raise InputError("source_download", f"{name} could not be fetched: its host is not known")
    return []


def _connect(addresses: list[Any], clock: _Clock, name: str) -> socket.socket:
    """A connection to the first address that takes one; only addresses that were checked are tried."""
    reason = "its host has no address"
    for family, kind, protocol, _, address in addresses:
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            raw.connect_ex(address)
            clock.wait(lambda seconds, raw=raw: select.select([], [raw], [raw], seconds)[1:] != ([], []))
            if not (code := raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return raw
            reason = _reason(OSError(code, os.strerror(code)))
        except OSError as error:
            reason = _reason(error)
        except BaseException:
            raw.close()
            raise
        raw.close()
    raise InputError("source_download", f"{name} could not be fetched: {reason}")


def _proxy(target: _Target) -> _Target | None:
    """The proxy that the environment names for a scheme; it is the operator's, so its address is not checked."""
    url = urllib.request.getproxies().get(target.scheme)
    if not url or urllib.request.proxy_bypass(target.host):
        return None
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    return _Target("http", parts.hostname, parts.port, "/") if parts.hostname else None


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _body(response: http.client.HTTPResponse, access: Access, name: str) -> bytes:
    if response.status != 200:
        raise InputError("source_download", f"{name} could not be fetched: HTTP status {response.status}")
    most = min(access.limits.fetch_bytes, access.limits.source_bytes)
    if (response.length or 0) > most:
        raise InputError("source_too_large", f"{name}: {response.length:,} bytes, the limit is {most:,}")
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > most:
            raise InputError("source_too_large", f"{name}: more than the limit of {most:,} bytes")
    if response.length:  # what a response of known length still lacks
        raise InputError("source_download", f"{name}: {len(body):,} of {len(body) + response.length:,} bytes arrived")
    return _decompressed(bytes(body), response.getheader("Content-Encoding") or "", most, name)


def _decompressed(body: bytes, encodings: str, most: int, name: str) -> bytes:
    """The body without the compression that some servers apply unasked."""
    for encoding in reversed([part.strip().lower() for part in encodings.split(",")]):
        if encoding in ("", "identity"):
            continue
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise InputError("source_download", f"{name}: compressed as {encoding[:40]!r}, which was not asked for")
        try:
            stream: Any = io.BytesIO(body)
            if encoding == "deflate":
                # Some servers leave the zlib header out.
                bits = zlib.MAX_WBITS if body[:1] and (body[0] & 15) == 8 else -zlib.MAX_WBITS
                body = zlib.decompressobj(bits).decompress(body, most + 1)
            else:
                with gzip.GzipFile(fileobj=stream) as file:
                    body = file.read(most + 1)
        except (OSError, EOFError, zlib.error):
            raise InputError("source_download", f"{name}: its compressed body is damaged") from None
        if len(body) > most:
            raise InputError("source_too_large", f"{name}: more than the limit of {most:,} bytes, decompressed")
    return body


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, http.client.IncompleteRead):
        return "the body is cut short"
    # OSError's own text repeats addresses and paths; `strerror` is the sentence alone.
    return (getattr(error, "strerror", None) or type(error).__name__).lower()[:160]
