"""Text to token ids and back. Text never becomes a control token; only a template's own control tokens do."""

import codecs
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import tokenizers

from omni.checkpoint.json_file import read_json
from omni.errors import CheckpointError, InputError, is_whole
from omni.prompt.tokenizer_files import guarded, read_tokenizer

# Characters that are encoded at once while a long text is counted.
_PIECE = 1 << 16


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
        self.special: frozenset[str] = frozenset(special)
        self.lstrip: frozenset[str] = frozenset(lstrip)
        self.rstrip: frozenset[str] = frozenset(rstrip)
        self.single_word: frozenset[str] = frozenset(single_word)

    def pattern(self) -> re.Pattern[str]:
        """Finds them in a prompt; the last group that took part, or else the whole, is the token."""
        # Longest first: of two tokens that begin alike the longer is meant.
        tokens = sorted(self, key=len, reverse=True)
        # Without groups Python looks for the first characters alone, thirty times as fast.
        flagged = self.lstrip or self.rstrip or self.single_word
        return re.compile("|".join(map(self._alternative if flagged else re.escape, tokens)) or r"(?!)")

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
            message = "neither tokenizer.json nor vocab.json and merges.txt is in the checkpoint directory"
            raise CheckpointError(message, code="file_missing")
        plain, added = read_tokenizer(path)
        ids = {token["content"]: token["id"] for token in added}
        flags = {
            flag: [token["content"] for token in added if token.get(flag, False)]
            for flag in ("special", "lstrip", "rstrip", "single_word")
        }
        return cls(plain, ControlTokens(ids, **flags), _vocabulary(path))

    @property
    def size(self) -> int:
        """One more than the largest id that any token has."""
        ids = chain(self._plain.get_vocab().values(), self.control_tokens.values())
        return max(ids, default=-1) + 1

    def id_of(self, token: str) -> int | None:
        """The id of a whole token by its text; None where there is no such token."""
        return self.control_tokens.get(token, self._plain.token_to_id(token))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; what looks like a control token is text too.

        Raises:
            InputError: the text holds half a surrogate pair, or the library cannot encode it.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError("bad_text", f"the text holds half a surrogate pair at {error.start}") from None
        try:
            return guarded(lambda: self._plain.encode(text, add_special_tokens=False)).ids
        except CheckpointError as error:  # it has encoded another text as it was loaded
            raise InputError("bad_text", f"the text cannot be encoded; {error}") from error

    def encode_prompt(self, prompt: str, mark: str, most: int | None = None) -> list[int]:
        """Ids of a rendered template.

        Stretches between control tokens are encoded whole, so that words join across the template's text and the
        user's as they do in the reference.

        Args:
            prompt: the rendered template.
            mark: the character that breaks up control tokens in what a user wrote; it is removed.
            most: tokens that will be read; a prompt of more is refused before all of it is encoded.

        Raises:
            InputError: `bad_text`, or `too_many_tokens`.
        """
        ids: list[int] = []
        start = 0
        for match in self._control.finditer(prompt):
            ids += self._stretch(prompt[start : match.start()].replace(mark, ""), most, len(ids))
            ids.append(self.control_tokens[match.group(match.lastindex or 0)])
            start = match.end()
        ids += self._stretch(prompt[start:].replace(mark, ""), most, len(ids))
        _check_length(len(ids), most)
        return ids

    def _stretch(self, text: str, most: int | None, before: int) -> list[int]:
        """Ids of a stretch without control tokens; of a very long one, those of its pieces are counted first."""
        if most is not None and len(text) > _PIECE:
            for start in range(0, len(text), _PIECE):
                # A cut makes no more than a token of its own.
                before += max(len(self.encode(text[start : start + _PIECE])) - 1, 0)
                _check_length(before, most)
        return self.encode(text)

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


def _check_length(length: int, most: int | None) -> None:
    if most is not None and length > most:
        raise InputError("too_many_tokens", f"the conversation is {length} tokens long or more, the model reads {most}")


@cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _vocabulary(path: Path) -> int:
    """How many ids the model has, padding included."""
    raw = read_json(path / "config.json", required=False)
    for key in ("thinker_config", "text_config"):
        raw = inner if isinstance(inner := raw.get(key), dict) else raw
    size: Any = raw.get("vocab_size")
    return size if is_whole(size) else 0
