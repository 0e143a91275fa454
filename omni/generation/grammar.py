"""Replies in a form that was asked for: JSON schemas, regular expressions and grammars as masks over tokens.

llguidance keeps the state of a grammar and tells which tokens may come next, byte by byte; it is imported when a form
is first asked for.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt32

from omni.errors import InputError
from omni.generation.call_grammar import call_grammar
from omni.prompt.reply_stream import ReplyFormat
from omni.prompt.tokenizer import Tokenizer
from omni.response_format import ResponseFormat

# One line end and some spaces between the tokens of JSON: enough for every indented form, and no endless white space.
_WHITE_SPACE = r"\n?[ \t]{0,16}"
_OPTIONS = {"whitespace_pattern": _WHITE_SPACE, "lenient": False, "coerce_one_of": False}
# Keywords that say what is valid, and that the library takes for notes.
_UNCHECKED = frozenset(
    """unevaluatedProperties unevaluatedItems dependentSchemas dependencies minContains maxContains then else
    $dynamicRef $recursiveRef divisibleBy disallow extends""".split()
)


class Constraint:
    """What the tokens of one reply may be, as it is written.

    Args:
        matcher: of llguidance.
        vocabulary: number of tokens.
        ends: tokens that end a reply: allowed where it is whole.
        after: the token after which the form begins, where a thought comes first.
        free: tokens that may stand in the place of the whole, and after which anything may come.
    """

    def __init__(
        self,
        matcher: Any,
        vocabulary: int,
        ends: frozenset[int],
        after: int | None = None,
        free: frozenset[int] = frozenset(),
    ):
        self._matcher, self._ends, self._after, self._free = matcher, _bits(ends, vocabulary), after, free
        self._free_bits, self._is_free, self._begun = _bits(free, vocabulary), False, False

    def mask(self) -> UInt32[np.ndarray, "words"] | None:
        """A bit for each token, 1 where it may come next; None where any may.

        Raises:
            InputError: `grammar_limit`, the grammar takes more steps than it may.
        """
        if self._is_free or self._after is not None:
            return None
        # The library's masks may have a word more than the tokens need.
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)[: len(self._ends)]
        self._check()
        bits = bits & ~self._ends
        if self._matcher.is_accepting():
            bits |= self._ends
        return bits if self._begun else bits | self._free_bits

    def accept(self, token: int) -> bool:
        """Take the token that was chosen; return whether the reply is whole and nothing can follow."""
        if self._after is not None:
            self._after = None if token == self._after else self._after
            return False
        self._is_free = self._is_free or (not self._begun and token in self._free)
        self._begun = True
        if self._is_free:
            return False
        self._matcher.consume_token(token)
        self._check()
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())[:200]
            raise InputError("grammar_limit", f"the form of the reply cannot be followed any further: {reason}")


class Grammars:
    """Forms of replies for one tokenizer; usable from any thread.

    Args:
        tokenizer: of the model.
        vocabulary: tokens that there are scores for.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int):
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._lock = threading.Lock()
        self._table: Any = None

    def constraint(self, wanted: ResponseFormat | None, ends: frozenset[int], reply: ReplyFormat) -> Constraint | None:
        """A form as masks; None for any text.

        Args:
            wanted: the form.
            ends: tokens that end a reply.
            reply: what it may hold beside text: a thought comes before the form, a call in its place. Where it must be
                calls, their form is the reply's.

        Raises:
            InputError: `bad_response_format`; `unsupported_schema`; `response_format_needs_extra`.
        """
        must_call = reply.calls is not None and reply.choice.mode == "required"
        if wanted is None and not must_call:
            return None
        library, table = self._library()
        control = self._tokenizer.control_tokens
        if reply.calls is not None and must_call:
            code, what = "unsupported_schema", "the parameters of a tool"
            calls = call_grammar(reply.calls, reply.tools, reply.choice, control, _OPTIONS, _check_keywords)
            grammar = library.LLMatcher.grammar_from_lark(calls)
        else:
            assert wanted is not None
            is_schema = wanted.kind == "json_schema"
            code = "unsupported_schema" if is_schema else "bad_response_format"
            what = "the JSON schema" if is_schema else f"the {wanted.kind} of response_format"
            grammar = _grammar(library.LLMatcher, wanted)
        failed, told = library.LLMatcher.validate_grammar_with_warnings(grammar, table)
        if failed or told:
            raise InputError(code, f"{what} cannot be followed: {' '.join(' '.join(told).split())[:300]}")
        matcher = library.LLMatcher(table, grammar, log_level=0)
        after = control.get("</think>") if reply.opened else None
        may_call = reply.calls is not None and not must_call and "<tool_call>" in control
        free = frozenset([control["<tool_call>"]]) if may_call else frozenset()
        return Constraint(matcher, self._vocabulary, ends, after, free)

    def _library(self) -> tuple[Any, Any]:
        try:
            import llguidance
        except ImportError:
            raise InputError(
                "response_format_needs_extra", "response_format needs llguidance: pip install 'omni-jax[structured]'"
            ) from None
        with self._lock:
            if self._table is None:
                tokens = _Tokens(self._tokenizer, self._vocabulary)
                self._table = llguidance.LLTokenizer(
                    llguidance.TokenizerWrapper(tokens), n_vocab=self._vocabulary, eos_token=tokens.eos_token_id
                )
        return llguidance, self._table


class _Tokens:
    """A tokenizer as llguidance reads it; added tokens are no text."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int):
        control = sorted(i for i in tokenizer.control_tokens.values() if i < vocabulary)
        self._encode: Callable[[str], list[int]] = tokenizer.encode
        self.special_token_ids: Sequence[int] = control
        self.bos_token_id = None
        # Ends are put in beside its masks; it wants one of its own.
        self.eos_token_id = control[0] if control else vocabulary - 1
        self.tokens = [
            tokenizer.token_bytes(i, skip_special=False) if i < tokenizer.size else b"" for i in range(vocabulary)
        ]

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)


def _grammar(matcher: Any, wanted: ResponseFormat) -> str:
    if wanted.kind == "regex":
        return matcher.grammar_from_regex(wanted.value)
    if wanted.kind == "grammar":
        return matcher.grammar_from_lark(wanted.value)
    _check_keywords(wanted.value)
    return matcher.grammar_from_json_schema(
        json.dumps(wanted.value),
        overrides=_OPTIONS,
    )


def _check_keywords(schema: Any) -> None:
    """Refuse keywords that would be passed over; names of properties and values of constants are none."""
    if isinstance(schema, list):
        for inner in schema:
            _check_keywords(inner)
    if not isinstance(schema, Mapping):
        return
    for key, inner in schema.items():
        if key in _UNCHECKED:
            raise InputError("unsupported_schema", f"the JSON schema cannot be followed: {key} is not supported")
        if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(inner, Mapping):
            for one in inner.values():
                _check_keywords(one)
        elif key not in ("const", "enum", "default", "examples", "example"):
            _check_keywords(inner)


def _bits(tokens: frozenset[int], vocabulary: int) -> UInt32[np.ndarray, "words"]:
    bits = np.zeros(-(-vocabulary // 32), np.uint32)
    for token in tokens:
        if token < vocabulary:
            bits[token // 32] |= np.uint32(1) << np.uint32(token % 32)
    return bits
