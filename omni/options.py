"""Everything a caller chooses about a reply."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import UInt32

from omni.config import GenerationConfig
from omni.errors import InputError, is_number, is_whole, shown
from omni.response_format import ResponseFormat

BIASES = 512
"""Most tokens whose scores a row may move."""
REPLIES = 128
"""Most replies to one conversation."""
TOP_LOGPROBS = 20
"""Most alternatives whose log-probabilities are told."""


@dataclass(frozen=True, eq=False)
class Adjustments:
    """What one row does to its scores.

    Attributes:
        repetition_penalty: scores of tokens that the prompt or the reply holds are divided by this where they are above
            0, and multiplied where below (arXiv:1909.05858).
        presence_penalty: taken off the scores of tokens that the reply holds.
        frequency_penalty: the same for each time that it holds them.
        logit_bias: added to the scores of tokens.
        banned_tokens: tokens that are never chosen.
        mask: a bit for each token, 1 where it may be chosen; None for all.
    """

    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    banned_tokens: tuple[int, ...] = ()
    mask: UInt32[np.ndarray, "words"] | None = None

    def __post_init__(self) -> None:
        penalty = self.repetition_penalty
        if not is_number(penalty) or not 0 < penalty < float("inf"):
            raise InputError("bad_repetition_penalty", f"repetition_penalty must be above 0, got {shown(penalty)}")
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            if not is_number(value) or not abs(value) < float("inf"):
                raise InputError(f"bad_{name}", f"{name} must be a number, got {shown(value)}")
        if not isinstance(self.logit_bias, Mapping) or not all(
            is_whole(token) and token >= 0 and is_number(value) and abs(value) < float("inf")
            for token, value in self.logit_bias.items()
        ):
            raise InputError("bad_logit_bias", "logit_bias must map token ids to numbers")
        if len(self.logit_bias) > BIASES:
            raise InputError(
                "bad_logit_bias", f"logit_bias may name {BIASES} tokens at most, and names {len(self.logit_bias)}"
            )
        if not all(is_whole(token) and token >= 0 for token in self.banned_tokens):
            raise InputError("bad_banned_tokens", "banned_tokens must be token ids")

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters which tokens were read and written before."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def any(self) -> bool:
        """Whether any score is changed at all."""
        return self.counts_tokens or bool(self.logit_bias or self.banned_tokens) or self.mask is not None

    def check(self, vocabulary: int) -> None:
        """Refuse tokens that the vocabulary does not have: `bad_logit_bias`, `bad_banned_tokens`."""
        for name, tokens in (("logit_bias", self.logit_bias), ("banned_tokens", self.banned_tokens)):
            if outside := [token for token in tokens if token >= vocabulary]:
                raise InputError(f"bad_{name}", f"{name}: token id {outside[0]} is outside 0..{vocabulary - 1}")
        if len(set(self.banned_tokens)) >= vocabulary:
            raise InputError("bad_banned_tokens", "banned_tokens leaves no token to choose")

    def allowed(self, vocabulary: int) -> UInt32[np.ndarray, "words"]:
        """The mask with the bits of banned tokens cleared."""
        words = -(-vocabulary // 32)
        bits = np.full(words, 0xFFFFFFFF, np.uint32) if self.mask is None else self.mask.copy()
        banned = np.asarray(self.banned_tokens, np.int64)
        np.bitwise_and.at(bits, banned // 32, ~(np.uint32(1) << (banned % 32).astype(np.uint32)))
        return bits


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens for one row.

    Attributes:
        temperature: 0 is greedy, and so is what is under 1e-4.
        top_p: smallest set of most likely tokens whose probability reaches this; 1 keeps all.
        top_k: most tokens to choose from; 0 keeps all.
        min_p: tokens less likely than this share of the most likely one are dropped; 0 keeps all.
        seed: the row's draws depend on it and on the step alone.
        adjustments: what is done to the scores before.
        logprobs: how many alternatives' log-probabilities are told beside the chosen token's; None for no
            log-probabilities.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    adjustments: Adjustments = field(default_factory=Adjustments)
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0 <= self.temperature < float("inf"):
            raise InputError("bad_temperature", f"temperature must be 0 or more, got {shown(self.temperature)}")
        if not is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise InputError("bad_top_p", f"top_p must be above 0 and at most 1, got {shown(self.top_p)}")
        if not is_whole(self.top_k) or self.top_k < 0:
            raise InputError("bad_top_k", f"top_k must be a whole number of 0 or more, got {shown(self.top_k)}")
        if not is_number(self.min_p) or not 0 <= self.min_p <= 1:
            raise InputError("bad_min_p", f"min_p must be from 0 to 1, got {shown(self.min_p)}")
        if not is_whole(self.seed) or not 0 <= self.seed < 1 << 32:
            raise InputError("bad_seed", f"a seed must be a whole number from 0 to 4294967295, got {shown(self.seed)}")
        if self.logprobs is not None and (not is_whole(self.logprobs) or not 0 <= self.logprobs <= TOP_LOGPROBS):
            raise InputError(
                "bad_logprobs", f"logprobs must be a whole number from 0 to {TOP_LOGPROBS}, got {shown(self.logprobs)}"
            )


@dataclass(frozen=True)
class GenerationOptions:
    """How a reply is written. What is None is as the checkpoint's generation_config.json says.

    Attributes:
        max_new_tokens: most tokens of the reply.
        temperature: 0 is greedy.
        top_p: keep the most likely tokens up to this probability; 1 keeps all.
        top_k: keep this many most likely tokens; 0 keeps all.
        min_p: drop tokens less likely than this share of the most likely one.
        repetition_penalty: above 1, tokens of the prompt and the reply become less likely.
        presence_penalty: taken off the scores of tokens that the reply holds.
        frequency_penalty: the same, for each time that it holds them.
        logit_bias: added to the scores of tokens, by id.
        banned_tokens: ids that are never chosen.
        seed: makes sampling repeatable; drawn when None.
        stop: a string, or several, that end the reply; not part of it.
        stop_tokens: ids that end the reply beside the checkpoint's; not part of it.
        logprobs: how many alternatives' log-probabilities are told beside the chosen token's, up to 20; None for no
            log-probabilities.
        n: replies to each conversation, each by a seed of its own: `seed`, `seed + 1` and so on.
        response_format: the form of the reply: a JSON schema, a regular expression or a grammar; see
            `omni.response_format`.
        deadline: seconds until it must be through.

    Raises:
        InputError: a value cannot be used; the code names it, such as `bad_temperature`.
    """

    max_new_tokens: int = 512
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    banned_tokens: Sequence[int] = ()
    seed: int | None = None
    stop: Sequence[str] | str = ()
    stop_tokens: Sequence[int] = ()
    logprobs: int | None = None
    n: int = 1
    response_format: Mapping[str, Any] | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.n) or not 1 <= self.n <= REPLIES:
            raise InputError("bad_n", f"n must be a whole number from 1 to {REPLIES}, got {shown(self.n)}")
        if not is_whole(self.max_new_tokens) or self.max_new_tokens < 1:
            raise InputError(
                "bad_max_new_tokens",
                f"max_new_tokens must be a whole number of 1 or more, got {shown(self.max_new_tokens)}",
            )
        strings = self.stop if isinstance(self.stop, list | tuple) else (self.stop,)
        for string in strings:
            if not isinstance(string, str):
                raise InputError("bad_stop", f"stop must be a string or a list of strings, got {shown(string)} in it")
        object.__setattr__(self, "stop", tuple(strings))
        for name in ("stop_tokens", "banned_tokens"):
            ids = getattr(self, name)
            if not isinstance(ids, list | tuple | set | frozenset | range | np.ndarray) or not all(
                is_whole(i) and i >= 0 for i in ids
            ):
                raise InputError(f"bad_{name}", f"{name} must be a list of token ids, got {shown(ids)}")
            object.__setattr__(self, name, tuple(int(i) for i in ids))
        ResponseFormat.of(self.response_format)
        self.sampling(GenerationConfig())

    @classmethod
    def of(cls, options: "GenerationOptions | None", given: Mapping[str, Any]) -> "GenerationOptions":
        """Options, with keyword arguments in place of their fields.

        Args:
            options: what stands where a keyword says nothing; the defaults when None.
            given: keyword arguments, each the name of a field.

        Raises:
            TypeError: a keyword is no option.
            InputError: a value cannot be used.
        """
        unknown = sorted(set(given) - OPTIONS)
        if unknown:
            raise TypeError(f"unknown options {', '.join(unknown)}; there are {', '.join(sorted(OPTIONS))}")
        if options is None:
            return cls(**given)
        if not isinstance(options, cls):
            raise InputError("bad_options", f"options must be omni.GenerationOptions, got {shown(options)}")
        return replace(options, **given)

    def sampling(self, default: GenerationConfig) -> Sampling:
        """What is sampled by, a checkpoint's defaults filled in; a setting of sampling turns it on where it is off."""
        temperature, any_setting = self.temperature, (self.top_p, self.top_k, self.min_p)
        if temperature is None:
            asked = any(value is not None for value in any_setting)
            temperature = default.temperature or (1.0 if asked else 0.0)
        penalty = default.repetition_penalty if self.repetition_penalty is None else self.repetition_penalty
        adjustments = Adjustments(
            penalty, self.presence_penalty, self.frequency_penalty, self.logit_bias, tuple(self.banned_tokens)
        )
        return Sampling(
            temperature,
            default.top_p if self.top_p is None else self.top_p,
            default.top_k if self.top_k is None else self.top_k,
            default.min_p if self.min_p is None else self.min_p,
            secrets.randbits(32) if self.seed is None else self.seed,
            adjustments,
            self.logprobs,
        )

    def choices(self) -> "list[GenerationOptions]":
        """The options of each of the `n` replies; the first is what it would be alone."""
        found: list[GenerationOptions] = []
        for i in range(self.n):
            found.append(self if self.seed is None else replace(self, seed=(int(self.seed) + i) % (1 << 32)))
        return found

    def ends(self, default: GenerationConfig) -> frozenset[int]:
        """Tokens that end the reply."""
        return frozenset(default.eos_token_ids) | frozenset(self.stop_tokens)


OPTIONS = frozenset(one.name for one in fields(GenerationOptions))


def one_for_each(options: GenerationOptions, seed: Any, conversations: int) -> list[GenerationOptions]:
    """The options of each conversation; a list of seeds has one for each.

    Raises:
        InputError: `bad_seed`, there are more or fewer.
    """
    if not isinstance(seed, list | tuple) and not (isinstance(seed, np.ndarray) and seed.ndim == 1):
        return [options if seed is None else replace(options, seed=seed)] * conversations
    if len(seed) != conversations:
        raise InputError("bad_seed", f"{len(seed)} seeds were given for {conversations} conversations")
    return [replace(options, seed=one) for one in seed]
