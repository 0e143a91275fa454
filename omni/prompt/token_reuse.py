"""Keeps the very tokens of an answer in the prompts of later turns.

A model may spell its answer with other tokens than the tokenizer would choose for the same text. Encoded afresh, the
answer would then differ from what the cache holds, and all after it would be read again.
"""

from dataclasses import dataclass

from omni.prompt.template import Rendered
from omni.prompt.tokenizer import Tokenizer


@dataclass(frozen=True)
class ReusableTokens:
    """A conversation up to the end of an answer.

    Attributes:
        plain: its rendered text, without marks.
        prompt_ids: its tokens, each medium one placeholder.
    """

    plain: str
    prompt_ids: tuple[int, ...]


def reusable_tokens(
    plain: str, prompt_ids: tuple[int, ...], answer: str, answer_ids: list[int], tokenizer: Tokenizer
) -> ReusableTokens | None:
    """A prompt and its answer; None where the answer's tokens do not spell its text, or hold a control token."""
    control = set(tokenizer.control_tokens.values())
    if any(token in control for token in answer_ids) or tokenizer.decode(answer_ids) != answer:
        return None
    return ReusableTokens(plain + answer, (*prompt_ids, *answer_ids))


def encode_after(
    rendered: Rendered, tokenizer: Tokenizer, before: ReusableTokens | None, most: int | None = None
) -> list[int]:
    """The tokens of a prompt, up to so many, with those of what was spoken before as they were.

    A template that changes earlier turns, and a prompt that goes on without a control token, are encoded afresh.
    """
    if before is None or not rendered.plain.startswith(before.plain):
        return tokenizer.encode_prompt(rendered.text, rendered.mark, most)
    rest = rendered.cut([len(before.plain)])[1]
    if not rest.startswith(tuple(tokenizer.control_tokens)):
        return tokenizer.encode_prompt(rendered.text, rendered.mark, most)
    return [*before.prompt_ids, *tokenizer.encode_prompt(rest, rendered.mark, most)]
