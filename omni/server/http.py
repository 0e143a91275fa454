"""Bodies in, answers out: JSON with fields that are known, streams of events, and clients that leave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

import pydantic
import pydantic_core
from starlette.requests import Request
from starlette.responses import Response

from omni.server.errors import ClientGone, Refusal
from omni.server.logs import log
from omni.server.service import Service

T = TypeVar("T")
B = TypeVar("B", bound="Body")
# Bodies that are parsed in a thread: the event loop has others to serve.
_LARGE = 1 << 18
_LOGGED_CHARACTERS = 4096


class Body(pydantic.BaseModel):
    """A JSON body: a field of None is as good as absent, and one that is not known is refused.

    Attributes:
        HARMLESS: fields that others send and that change no result; they are not read.
        REFUSED: fields that would, and what to do instead.
    """

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    HARMLESS: ClassVar[frozenset[str]] = frozenset()
    REFUSED: ClassVar[Mapping[str, str]] = {}


def service_of(request: Request) -> Service:
    """The model that a request is for."""
    return request.scope["omni.service"]


def salt_of(request: Request, salt: str | None = None) -> str:
    """What a request's caches are kept apart by: its key, and what it brings of its own."""
    return request.scope["omni.salt"] + (f"/{salt}" if salt else "")


def note(request: Request, **fields: Any) -> None:
    """Tell more in the request's line of the log."""
    request.scope["omni.fields"].update(fields)


async def read_body(request: Request, kind: type[B]) -> B:
    """The JSON body of a request.

    Raises:
        Refusal: `not_json`, `bad_json`, `missing_field`, `unknown_field`, `bad_field`, or the codes of the gate.
    """
    # A page of another site can send a form or plain text here without asking; JSON it cannot.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal("not_json", "send JSON, with Content-Type: application/json")
    data = await request.body()
    service = service_of(request)
    if service.settings.log_prompts:
        text = data[:_LOGGED_CHARACTERS].decode("utf-8", "replace")
        log("body", request_id=request.scope["omni.request_id"], body=text)
    if len(data) > _LARGE and service.status == "ready":
        return await service.call(parse_body, data, kind)
    return parse_body(data, kind)


def parse_body(data: bytes, kind: type[B]) -> B:
    """JSON as a body of a kind; see `read_body`."""
    try:
        raw = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal("bad_json", f"the body is not JSON: {str(error)[:120]}") from None
    if not isinstance(raw, dict):
        raise Refusal("bad_json", "the body must be a JSON object")
    given = {name: value for name, value in raw.items() if value is not None and name not in kind.HARMLESS}
    for name, remedy in kind.REFUSED.items():
        if name in given:
            raise Refusal("unsupported_field", f"{name} is not supported: {remedy}", name)
    try:
        return kind.model_validate(given)
    except pydantic.ValidationError as error:
        raise _refused(error, kind) from None


def _refused(error: pydantic.ValidationError, kind: type[Body]) -> Refusal:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part)[:60] for part in first["loc"])[:200]
    if first["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields)
        return Refusal("unknown_field", f"there is no field {name!r} here; there are {known}", name)
    if first["type"] == "missing":
        return Refusal("missing_field", f"the field {name!r} is missing", name)
    return Refusal("bad_field", f"{name}: {first['msg'][:200]}", name)


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON answer; NaN, which JSON does not have, is a failure here and not at the client."""
    return Response(to_json(content), status, media_type="application/json")


def to_json(content: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def event(content: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    return (b"" if name is None else f"event: {name}\n".encode()) + b"data: " + to_json(content) + b"\n\n"


async def attended(request: Request, work: Awaitable[T]) -> T:
    """What work gives; where the client leaves before, the work is cancelled.

    Raises:
        ClientGone: nobody waits for the answer.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        await _end(task, gone)


class EventStream(Response):
    """An answer of server-sent events, which ends where the client leaves.

    Args:
        events: made one after the other.
        close: called when the answer has ended, one way or the other.
    """

    def __init__(self, events: AsyncGenerator[bytes], close: Callable[[], None]):
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        self.raw_headers = [(k, v) for k, v in self.raw_headers if k != b"content-length"]
        self.raw_headers.append((b"content-type", b"text/event-stream; charset=utf-8"))
        self._events, self._close = events, close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        task, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientGone
            task.result()
        finally:
            await _end(task, gone)
            await self._events.aclose()
            self._close()

    async def _send(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._events:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
