"""What generation returns."""

from dataclasses import dataclass
from typing import Literal


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
