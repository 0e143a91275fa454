"""Text to token ids and back. Text never becomes a control token; only a template's own control tokens do."""

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from omni.config import read_json
from omni.errors import CheckpointError, InputError

# Published with the Qwen2 tokenizer, whose vocab.json and merges.txt do not carry it.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class ControlTokens(dict[str, int]):
    """Added tokens: ids by text.

    Attributes:
        special: those that steer the model and are hidden in decoded text. The others, such as `<think>`, are part of
            what a model writes.
        lstrip: those that swallow white space on their left.
        rstrip: those that swallow white space on their right.
        single_word: those that do not count within a word.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        special: Iterable[str],
        *,
        lstrip: Iterable[str] = (),
        rstrip: Iterable[str] = (),
        single_word: Iterable[str] = (),
    ):
        super().__init__(ids)
        self.special = frozenset(special)
        self.lstrip, self.rstrip, self.single_word = frozenset(lstrip), frozenset(rstrip), frozenset(single_word)

    def pattern(self) -> re.Pattern[str]:
        """Finds them in a prompt; the last group that took part is the token."""
        # Longest first: of two tokens that begin alike the longer is meant.
        return re.compile("|".join(map(self._alternative, sorted(self, key=len, reverse=True))) or r"(?!)")

    def _alternative(self, token: str) -> str:
        text = f"({re.escape(token)})"
        if token in self.single_word:
            text = rf"(?<!\w){text}(?!\w)"
        return (r"\s*" if token in self.lstrip else "") + text + (r"\s*" if token in self.rstrip else "")


class Tokenizer:
    """A byte-level BPE tokenizer with its added tokens kept apart.

    Args:
        plain: the encoder, without added tokens.
        control_tokens: the added tokens.
        vocabulary: number of ids a model may use; ids that have no token up to there stand for nothing.

    Attributes:
        control_tokens: the added tokens, ids by text.
    """

    def __init__(self, plain: tokenizers.Tokenizer, control_tokens: ControlTokens, vocabulary: int = 0):
        self.control_tokens = control_tokens
        self._plain = plain
        self._control_texts = {i: text for text, i in control_tokens.items()}
        self._vocabulary = max(vocabulary, plain.get_vocab_size(), *(i + 1 for i in control_tokens.values()), 0)
        self._control = control_tokens.pattern()
        self._bytes: dict[int, bytes] = {}

    @staticmethod
    def exists(directory: str | PathLike[str]) -> bool:
        """Whether a checkpoint directory has a tokenizer."""
        path = Path(directory)
        return (path / "tokenizer.json").is_file() or all((path / n).is_file() for n in ("vocab.json", "merges.txt"))

    @classmethod
    def from_directory(cls, directory: str | PathLike[str]) -> "Tokenizer":
        """Reads tokenizer.json, or vocab.json and merges.txt; added tokens also from tokenizer_config.json.

        Raises:
            CheckpointError: the files are absent or damaged, or are not a byte-level tokenizer.
        """
        path = Path(directory)
        if not cls.exists(path):
            raise CheckpointError("neither tokenizer.json nor vocab.json and merges.txt is in the checkpoint directory")
        try:
            if (path / "tokenizer.json").is_file():
                plain, added = _from_json(read_json(path / "tokenizer.json"))
            else:
                plain, added = _from_vocabulary(path), []
            listed = read_json(path / "tokenizer_config.json", required=False).get("added_tokens_decoder", {})
            added = [*({"id": int(i), **token} for i, token in listed.items()), *added]
            ids = {token["content"]: int(token["id"]) for token in added if token["content"]}
            flags = {
                flag: [token["content"] for token in added if token.get(flag, False)]
                for flag in ("special", "lstrip", "rstrip", "single_word")
            }
            return cls(plain, ControlTokens(ids, **flags), _vocabulary(path))
        except CheckpointError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"the tokenizer cannot be read: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; what looks like a control token is text too.

        Raises:
            InputError: the text holds half a surrogate pair.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError("bad_text", f"the text holds half a surrogate pair at {error.start}") from None
        return self._plain.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, prompt: str, mark: str) -> list[int]:
        """Ids of a rendered template.

        Stretches between control tokens are encoded whole, so that words join across the template's text and the
        user's as they do in the reference.

        Args:
            prompt: the rendered template.
            mark: the character that breaks up control tokens in what a user wrote; it is removed.
        """
        ids: list[int] = []
        start = 0
        for found in self._control.finditer(prompt):
            ids += self.encode(prompt[start : found.start()].replace(mark, ""))
            assert found.lastindex is not None
            ids.append(self.control_tokens[found.group(found.lastindex)])
            start = found.end()
        return ids + self.encode(prompt[start:].replace(mark, ""))

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave out tokens that steer the model.

        Raises:
            InputError: an id is outside the vocabulary.
        """
        return b"".join(self.token_bytes(int(i), skip_special) for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int, skip_special: bool = True) -> bytes:
        """The bytes that one token stands for: often part of a character.

        Raises:
            InputError: the id is outside the vocabulary.
        """
        if not 0 <= token_id < self._vocabulary:
            raise InputError("bad_token_ids", f"token id {token_id} is outside 0..{self._vocabulary - 1}")
        control = self._control_texts.get(token_id)
        if control is not None:
            return b"" if skip_special and control in self.control_tokens.special else control.encode()
        found = self._bytes.get(token_id)
        if found is None:
            # Models pad their vocabulary: such an id has no token.
            token, alphabet = self._plain.id_to_token(token_id) or "", _byte_alphabet()
            known = all(character in alphabet for character in token)
            found = bytes(alphabet[character] for character in token) if known else token.encode()
            self._bytes[token_id] = found
        return found


class StreamDecoder:
    """Decodes token by token, whole characters only; the pieces joined are `decode` of all the ids.

    Args:
        tokenizer: whose ids are to come.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Takes one token; returns the characters that are now whole, often none."""
        return self._decoder.decode(self._tokenizer.token_bytes(int(token_id)))

    def flush(self) -> str:
        """What was left of an unfinished character, at the end."""
        return self._decoder.decode(b"", final=True)


@cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _from_json(spec: dict[str, Any]) -> tuple[tokenizers.Tokenizer, list[dict[str, Any]]]:
    """The encoder of a tokenizer.json without its added tokens, and these."""
    decoder = spec.get("decoder") or {}
    if not any(part.get("type") == "ByteLevel" for part in (decoder, *decoder.get("decoders", ()))):
        raise CheckpointError("tokenizer.json is not byte-level, and no other kind is supported")
    # The post-processor adds tokens by itself; padding and truncation would change what the user wrote.
    bare = {**spec, "added_tokens": [], "post_processor": None, "padding": None, "truncation": None}
    return tokenizers.Tokenizer.from_str(json.dumps(bare)), spec.get("added_tokens") or []


def _from_vocabulary(path: Path) -> tokenizers.Tokenizer:
    """The Qwen2 encoder, from its two files."""
    lines = (path / "merges.txt").read_text("utf-8").split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    merges = [(left, right) for left, right in pairs]
    plain = tokenizers.Tokenizer(models.BPE(vocab=read_json(path / "vocab.json"), merges=merges))
    plain.normalizer = normalizers.NFC()
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return plain


def _vocabulary(path: Path) -> int:
    """How many ids the model has, padding included."""
    raw = read_json(path / "config.json", required=False)
    for key in ("thinker_config", "text_config"):
        raw = raw.get(key, raw)
    return int(raw.get("vocab_size", 0))
