"""`/v1/responses`: text and media in, text out; nothing is stored."""

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from omni.errors import InputError
from omni.generation.reply import Reply
from omni.generation.ticket import Ticket
from omni.options import GenerationOptions
from omni.prompt.reply_stream import TextDelta
from omni.server.chat import Tickets
from omni.server.chat_request import new_tokens
from omni.server.errors import Refusal, as_refusal, error_body
from omni.server.http import Body, EventStream, attended, event, json_response, read_body, salt_of, service_of
from omni.server.logs import log_failure
from omni.server.settings import ServerSettings

# What a message of an earlier answer has beside its role and content.
_BESIDE = frozenset(("type", "id", "status"))
_PLAIN = {"format": {"type": "text"}}


class ResponsesRequest(Body):
    """OpenAI's fields."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        """user safety_identifier metadata store service_tier prompt_cache_key prompt_cache_retention include
        parallel_tool_calls stream_options""".split()
    )
    REFUSED: ClassVar[Mapping[str, str]] = {
        "previous_response_id": "nothing is stored here; send the whole conversation",
        "conversation": "nothing is stored here; send the whole conversation",
        "prompt": "nothing is stored here; send the text",
        "background": "wait for the answer, or stream it",
        "reasoning": "leave it out",
    }

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool = False
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] = "auto"
    truncation: str = "disabled"
    cache_salt: str | None = None

    def check(self) -> None:
        """Refuse what would change answers and cannot be done: `unsupported_field`."""
        for name in (self.text or {}).keys() - {"format", "verbosity"}:
            raise Refusal("unknown_field", f"text has no {name[:40]!r}", "text")
        if (self.text or {}).get("verbosity") not in (None, "medium"):
            raise Refusal("unsupported_field", "verbosity would change the answer, and cannot be followed", "text")
        if self.tools:
            raise Refusal("unsupported_field", "tools are not offered to this model", "tools")
        if self.truncation != "disabled":
            raise Refusal("unsupported_field", "nothing is cut here; send what is to be read", "truncation")

    def messages(self) -> list[dict[str, Any]]:
        """The conversation in the form of a chat.

        Raises:
            Refusal: `unsupported_field`, an item is no message.
        """
        opening = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        if isinstance(self.input, str):
            return [*opening, {"role": "user", "content": self.input}]
        for item in self.input:
            if item.get("type", "message") != "message":
                raise Refusal("unsupported_field", f"items of type {str(item['type'])[:40]!r} are not read", "input")
        return opening + [{k: v for k, v in item.items() if k not in _BESIDE} for item in self.input]

    def options(self, settings: ServerSettings) -> GenerationOptions:
        """How the answer is written."""
        return GenerationOptions(
            max_new_tokens=new_tokens(None, self.max_output_tokens, settings),
            temperature=self.temperature,
            top_p=self.top_p,
            response_format=_response_format((self.text or {}).get("format")),
            deadline=settings.request_seconds,
        )


async def responses(request: Request) -> Response:
    """Answer a conversation."""
    body = await read_body(request, ResponsesRequest)
    service = service_of(request)
    tickets = Tickets(request)
    try:
        service.check_model(body.model)
        body.check()
        options, salt = body.options(service.settings), salt_of(request, body.cache_salt)
        tickets.add(await attended(request, service.submit(body.messages(), options, salt)))
        writer = _Writer(request, body, service.name)
        if body.stream:
            return EventStream(writer.stream(tickets), tickets.close)
        (ticket,) = tickets.all
        await attended(request, service.steps.done(ticket))
        answer = json_response(writer.whole(ticket.reply()))
    except BaseException:
        tickets.close()
        raise
    tickets.close()
    return answer


class _Writer:
    """An answer as OpenAI's clients read it."""

    def __init__(self, request: Request, body: ResponsesRequest, model: str):
        request_id = request.scope["omni.request_id"]
        self._message_id, self._sequence = f"msg_{request_id}", 0
        self._base = {
            "id": f"resp_{request_id}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": (body.text or {}).get("format") or _PLAIN["format"]},
            "tool_choice": "auto",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
        }

    def whole(self, reply: Reply) -> dict[str, Any]:
        """All of it at once."""
        is_cut = reply.finish_reason == "length"
        usage = reply.usage
        return {
            **self._base,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._message(reply.text, "incomplete" if is_cut else "completed")],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }

    async def stream(self, tickets: Tickets) -> AsyncGenerator[bytes]:
        """Its events."""
        begun = {**self._base, "status": "in_progress", "output": [], "usage": None}
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)
        yield self._event("response.output_item.added", output_index=0, item=self._message(None, "in_progress"))
        place = {"item_id": self._message_id, "output_index": 0, "content_index": 0}
        yield self._event("response.content_part.added", **place, part=_text(""))
        (ticket,) = tickets.all
        try:
            async for piece in self._pieces(tickets, ticket):
                if piece is None:
                    yield b": waiting\n\n"
                else:
                    yield self._event("response.output_text.delta", **place, delta=piece, logprobs=[])
            reply = ticket.reply()
        except InputError as error:
            yield self._failed(begun, error)
            return
        except Exception as error:
            log_failure(error, request_id=self._base["id"])
            yield self._failed(begun, as_refusal(error))
            return
        whole = self.whole(reply)
        yield self._event("response.output_text.done", **place, text=reply.text, logprobs=[])
        yield self._event("response.content_part.done", **place, part=_text(reply.text))
        yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(f"response.{whole['status']}", response=whole)

    async def _pieces(self, tickets: Tickets, ticket: Ticket) -> AsyncGenerator[str | None]:
        is_first = True
        async for piece in tickets.service.steps.events([ticket]):
            if piece is None:
                yield None
                continue
            # Thoughts are not told.
            text = "".join(delta.text for delta in piece[1] if isinstance(delta, TextDelta))
            if text and is_first:
                tickets.first_token()
                is_first = False
            if text:
                yield text

    def _failed(self, begun: dict[str, Any], error: InputError) -> bytes:
        told = error_body(error)["error"]
        failed = {**begun, "status": "failed", "error": {"code": told["code"], "message": told["message"]}}
        return self._event("response.failed", response=failed)

    def _message(self, text: str | None, status: str) -> dict[str, Any]:
        content = [] if text is None else [_text(text)]
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _event(self, name: str, **fields: Any) -> bytes:
        self._sequence += 1
        return event({"type": name, "sequence_number": self._sequence - 1, **fields}, name)


def _response_format(form: Any) -> Any:
    """The form of an answer as a chat has it: here a schema lies beside its type, there in an envelope."""
    if isinstance(form, dict) and form.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}
    return form


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
