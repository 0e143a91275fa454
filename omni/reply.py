"""What generation returns."""

from dataclasses import dataclass
from typing import Literal

from omni.generation.run import Row


@dataclass(frozen=True)
class Usage:
    """Tokens read and written.

    Attributes:
        prompt_tokens: tokens of the conversation, media included.
        cached_tokens: of those, the ones that an earlier turn had already read.
        completion_tokens: tokens of the reply, the end token not counted.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Reply:
    """One generated answer.

    Attributes:
        text: the answer, without control tokens and cut at a stop string; empty without a tokenizer.
        token_ids: the generated ids, without the end token.
        finish_reason: `stop` at an end token or stop string, `length` at `max_new_tokens`.
        usage: tokens read and written.
    """

    text: str
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]
    usage: Usage


def reply(row: Row, prompt_tokens: int, cached_tokens: int) -> Reply:
    """A finished row as a reply."""
    text = row.text.text if row.text is not None else ""
    return Reply(text, row.token_ids, row.finish_reason, Usage(prompt_tokens, cached_tokens, len(row.token_ids)))
