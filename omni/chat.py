"""A conversation that remembers: later turns read only what is new, and no medium is encoded twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omni.encoding import as_medium
from omni.errors import InputError, shown
from omni.generation.engine import Session
from omni.generation.run import Row, run, text_stream
from omni.inputs import Inputs
from omni.messages import parse
from omni.reply import Reply, reply
from omni.spoken import Spoken, spoken
from processors import Access

if TYPE_CHECKING:
    from omni.model import Model

_READING = ("limits", "sources", "deadline")
_OPTIONS = frozenset(("max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop", *_READING))


class Chat:
    """One conversation with a model. Made by `Model.chat`.

    Attributes:
        messages: the conversation so far, as the user gave it and the model answered.
        reply: the last reply, whole, also after `stream`.
    """

    def __init__(self, model: "Model", system: str | None = None, **options: Any):
        _check_options(options)
        self._model, self._options = model, options
        self.messages: list[dict[str, Any]] = []
        self.reply: Reply | None = None
        # The same conversation with every medium replaced by its embedding.
        self._encoded: list[dict[str, Any]] = []
        self._session: Session | None = None
        self._read: Inputs | None = None
        self._spoken: Spoken | None = None
        if system is not None:
            self._append({"role": "system", "content": system})

    def send(self, text: str | Sequence[Mapping[str, Any] | str], *media: Any, **options: Any) -> Reply:
        """Says something and waits for the answer.

        Args:
            text: what to say; or a whole content list of parts, for media between words.
            media: pictures, recordings or clips that go before the text.
            options: as in `Model.generate`, for this turn.

        Raises:
            InputError: something cannot be used; the conversation stays as it was.
        """
        for _ in self.stream(text, *media, **options):
            pass
        assert self.reply is not None
        return self.reply

    def stream(self, text: str | Sequence[Mapping[str, Any] | str], *media: Any, **options: Any) -> Iterator[str]:
        """Says something and gives the answer piece by piece; arguments are those of `send`.

        The turn joins the conversation when the answer ends, or when the caller stops listening; not when it fails.
        """
        _check_options(options)
        chosen = {"max_new_tokens": 512, "stop": (), **self._options, **options}
        access = self._model.access(*(chosen.get(name) for name in _READING))
        full = self._model.options(
            1,
            chosen["max_new_tokens"],
            chosen.get("temperature"),
            chosen.get("top_p"),
            chosen.get("top_k"),
            chosen.get("seed"),
            chosen["stop"],
            deadline=access.deadline,
        )
        row = Row(text_stream(self._model.tokenizer, full.stop))
        given, encoded = self._user_message(text, media, access)
        return self._pieces(given, encoded, row, full, access)

    def _pieces(self, given: dict, encoded: dict, row: Row, options: Any, access: Access) -> Iterator[str]:
        # Only now: another turn may have joined since the stream was made.
        inputs = self._model.prepare_turn([*self._encoded, encoded], self._spoken, access)
        cached, session = self._prefill(inputs)
        try:
            for _, piece in run(self._model.engine, session, [row], options):
                yield piece
        except GeneratorExit:
            # Left in the middle: what was said so far stands.
            pass
        assert row.text is not None
        self._session, self._read = session, self._after(inputs, row, session)
        if inputs.prompt is not None and self._model.tokenizer is not None:
            answer = row.text.text
            self._spoken = spoken(inputs.prompt, inputs.prompt_ids, answer, row.token_ids, self._model.tokenizer)
        self._append(given, encoded)
        self._append({"role": "assistant", "content": row.text.text})
        self.reply = reply(row, len(inputs.token_ids), cached)
        self._model.warn_if_untrained()

    def _prefill(self, inputs: Inputs) -> tuple[int, Session]:
        """Reads what the cache does not hold yet; returns how many tokens it held, and the session."""
        session, read = self._session, self._read
        # Until this turn is through, the cache is in pieces: after a failure the next turn starts afresh.
        self._session = self._read = None
        prompt = inputs.to_prompt()
        if session is None or read is None:
            return 0, self._model.engine.start([prompt])
        # At least one token must be read, to know what follows it.
        held = min(read.shared_prefix(inputs), len(prompt) - 1)
        held = session.rewind(held)
        self._model.engine.extend(session, [prompt], [held])
        return held, session

    @staticmethod
    def _after(inputs: Inputs, row: Row, session: Session) -> Inputs:
        """What the cache holds at the end of a turn: the prompt and the answer's tokens that were read back."""
        extra = row.token_ids[: int(session.lengths[0]) - len(inputs.token_ids)]
        return inputs.followed_by(extra)

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
        # Parsed parts have their types; the embeddings take the media's places, once and for all turns.
        parsed = parse([message])
        embeddings = iter(list(self._model.media.stream(parsed.media, 8, access)))
        embedded = [
            part if part["type"] == "text" else {"type": part["type"], part["type"]: next(embeddings)}
            for part in parsed.messages[0]["content"]
        ]
        return message, {"role": "user", "content": embedded}

    def _append(self, given: dict[str, Any], encoded: dict[str, Any] | None = None) -> None:
        self.messages.append(given)
        self._encoded.append(given if encoded is None else encoded)


def _check_options(options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise TypeError(f"unknown options {', '.join(unknown)}; there are {', '.join(sorted(_OPTIONS))}")
