"""A batch of replies being written: engine steps on one side, text pieces on the other."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from omni.config import GenerationConfig
from omni.errors import InputError, is_whole, shown
from omni.generation.engine import Engine, Session
from omni.generation.sampling import Sampling
from omni.generation.text import TextStream
from omni.tokenizer import Tokenizer
from processors import Deadline


@dataclass(frozen=True)
class Options:
    """Everything a caller chooses about generation.

    Attributes:
        sampling: how to choose tokens.
        seeds: one a conversation.
        max_new_tokens: most tokens a reply.
        stop: strings that end a reply.
        ends: token ids that end a reply.
        deadline: when the replies must be through.
    """

    sampling: Sampling
    seeds: tuple[int, ...]
    max_new_tokens: int
    stop: tuple[str, ...]
    ends: frozenset[int]
    deadline: Deadline = field(default_factory=Deadline)

    def __post_init__(self) -> None:
        if not is_whole(self.max_new_tokens) or self.max_new_tokens < 1:
            raise InputError(
                "bad_max_new_tokens",
                f"max_new_tokens must be a whole number of 1 or more, got {shown(self.max_new_tokens)}",
            )
        for seed in self.seeds:
            if not is_whole(seed) or not 0 <= seed < 1 << 32:
                raise InputError("bad_seed", f"a seed must be a whole number from 0 to 4294967295, got {shown(seed)}")
        for string in self.stop:
            if not isinstance(string, str):
                raise InputError("bad_stop", f"stop must be a string or a list of strings, got {shown(string)} in it")

    @classmethod
    def fill(
        cls,
        default: GenerationConfig,
        conversations: int,
        max_new_tokens: int,
        temperature: float | None,
        top_p: float | None,
        top_k: int | None,
        seed: int | Sequence[int] | None,
        stop: Sequence[str],
        deadline: Deadline,
    ) -> "Options":
        """Fill in a checkpoint's defaults; a sampling option where the default is greedy turns sampling on."""
        if temperature is None:
            temperature = default.temperature or (1.0 if top_p is not None or top_k is not None else 0.0)
        sampling = Sampling(
            temperature, default.top_p if top_p is None else top_p, default.top_k if top_k is None else top_k
        )
        if seed is None:
            seeds = [secrets.randbits(32) for _ in range(conversations)]
        else:
            several = isinstance(seed, list | tuple) or (isinstance(seed, np.ndarray) and seed.ndim == 1)
            seeds = list(seed) if several else [seed] * conversations  # type: ignore[arg-type]
        if len(seeds) != conversations:
            raise InputError("bad_seed", f"{len(seeds)} seeds were given for {conversations} conversations")
        # Every seed and string is checked: what a caller passes may be anything.
        strings: tuple[Any, ...] = tuple(stop) if isinstance(stop, list | tuple) else (stop,)
        each: tuple[Any, ...] = tuple(seeds)
        return cls(sampling, each, max_new_tokens, strings, frozenset(default.eos_token_ids), deadline)


@dataclass(eq=False)
class Row:
    """One reply in the making."""

    text: TextStream | None
    token_ids: list[int] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "length"


def run(engine: Engine, session: Session, rows: Sequence[Row], options: Options) -> Iterator[tuple[int, str]]:
    """Decodes until every row has ended; yields (row, piece of text) as pieces become showable.

    Args:
        engine: the engine that prefilled the session.
        session: one row of the cache for each of `rows`.
        rows: filled in place.
        options: what the caller chose.
    """
    active = np.ones(len(rows), bool)
    steps = engine.decode(session, options.sampling, options.seeds, options.max_new_tokens, options.ends, active)
    for tokens in steps:
        options.deadline.check()
        for i in np.nonzero(tokens >= 0)[0].tolist():
            row, token = rows[i], int(tokens[i])
            if token in options.ends:
                row.finish_reason = "stop"
                continue
            row.token_ids.append(token)
            if row.text is None:
                continue
            piece = row.text.push(token)
            if row.text.stopped:
                row.finish_reason, active[i] = "stop", False
            if piece:
                yield i, piece
    for i, row in enumerate(rows):
        if row.text is not None and (piece := row.text.flush()):
            yield i, piece


def text_stream(tokenizer: Tokenizer | None, stop: Sequence[str]) -> TextStream | None:
    """A text stream where there is a tokenizer; stop strings need one."""
    if tokenizer is None:
        if stop:
            raise InputError("no_tokenizer", "stop strings need a tokenizer, and the checkpoint directory has none")
        return None
    return TextStream(tokenizer, stop)
