"""A conversation that remembers: later turns read only what is new, and no medium is encoded twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

from omni.call_options import ChatOptions
from omni.errors import InputError, shown
from omni.generation.reply import Reply
from omni.generation.ticket import Ticket
from omni.media.encoder import as_medium
from omni.options import OPTIONS, GenerationOptions
from omni.prompt.inputs import Inputs
from omni.prompt.messages import parse
from omni.prompt.token_reuse import ReusableTokens, reusable_tokens
from omni.runtime import PROMPT_OPTIONS, Chosen, Runtime
from processors import Access
from processors.notebook import shortened

_Messages = list[dict[str, Any]]
# A turn always begins anew: it goes on with no message.
_OPTIONS = OPTIONS | {"limits", "sources"} | PROMPT_OPTIONS - {"continue_final_message"}


class Chat:
    """One conversation with a model. Made by `Model.chat`.

    Attributes:
        messages: the conversation so far, as the user gave it and the model answered.
        reply: the last reply, whole, also after `stream`.
    """

    def __init__(self, model: Runtime, system: str | None = None, **options: Unpack[ChatOptions]):
        _check_options(options)
        self._model, self._options = model, options
        self.messages: list[dict[str, Any]] = []
        self.reply: Reply | None = None
        # The same conversation with every medium replaced by its embedding, and the version of the towers it is of.
        self._encoded: list[dict[str, Any]] = []
        self._towers = model.media.version
        self._reusable: ReusableTokens | None = None
        if system is not None:
            self._append({"role": "system", "content": system})

    def __repr__(self) -> str:
        last = "" if self.reply is None else f", last {shortened(self.reply.text, 40)!r}"
        return f"<omni.Chat with {self._model.name!r}: {len(self.messages)} messages{last}>"

    def send(self, text: str | Sequence[Mapping[str, Any] | str], *media: Any, **options: Unpack[ChatOptions]) -> Reply:
        """Says something and waits for the answer.

        Args:
            text: what to say; or a whole content list of parts, for media between words; or messages of role tool, the
                results of the calls in the last reply.
            media: images, audio or videos that go before the text.
            options: as in `Model.generate`, for this turn.

        Raises:
            InputError: something cannot be used; the conversation stays as it was.
        """
        for _ in self.stream(text, *media, **options):
            pass
        assert self.reply is not None
        return self.reply

    def stream(
        self, text: str | Sequence[Mapping[str, Any] | str], *media: Any, **options: Unpack[ChatOptions]
    ) -> Iterator[str]:
        """Says something and gives the answer piece by piece; arguments are those of `send`.

        The turn joins the conversation when the answer ends, or when the caller stops listening; not when it fails.

        Raises:
            InputError: as `send`; `no_tokenizer`, there is nothing to make text with.
        """
        _check_options(options)
        chosen = self._model.chosen(None, {**self._options, **options})
        written = chosen.one()
        if self._model.tokenizer is None:
            raise InputError("no_tokenizer", "a chat is text, and the checkpoint directory has no tokenizer")
        self._encode_again(chosen.access)
        if (results := _results(text)) and not media:
            return self._pieces(results, results, chosen, written)
        message, encoded = self._user_message(text, media, chosen.access)
        return self._pieces([message], [encoded], chosen, written)

    def _pieces(
        self, given: _Messages, encoded: _Messages, chosen: Chosen, options: GenerationOptions
    ) -> Iterator[str]:
        # Only now: another turn may have joined since the stream was made.
        turn, access = [*self._encoded, *encoded], chosen.access
        inputs = self._model.prepare_turn(turn, self._reusable, access, chosen.prompt)
        ticket = self._model.generator.ticket(inputs, options, access.deadline)
        pieces = iter(ticket)
        try:
            yield from pieces
        except GeneratorExit:
            # Left in the middle: what was said so far stands.
            pass
        self._join(given, encoded, inputs, ticket)
        self._model.warn_if_untrained()

    def _join(self, given: _Messages, encoded: _Messages, inputs: Inputs, ticket: Ticket) -> None:
        """The turn becomes part of the conversation."""
        reply = ticket.partial()
        if inputs.prompt is not None and self._model.tokenizer is not None:
            tokens = reply.token_ids
            self._reusable = reusable_tokens(
                inputs.prompt, inputs.prompt_ids, reply.raw_text, tokens, self._model.tokenizer
            )
        for message, with_embeddings in zip(given, encoded, strict=True):
            self._append(message, with_embeddings)
        self._append(self._answer(reply))
        self.reply = reply

    def _answer(self, reply: Reply) -> dict[str, Any]:
        message = reply.message
        if "reasoning_content" in message and "reasoning_content" not in self._model.template.program.names:
            # The template looks for thoughts in the content.
            thought = message.pop("reasoning_content")
            message["content"] = f"<think>\n{thought}\n</think>\n\n{reply.text}"
        return message

    def _user_message(self, text: Any, media: Sequence[Any], access: Access) -> tuple[dict[str, Any], dict[str, Any]]:
        if isinstance(text, str):
            if not media:
                message = {"role": "user", "content": text}
                return message, message
            wrapped = [as_medium(medium, access) for medium in media]
            kinds = [getattr(m, "kind", type(m).__name__.lower()) for m in wrapped]
            given = [{"type": kind, kind: medium} for kind, medium in zip(kinds, wrapped, strict=True)]
            content = [*given, {"type": "text", "text": text}]
        elif media:
            raise InputError("bad_messages", "give either text and media, or one content list that holds both")
        elif isinstance(text, list | tuple):
            content = list(text)
        else:
            raise InputError("bad_messages", f"say a string or a list of parts, got {shown(text)}")
        message = {"role": "user", "content": content}
        return message, self._embedded(message, access)

    def _encode_again(self, access: Access) -> None:
        """Encodes the media of earlier turns anew where a tower was edited since."""
        towers = self._model.media.version
        if towers != self._towers:
            encoded = [m if isinstance(m["content"], str) else self._embedded(m, access) for m in self.messages]
            self._encoded, self._towers = encoded, towers

    def _embedded(self, message: dict[str, Any], access: Access) -> dict[str, Any]:
        # Parsed parts have their types; the embeddings take the media's places, once and for all turns.
        parsed = parse([message])
        embeddings = iter(list(self._model.media.stream(parsed.media, 8, access, cache=self._model.media_cache)))
        embedded = [
            part if part["type"] == "text" else {"type": part["type"], part["type"]: next(embeddings)}
            for part in parsed.messages[0]["content"]
        ]
        return {"role": message["role"], "content": embedded}

    def _append(self, given: dict[str, Any], encoded: dict[str, Any] | None = None) -> None:
        self.messages.append(given)
        self._encoded.append(given if encoded is None else encoded)


def _results(text: Any) -> _Messages:
    """Messages of role tool that are given in the place of a content list; none where it is one."""
    if not isinstance(text, list | tuple):
        return []
    messages: _Messages = [dict(message) for message in text if isinstance(message, Mapping)]
    is_results = len(messages) == len(text) and all(message.get("role") == "tool" for message in messages)
    return messages if is_results else []


def _check_options(options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise TypeError(f"unknown options {', '.join(unknown)}; there are {', '.join(sorted(_OPTIONS))}")
