"""What every request passes through: its id, its key, its host, the size of its body, its line in the log."""

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from omni.server.errors import ClientGone, Refusal, as_refusal, error_response, status_of
from omni.server.logs import log, log_failure
from omni.server.metrics import Metrics
from omni.server.settings import ServerSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
# Bytes for which a body may take one second more.
_BYTES_A_SECOND = 64 << 10
_UPLOADS = "/v1/audio/"
_SECURITY = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Gate:
    """An ASGI application around another.

    Args:
        app: what answers.
        settings: keys, hosts, origins and sizes.
        metrics: where requests are counted.
        open_paths: asked for without a key.
        endpoint: from a path to the name that it is counted under.
    """

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        metrics: Metrics,
        open_paths: frozenset[str],
        endpoint: Callable[[str], str],
    ):
        self._app, self._settings, self._metrics = app, settings, metrics
        self._open_paths, self._endpoint = open_paths, endpoint
        self._keys = [sha256(key.encode()).digest() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)  # pyright: ignore[reportArgumentType]
        given = headers.get("x-request-id", "")
        request_id = given if _ID.match(given) else uuid.uuid4().hex
        scope["omni.request_id"], scope["omni.fields"] = request_id, {}
        added = {"x-request-id": request_id, **_SECURITY, **self._cors(headers)}
        status, began = 0, time.perf_counter()

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in added.items() if k.encode() not in names]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            if scope["method"] == "OPTIONS" and "access-control-allow-origin" in added:
                await Response(status_code=204)(scope, receive, answer)  # pyright: ignore[reportArgumentType]
            else:
                self._check(scope, headers)
                await self._app(scope, self._bounded(scope["path"], headers, receive), answer)
        except (ClientGone, OSError, asyncio.CancelledError) as error:
            status = status or 499
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:
            refusal = as_refusal(error)
            if refusal.code == "internal_error":
                log_failure(error, request_id=request_id)
            scope["omni.fields"]["code"] = refusal.code
            if status:
                raise ClientGone from None  # the answer has begun, and ends here
            await error_response(refusal)(scope, receive, answer)  # pyright: ignore[reportArgumentType]
            status = status_of(refusal)
        finally:
            self._tell(scope, status or 499, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint = self._endpoint(scope["path"])
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.seconds.labels(endpoint).observe(seconds)
        quiet = endpoint in ("/health", "/ready", "/metrics") and status < 400
        log(
            "request",
            logging.DEBUG if quiet else logging.INFO,
            request_id=scope["omni.request_id"],
            method=scope["method"][:16],
            endpoint=endpoint,
            status=status,
            seconds=round(seconds, 4),
            **scope["omni.fields"],
        )

    def _cors(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None or origin not in self._settings.cors_origins:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-headers": "authorization, content-type, x-request-id",
            "access-control-allow-methods": "GET, POST",
            "access-control-expose-headers": "x-request-id, retry-after",
            "vary": "Origin",
        }

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Refuses strangers, and requests whose pages' names were made to lead here."""
        allowed = self._settings.allowed_hosts
        if allowed and _host_name(headers.get("host", "")) not in allowed:
            raise Refusal("host_not_allowed", "this server is not asked by that name; allow it with --allow-host")
        scope["omni.salt"] = ""
        if not self._keys:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = sha256((key.strip() if scheme.lower() == "bearer" else "").encode()).digest()
        # Every key is compared, each in the same time: how long it takes tells nothing.
        matches = [hmac.compare_digest(digest, one) for one in self._keys]
        if scope["path"] in self._open_paths:
            return
        if not any(matches):
            raise Refusal("invalid_api_key", "give a valid API key, as Authorization: Bearer KEY")
        if not self._settings.share_cache:
            scope["omni.salt"] = digest.hex()
        scope["omni.fields"]["key"] = matches.index(True)

    def _bounded(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """The body, refused where it is too long or too slow, while it is read."""
        most = self._settings.upload_bytes if path.startswith(_UPLOADS) else self._settings.body_bytes
        too_large = Refusal("body_too_large", f"the body has more than {most:,} bytes")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large
        size, whole, began = 0, False, time.monotonic()

        async def read() -> MutableMapping[str, Any]:
            nonlocal size, whole
            if whole:
                return await receive()
            left = self._settings.body_seconds + size / _BYTES_A_SECOND - (time.monotonic() - began)
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                raise Refusal("body_too_slow", "the body took too long to arrive") from None
            size += len(message.get("body", b""))
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            if size > most:
                raise too_large
            return message

        return read


def _host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
