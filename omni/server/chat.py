"""`/v1/chat/completions`: whole replies, and replies streamed as events."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from omni.errors import InputError
from omni.generation.reply import Reply
from omni.generation.scheduler import TokenLogprobs
from omni.generation.ticket import Ticket
from omni.prompt.reply_stream import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from omni.prompt.tokenizer import Tokenizer
from omni.server.chat_request import ChatRequest
from omni.server.errors import as_refusal, error_body
from omni.server.http import EventStream, attended, event, json_response, note, read_body, salt_of, service_of
from omni.server.logs import log_failure
from omni.server.metrics import Metrics


class Tickets:
    """The replies to one request, and what becomes of them when it ends.

    Args:
        request: that they answer.
        replies: how many.
    """

    def __init__(self, request: Request, replies: int = 1):
        self.request, self.service = request, service_of(request)
        self.all: list[Ticket] = []
        self._began, self._metrics = time.perf_counter(), metrics_of(request)
        self._stack = ExitStack()
        self._stack.enter_context(self.service.place(replies))

    def add(self, ticket: Ticket) -> None:
        """Take charge of a reply."""
        self.all.append(ticket)

    def first_token(self) -> None:
        """A first piece of text is there."""
        self._metrics.first_token.observe(time.perf_counter() - self._began)

    def close(self) -> None:
        """Cancel what still runs, and count what was written."""
        for ticket in self.all:
            ticket.cancel()
            usage = ticket.partial().usage
            self._metrics.count(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        if self.all:
            note(self.request, **usage_of([ticket.partial() for ticket in self.all], flat=True))
        self._stack.close()


def metrics_of(request: Request) -> Metrics:
    """Where a request is counted."""
    return request.scope["omni.metrics"]


async def chat(request: Request) -> Response:
    """Answer a conversation."""
    body = await read_body(request, ChatRequest)
    service = service_of(request)
    tickets = Tickets(request, max(1, min(body.n, 16)))
    try:
        service.check_model(body.model)
        body.check()

        salt = salt_of(request, body.cache_salt)

        async def submit() -> None:
            for index in range(body.n):
                options = body.options(service.settings, index)
                tickets.add(await service.submit(body.messages, options, salt, **body.prompt()))

        await attended(request, submit())
        writer = ChatWriter(request, body, service.name, service.model.tokenizer)
        if body.stream:
            return EventStream(writer.stream(tickets), tickets.close)

        async def finish() -> list[Reply]:
            for ticket in tickets.all:
                await service.steps.done(ticket)
            return [ticket.reply() for ticket in tickets.all]

        answer = json_response(writer.whole(await attended(request, finish())))
    except BaseException:
        tickets.close()
        raise
    tickets.close()
    return answer


class ChatWriter:
    """Replies as OpenAI's clients read them.

    Args:
        request: for its id.
        body: what was asked.
        model: the model's name.
        tokenizer: for the text of tokens.
    """

    def __init__(self, request: Request, body: ChatRequest, model: str, tokenizer: Tokenizer | None):
        self._body, self._tokenizer = body, tokenizer
        self._head = {"id": "chatcmpl-" + request.scope["omni.request_id"], "created": int(time.time()), "model": model}

    def whole(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """All replies at once."""
        choices = [
            {
                "index": index,
                "message": self._message(reply),
                "logprobs": self._logprobs(zip(reply.token_ids, reply.logprobs or (), strict=False)),
                "finish_reason": reply.finish_reason,
            }
            for index, reply in enumerate(replies)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": usage_of(replies)}

    async def stream(self, tickets: Tickets) -> AsyncGenerator[bytes]:
        """The events of all replies, in the order in which they are written."""
        for index in range(len(tickets.all)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        told = [0] * len(tickets.all)
        is_first = True
        try:
            async for piece in tickets.service.steps.events(tickets.all):
                if piece is None:
                    yield b": waiting\n\n"
                    continue
                index, deltas, is_done = piece
                ticket = tickets.all[index]
                if is_first:
                    tickets.first_token()
                    is_first = False
                logprobs = ticket.logprobs(told[index]) if self._body.logprobs else ()
                told[index] += len(logprobs)
                for delta in deltas or ([TextDelta("")] if logprobs else []):
                    yield self._chunk(index, _delta(delta), self._logprobs(logprobs))
                    logprobs = ()
                if is_done:
                    yield self._chunk(index, {}, None, ticket.reply().finish_reason)
            if self._body.stream_options.include_usage:
                usage = usage_of([ticket.reply() for ticket in tickets.all])
                yield event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        except InputError as error:
            yield event(error_body(error))
        except Exception as error:
            log_failure(error, request_id=self._head["id"])
            yield event(error_body(as_refusal(error)))
        yield b"data: [DONE]\n\n"

    def _message(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.reasoning is not None:
            message["reasoning_content"] = reply.reasoning
        if reply.tool_calls:
            message["content"] = reply.text or None
            message["tool_calls"] = [call.to_message() for call in reply.tool_calls]
        return message

    def _chunk(self, index: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return event(chunk | ({"usage": None} if self._body.stream_options.include_usage else {}))

    def _logprobs(self, tokens: Any) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        return {"content": [self._token(token, known) for token, known in tokens], "refusal": None}

    def _token(self, token: int, known: TokenLogprobs) -> dict[str, Any]:
        top = [self._one(*pair) for pair in known.top]
        return {**self._one(token, known.logprob), "top_logprobs": top}

    def _one(self, token: int, logprob: float) -> dict[str, Any]:
        data = b"" if self._tokenizer is None else self._tokenizer.token_bytes(token, skip_special=False)
        # JSON has no infinity: a token that cannot be chosen.
        return {"token": data.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(data)}


def _delta(delta: Delta) -> dict[str, Any]:
    """An event of a reply as a stream has it."""
    if isinstance(delta, ReasoningDelta):
        return {"reasoning_content": delta.text}
    if isinstance(delta, ToolCallDelta):
        return {"tool_calls": [{"index": delta.index, **delta.call.to_message()}]}
    return {"content": delta.text}


def usage_of(replies: Sequence[Reply], *, flat: bool = False) -> dict[str, Any]:
    """Tokens of replies to one prompt, in OpenAI's form, or as fields of a log."""
    prompt, written = replies[0].usage.prompt_tokens, sum(reply.usage.completion_tokens for reply in replies)
    cached = replies[0].usage.cached_tokens
    if flat:
        return {"prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": written}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
