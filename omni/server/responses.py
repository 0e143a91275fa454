"""`/v1/responses`: text, media and results of functions in, text and calls out; nothing is stored."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from omni.errors import InputError
from omni.generation.reply import Reply
from omni.options import GenerationOptions
from omni.prompt.reply_stream import Delta, TextDelta, ToolCallDelta
from omni.prompt.tool_calls import ToolCall
from omni.server.chat import Tickets
from omni.server.chat_request import new_tokens
from omni.server.errors import Refusal, as_refusal, error_body
from omni.server.http import Body, EventStream, attended, event, json_response, read_body, salt_of, service_of
from omni.server.logs import log_failure
from omni.server.response_items import call_item, message_item, messages_of, text_part
from omni.server.settings import ServerSettings

_PLAIN = {"format": {"type": "text"}}


class ResponsesRequest(Body):
    """OpenAI's fields."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        """user safety_identifier metadata store service_tier prompt_cache_key prompt_cache_retention include
        stream_options""".split()
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
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    truncation: str = "disabled"
    cache_salt: str | None = None

    def check(self) -> None:
        """Refuse what would change answers and cannot be done: `unsupported_field`."""
        for name in (self.text or {}).keys() - {"format", "verbosity"}:
            raise Refusal("unknown_field", f"text has no {name[:40]!r}", "text")
        if (self.text or {}).get("verbosity") not in (None, "medium"):
            raise Refusal("unsupported_field", "verbosity would change the answer, and cannot be followed", "text")
        for kind in (tool.get("type") for tool in self.tools):
            if kind != "function":
                raise Refusal("unsupported_field", f"there are no tools of type {str(kind)[:40]!r} here", "tools")
        if self.truncation != "disabled":
            raise Refusal("unsupported_field", "nothing is cut here; send what is to be read", "truncation")

    def messages(self) -> list[dict[str, Any]]:
        """The conversation in the form of a chat.

        Raises:
            Refusal: `unsupported_field`, `bad_field`, as `messages_of`.
        """
        opening = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        if isinstance(self.input, str):
            return [*opening, {"role": "user", "content": self.input}]
        return [*opening, *messages_of(self.input)]

    def prompt(self) -> dict[str, Any]:
        """How the conversation is rendered, as keyword arguments of `ServingEngine.submit`."""
        return {
            "tools": self.tools or None,
            "tool_choice": self.tool_choice,
            "parallel_tool_calls": self.parallel_tool_calls,
        }

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
        tickets.add(await attended(request, service.submit(body.messages(), options, salt, **body.prompt())))
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
            "parallel_tool_calls": body.parallel_tool_calls,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": (body.text or {}).get("format") or _PLAIN["format"]},
            "tool_choice": body.tool_choice,
            "tools": body.tools,
            "top_p": body.top_p,
            "truncation": "disabled",
        }

    def whole(self, reply: Reply) -> dict[str, Any]:
        """All of it at once: its text, where there is any or nothing else, and its calls."""
        is_cut = reply.finish_reason == "length"
        output = [call_item(call, "completed") for call in reply.tool_calls]
        if reply.text or not output:
            output.insert(0, message_item(self._message_id, reply.text, "incomplete" if is_cut else "completed"))
        return self._ended(reply, output)

    def _ended(self, reply: Reply, output: list[dict[str, Any]]) -> dict[str, Any]:
        is_cut = reply.finish_reason == "length"
        usage = reply.usage
        return {
            **self._base,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": output,
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
        (ticket,) = tickets.all
        items = _Items(self._message_id, self._event)
        is_first = True
        try:
            async for piece in tickets.service.steps.events([ticket]):
                if piece is None:
                    yield b": waiting\n\n"
                    continue
                for delta in piece[1]:
                    # Thoughts are not told.
                    if is_first and isinstance(delta, TextDelta | ToolCallDelta):
                        tickets.first_token()
                        is_first = False
                    for told in items.push(delta):
                        yield told
            reply = ticket.reply()
        except InputError as error:
            yield self._failed(begun, error)
            return
        except Exception as error:
            log_failure(error, request_id=self._base["id"])
            yield self._failed(begun, as_refusal(error))
            return
        for told in items.end("incomplete" if reply.finish_reason == "length" else "completed"):
            yield told
        whole = self._ended(reply, items.output)
        yield self._event(f"response.{whole['status']}", response=whole)

    def _failed(self, begun: dict[str, Any], error: InputError) -> bytes:
        told = error_body(error)["error"]
        failed = {**begun, "status": "failed", "error": {"code": told["code"], "message": told["message"]}}
        return self._event("response.failed", response=failed)

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        self._sequence += 1
        return event({"type": kind, "sequence_number": self._sequence - 1, **fields}, kind)


class _Items:
    """The items of an answer that is streamed: one is open at a time.

    Args:
        message_id: of the first message.
        event: writes one event.

    Attributes:
        output: the items that have ended.
    """

    def __init__(self, message_id: str, event: Callable[..., bytes]):
        self._id, self._event, self._text = message_id, event, ""
        self._is_open = False
        self.output: list[dict[str, Any]] = []

    def push(self, delta: Delta) -> Iterator[bytes]:
        """Tell of more text, or of a call."""
        if isinstance(delta, TextDelta) and delta.text:
            yield from self._open()
            self._text += delta.text
            yield self._event("response.output_text.delta", **self._place, delta=delta.text, logprobs=[])
        elif isinstance(delta, ToolCallDelta):
            yield from self._close("completed")
            yield from self._call(delta.call)

    def end(self, status: str) -> Iterator[bytes]:
        """Tell that there is no more; an answer of nothing is an empty message."""
        if not self.output:
            yield from self._open()
        yield from self._close(status)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": len(self.output), "content_index": 0}

    @property
    def _message_id(self) -> str:
        return self._id if not self.output else f"{self._id}_{len(self.output)}"

    def _open(self) -> Iterator[bytes]:
        if self._is_open:
            return
        self._is_open, self._text = True, ""
        item = message_item(self._message_id, None, "in_progress")
        yield self._event("response.output_item.added", output_index=len(self.output), item=item)
        yield self._event("response.content_part.added", **self._place, part=text_part(""))

    def _close(self, status: str) -> Iterator[bytes]:
        if not self._is_open:
            return
        self._is_open = False
        item = message_item(self._message_id, self._text, status)
        yield self._event("response.output_text.done", **self._place, text=self._text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=text_part(self._text))
        yield self._event("response.output_item.done", output_index=len(self.output), item=item)
        self.output.append(item)

    def _call(self, call: ToolCall) -> Iterator[bytes]:
        item, index = call_item(call, "completed"), len(self.output)
        place = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=call_item(call, "in_progress"))
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        yield self._event("response.output_item.done", output_index=index, item=item)
        self.output.append(item)


def _response_format(form: Any) -> Any:
    """The form of an answer as a chat has it: here a schema lies beside its type, there in an envelope."""
    if isinstance(form, dict) and form.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {k: v for k, v in form.items() if k != "type"}}
    return form
