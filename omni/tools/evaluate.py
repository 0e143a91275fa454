"""How many recorded answers a model gives word for word, skill by skill."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from math import sqrt
from statistics import NormalDist
from typing import Any

from omni.errors import InputError, check_batch_size
from omni.media.embedding import Embedding
from omni.model import Model
from omni.prompt.messages import Parsed, parse
from omni.prompt.records import Conversation, Record, naming, size

Message = Mapping[str, Any]
# A model may spell an answer with more tokens than the tokenizer chooses for it.
_SPARE_TOKENS = 8
_DEVIATIONS = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Result:
    """One answer, recorded and given.

    Attributes:
        index: which record, from 0.
        skill: what the record is an example of.
        turn: which of its answers, from 1.
        question: the message before it; a medium is `[image]`, `[audio]` or `[video]`.
        wanted: the recorded answer, without space around it.
        said: the model's, likewise.
    """

    index: int
    skill: str
    turn: int
    question: str
    wanted: str
    said: str

    @property
    def right(self) -> bool:
        """Whether the two are the same, word for word."""
        return self.said == self.wanted

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {**asdict(self), "right": self.right}


@dataclass(frozen=True)
class Score:
    """How well a skill is mastered.

    Attributes:
        skill: its name; "all" for everything together.
        items: answers that were asked for.
        right: those that were given word for word.
    """

    skill: str
    items: int
    right: int

    @property
    def share(self) -> float:
        """The part that is right, from 0 to 1."""
        return self.right / self.items

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share, from 0 to 1."""
        z = _DEVIATIONS**2 / self.items
        middle = self.share + z / 2
        reach = sqrt(z * (self.share * (1 - self.share) + z / 4))
        return max(0.0, (middle - reach) / (1 + z)), min(1.0, (middle + reach) / (1 + z))


def table(results: Sequence[Result]) -> list[Score]:
    """A score for each skill, by name, and last for all results; records without a skill count in the last alone."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.skill, []).append(result)
    groups.pop("all", None)
    rows = [*sorted(groups.items()), *([("all", results)] if results else [])]
    return [Score(skill, len(members), sum(one.right for one in members)) for skill, members in rows]


def turns(conversation: Conversation) -> list[int]:
    """Which messages can be asked for: the assistant's that hold text, and that something comes before.

    Raises:
        InputError: the messages cannot be used.
    """
    messages = parse(conversation).messages
    return [i for i, message in enumerate(messages) if i and message["role"] == "assistant" and _text(message)]


def evaluate(model: Model, records: Sequence[Record], *, batch_size: int = 16) -> Iterator[Result]:
    """Asks for every recorded answer, greedily, given the true conversation before it, and compares word for word.

    Records with like media and of like length are asked together, and each medium is encoded once.

    Args:
        model: a model with a tokenizer.
        records: conversations with their answers.
        batch_size: how many answers are decoded together; they do not depend on it.

    Yields:
        One result for every message that `turns` lists, when its batch is done.

    Raises:
        InputError: `nothing_to_ask`, when no record holds an answer; a record cannot be used, and where its messages or
            media cannot be read or are too long, the error tells which it is, counted from 1.
    """
    check_batch_size(batch_size)
    if model.tokenizer is None:
        raise InputError("no_tokenizer", "answers are text, and the checkpoint directory has no tokenizer")
    asked: list[list[int]] = []
    for i, record in enumerate(records):
        with naming(i):
            asked.append(turns(record.messages))
    parsed = [parse(record.messages) for record in records]
    wanted = [[_text(one.messages[at]) for at in places] for one, places in zip(parsed, asked, strict=True)]
    if not any(wanted):
        raise InputError("nothing_to_ask", "no record holds an answer of the assistant's")
    longest = max(len(model.tokenizer.encode(text)) for texts in wanted for text in texts)
    sizes = [size(record.messages) for record in records]
    order = [i for i, places in enumerate(asked) if places]
    order.sort(key=lambda i: (sizes[i][0], len(asked[i]), sizes[i][1]))
    batch_size = min(batch_size, sum(map(len, asked)))
    histories = _histories(model, parsed, asked, order, batch_size)
    while batch := list(islice(histories, batch_size)):
        # A batch of another size would be another program.
        full = [history for _, _, history in batch + batch[-1:] * (batch_size - len(batch))]
        try:
            replies = model.generate(full, max_new_tokens=longest + _SPARE_TOKENS, temperature=0, batch_size=batch_size)
        except InputError:
            for i, _, history in batch:  # which of them it is
                with naming(i):
                    model.generate(history, max_new_tokens=1, temperature=0)
            raise
        for (i, turn, history), reply in zip(batch, replies, strict=False):
            question, said = _text(history[-1]), reply.text.strip()
            yield Result(i, records[i].skill, turn + 1, question, wanted[i][turn], said)


def _histories(
    model: Model, parsed: Sequence[Parsed], asked: Sequence[Sequence[int]], order: Sequence[int], batch_size: int
) -> Iterator[tuple[int, int, list[Message]]]:
    """Which record, which of its answers, and the messages before that, media encoded; first answers come first."""
    encoded = model.media.try_stream((medium for i in order for medium in parsed[i].media), batch_size)
    for start in range(0, len(order), batch_size):
        window = order[start : start + batch_size]
        conversations = {}
        for i in window:
            with naming(i):
                conversations[i] = [_with_embeddings(message, encoded) for message in parsed[i].messages]
        for turn in range(max(len(asked[i]) for i in window)):
            for i in window:
                if turn < len(asked[i]):
                    yield i, turn, conversations[i][: asked[i][turn]]


def _with_embeddings(message: Message, encoded: Iterator[Embedding | InputError]) -> Message:
    """A message as `parse` gives it, the next embeddings in the places of its media."""
    if isinstance(message["content"], str):
        return message
    parts = []
    for part in message["content"]:
        if part["type"] != "text":
            embedding = next(encoded)
            if isinstance(embedding, InputError):
                raise embedding
            part = {"type": part["type"], part["type"]: embedding}
        parts.append(part)
    return {**message, "content": parts}


def _text(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content.strip()
    return "".join(part["text"] if part["type"] == "text" else f"[{part['type']}] " for part in content).strip()
