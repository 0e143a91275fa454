"""The files of a tokenizer: read within limits, checked, and handed to the library that encodes."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from omni.checkpoint.json_file import LARGE, read_json, read_text
from omni.errors import CheckpointError, is_whole, shown

T = TypeVar("T")

# Published with the Qwen2 tokenizer, whose vocab.json and merges.txt do not carry it.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What a normalizer may be made of: nothing that writes more than it reads.
_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Sequence"}
_MOST_ADDED = 100_000
_PROBE = "Is 1 + 2 = 3?\n\tCafe\u0301 \u6e2f"


def guarded(call: Callable[[], T]) -> T:
    """Calls the library, whose panics are no exceptions of Python's usual kind.

    Raises:
        CheckpointError: it failed in any way.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError, CheckpointError):
        raise
    except BaseException as error:
        raise _refusal(f"it cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


def read_tokenizer(path: Path) -> tuple[tokenizers.Tokenizer, list[dict[str, Any]]]:
    """The encoder of a directory without its added tokens, and these: those of tokenizer_config.json first.

    Raises:
        CheckpointError: the files are absent or damaged, contradict one another, or are not a byte-level tokenizer.
    """
    spec = _spec(path) if (path / "tokenizer.json").is_file() else None
    plain = guarded(lambda: _from_vocabulary(path) if spec is None else _from_spec(spec))
    listed = read_json(path / "tokenizer_config.json", required=False, limits=LARGE).get("added_tokens_decoder") or {}
    if not isinstance(listed, dict) or not all(isinstance(token, dict) for token in listed.values()):
        raise _refusal("added_tokens_decoder of tokenizer_config.json must hold tokens by id")
    if strange := next((i for i in listed if not (i.isascii() and i.isdigit() and len(i) < 10)), None):
        raise _refusal(f"added_tokens_decoder of tokenizer_config.json names the id {strange[:40]!r}")
    own = [] if spec is None else spec.get("added_tokens") or []
    if not isinstance(own, list) or not all(isinstance(token, dict) for token in own):
        raise _refusal("added_tokens of tokenizer.json must be a list of tokens")
    added = [*({**token, "id": int(i)} for i, token in listed.items()), *own]
    if len(added) > _MOST_ADDED:
        raise _refusal(f"it has {len(added):,} added tokens, and at most {_MOST_ADDED:,} are read")
    _check_added(added)
    guarded(lambda: plain.encode(_PROBE, add_special_tokens=False))
    return plain, [token for token in added if token["content"]]


def end_of_text(path: Path) -> str | None:
    """The token that the tokenizer's files name as the end of a text."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = read_json(path / name, required=False, limits=LARGE).get("eos_token")
        text = token.get("content") if isinstance(token, Mapping) else token
        if text is not None:
            if not isinstance(text, str):
                raise _refusal(f"eos_token of {name} cannot be {shown(text)}")
            return text
    return None


def _check_added(added: Iterable[Mapping[str, Any]]) -> None:
    """Refuses tokens without a text and an id, and two that share one of them."""
    ids: dict[str, int] = {}
    texts: dict[int, str] = {}
    for token in added:
        text: Any = token.get("content")
        i: Any = token.get("id")
        if not isinstance(text, str) or not is_whole(i) or not 0 <= i < 1 << 31:
            raise _refusal(f"an added token has the text {shown(text)} and the id {shown(i)}")
        if not text:
            continue
        if ids.setdefault(text, i) != i:
            raise _refusal(f"the token {text[:60]!r} has two ids, {ids[text]} and {i}")
        if texts.setdefault(i, text) != text:
            raise _refusal(f"the id {i} is of two tokens, {texts[i][:60]!r} and {text[:60]!r}")


def _spec(path: Path) -> dict[str, Any]:
    """The content of tokenizer.json, a byte-level one."""
    spec = read_json(path / "tokenizer.json", limits=LARGE)
    decoder, model = spec.get("decoder") or {}, spec.get("model") or {}
    parts = [decoder]
    if isinstance(decoder, dict) and isinstance(decoder.get("decoders"), list):
        parts += decoder["decoders"]
    if not any(isinstance(part, dict) and part.get("type") == "ByteLevel" for part in parts):
        raise _refusal("tokenizer.json is not byte-level, and no other kind is supported")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise _refusal("tokenizer.json is not of byte pairs (BPE), and no other kind is supported")
    _check_vocabulary(model.get("vocab"))
    _check_normalizer(spec.get("normalizer"))
    return spec


def _check_normalizer(normalizer: Any) -> None:
    if normalizer is None:
        return
    if not isinstance(normalizer, dict) or normalizer.get("type") not in _NORMALIZERS:
        kind = normalizer.get("type") if isinstance(normalizer, dict) else normalizer
        raise _refusal(f"a normalizer of the kind {shown(kind)} is not supported")
    inner = normalizer.get("normalizers", [])
    for part in inner if isinstance(inner, list) else [inner]:
        _check_normalizer(part)


def _check_vocabulary(vocabulary: Any) -> None:
    if not isinstance(vocabulary, dict):
        raise _refusal("its vocabulary must hold ids by token")
    ids = vocabulary.values()
    if not all(type(i) is int and 0 <= i < 1 << 31 for i in ids):
        raise _refusal("an id in its vocabulary is not a whole number from 0 on")
    if len(set(ids)) < len(vocabulary):
        raise _refusal("two tokens of its vocabulary have the same id")


def _from_spec(spec: Mapping[str, Any]) -> tokenizers.Tokenizer:
    # The post-processor adds tokens by itself; padding and truncation would change what the user wrote.
    bare = {**spec, "added_tokens": [], "post_processor": None, "padding": None, "truncation": None}
    return tokenizers.Tokenizer.from_str(json.dumps(bare))


def _from_vocabulary(path: Path) -> tokenizers.Tokenizer:
    """The Qwen2 encoder, from its two files."""
    lines = read_text(path / "merges.txt", LARGE.bytes).split("\n")
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if strange := next((pair for pair in pairs if len(pair) != 2), None):
        raise _refusal(f"merges.txt has a line of {len(strange)} parts: {' '.join(strange)[:60]!r}")
    merges = [(left, right) for left, right in pairs]
    vocabulary = read_json(path / "vocab.json", limits=LARGE)
    _check_vocabulary(vocabulary)
    plain = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    plain.normalizer = normalizers.NFC()
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return plain


def _refusal(what: str) -> CheckpointError:
    return CheckpointError(f"the tokenizer: {what}", code="bad_tokenizer")
