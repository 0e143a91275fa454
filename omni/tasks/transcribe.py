"""Recordings of any length to text: cut at quiet places, read in batches, joined again."""

import dataclasses
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from omni.config import TranscriptForm
from omni.errors import InputError, check_batch_size, is_number, shown
from omni.generation.generator import Generator
from omni.generation.reply import Reply
from omni.media.embedding import Embedding
from omni.media.types import Audio, Image, Video
from omni.options import GenerationOptions
from omni.runtime import Runtime
from processors import Access
from processors.decode.audio.decoder import audio_blocks
from processors.io.sources import describe
from processors.notebook import shortened, table
from processors.notebook import shown as shown_in_notebooks
from processors.silence import split_at_silence

# Nobody says more tokens a second; the others are for the language that a reply begins with.
_TOKENS_A_SECOND, _TOKENS_BESIDE = 12, 64
# Pieces that a notebook shows.
_MOST_SHOWN = 50
# What stands there this often in a row was said once: a recogniser that loses its thread repeats itself.
_REPEATED = re.compile(r"(.{1,20}?)\1{19,}", re.DOTALL)
# Thai, Lao, Burmese, Khmer, Chinese, Japanese and their punctuation: no space between sentences.
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")


@dataclass(frozen=True)
class Piece:
    """The transcript of one stretch of audio.

    Attributes:
        start: where it begins, in seconds.
        end: where it ends, in seconds.
        text: the transcript.
        language: the model's name of the language; None where there is none.
        finish_reason: "stop", or "length" when the text was cut off by `max_new_tokens`.
    """

    start: float
    end: float
    text: str
    language: str | None
    finish_reason: str


@dataclass(frozen=True)
class Transcript:
    """The transcript of audio of any length.

    Attributes:
        pieces: the stretches, in order of time; one for audio that is read at once.
    """

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        joined = ""
        for text in filter(None, (piece.text for piece in self.pieces)):
            spaced = joined and not _SPACELESS.match(joined[-1]) and not _SPACELESS.match(text[0])
            joined += f" {text}" if spaced else text
        return joined

    @property
    def language(self) -> str | None:
        """The language; where it changes from piece to piece, such as "Chinese,English"."""
        changes: list[str] = []
        for piece in self.pieces:
            if piece.language and piece.language not in changes[-1:]:
                changes.append(piece.language)
        return ",".join(changes) or None

    @property
    def finish_reason(self) -> str:
        """ "stop", or "length" when the text of a piece was cut off."""
        return "length" if any(piece.finish_reason == "length" for piece in self.pieces) else "stop"

    def __repr__(self) -> str:
        facts = [f"{len(self.pieces)} pieces", self.language or "no language"]
        return f"<omni.Transcript {shortened(self.text)!r}: {', '.join(facts)}>"

    @shown_in_notebooks
    def _repr_html_(self) -> str:
        times = {f"{piece.start:.2f} to {piece.end:.2f} s": piece.text for piece in self.pieces[:_MOST_SHOWN]}
        more = len(self.pieces) - len(times)
        return table(f"Transcript ({self.language or 'no language'})", times | ({f"{more} more": ""} if more else {}))

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        pieces = [dataclasses.asdict(piece) for piece in self.pieces]
        return {"text": self.text, "language": self.language, "finish_reason": self.finish_reason, "pieces": pieces}


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Part of a recording, and whether it is the last of it."""

    samples: Float32[np.ndarray, "samples"]
    start: float
    end: float
    last: bool


class Transcriber:
    """Transcribes recordings with one model and one set of options; arguments as `Model.transcribe`.

    Raises:
        InputError: the model writes no transcripts, or an option cannot be used.
    """

    def __init__(
        self,
        model: Runtime,
        language: str | None,
        context: str,
        stretch_seconds: float | None,
        max_new_tokens: int | None,
        batch_size: int,
        progress: bool | None,
        access: Access | None = None,
        generator: Generator | None = None,
    ):
        form = model.config.transcript
        if form is None:
            raise InputError(
                "not_a_recogniser", "this model does not write transcripts; ask it about a recording in a chat"
            )
        if model.tokenizer is None:
            raise InputError("no_tokenizer", "a transcript is text, and the checkpoint directory has no tokenizer")
        if not isinstance(context, str):
            raise InputError("bad_context", f"context must be a string, got {shown(context)}")
        check_batch_size(batch_size)
        longest = form.longest if stretch_seconds is None else stretch_seconds
        if not is_number(longest) or not 1 <= longest <= form.longest:
            raise InputError(
                "bad_stretch", f"stretch_seconds must be from 1 to {form.longest} seconds, got {shown(longest)}"
            )
        self._model, self._form, self._tokenizer = model, form, model.tokenizer
        self._language = None if language is None else language_name(language, form)
        self._context, self._max_new_tokens, self._batch_size = context, max_new_tokens, batch_size
        self._longest, self._rate = float(longest), model.media.audio.config.sampling_rate
        self._access = access or model.access()
        self._generator = generator or model.generator
        self._silent = not progress if progress is not None else not sys.stderr.isatty()
        # Where nobody asked for a bar, what is done in a moment shows none.
        self._delay = 0 if progress else 2

    def run(self, recordings: Iterable[Any]) -> Iterator[Transcript | InputError]:
        """One transcript for each recording, in order; for one that cannot be read, its error.

        Two batches of stretches at most are in memory at a time.
        """
        pieces: list[Piece] = []
        with tqdm(unit=" s of sound", desc="transcribing", disable=self._silent, delay=self._delay) as bar:
            for batch in self._batches(self._stretches(recordings)):
                heard = iter(self._hear([one for one in batch if isinstance(one, _Stretch)]))
                for one in batch:
                    if isinstance(one, InputError):
                        # What was damaged on the way is dropped whole.
                        yield one
                        pieces = []
                        continue
                    pieces.append(next(heard))
                    bar.update(one.end - one.start)
                    if one.last:
                        yield Transcript(tuple(pieces))
                        pieces = []

    def _stretches(self, recordings: Iterable[Any]) -> Iterator[_Stretch | InputError]:
        for recording in recordings:
            try:
                yield from self._cut(recording)
            except InputError as error:
                yield error
            except Exception as error:
                name = describe(getattr(recording, "source", recording))
                yield InputError("media_failed", f"{name}: its decoder failed with {type(error).__name__}")

    def _cut(self, recording: Any) -> Iterator[_Stretch]:
        """Decoded as it is read: memory does not grow with a recording."""
        if isinstance(recording, Image | Embedding):
            raise InputError("wrong_medium", f"a recording is transcribed, not an omni.{type(recording).__name__}")
        if isinstance(recording, Video):
            track = recording.source if isinstance(recording.audio, bool) else recording.audio
            recording = track if isinstance(track, Audio) else Audio(track)
        sound = recording if isinstance(recording, Audio) else Audio(recording)
        blocks = audio_blocks(sound.source, sound.sampling_rate, self._rate, self._access)
        stretches = split_at_silence(blocks, self._rate, self._longest)
        start, samples = 0, next(stretches)
        while samples is not None:
            following = next(stretches, None)
            end = start + len(samples)
            yield _Stretch(samples, start / self._rate, end / self._rate, last=following is None)
            start, samples = end, following

    def _batches(self, stretches: Iterator[_Stretch | InputError]) -> Iterator[list[_Stretch | InputError]]:
        """Groups what comes, in order: of a batch's sound there is never more than one longest stretch."""
        batch: list[_Stretch | InputError] = []
        seconds = 0.0
        for one in stretches:
            length = one.end - one.start if isinstance(one, _Stretch) else 0.0
            if batch and (len(batch) == self._batch_size or seconds + length > self._longest):
                yield batch
                batch, seconds = [], 0.0
            batch.append(one)
            seconds += length
        if batch:
            yield batch

    def _hear(self, stretches: Sequence[_Stretch]) -> list[Piece]:
        if not stretches:
            return []
        self._access.check()
        sounds = [Audio(one.samples, self._rate) for one in stretches]
        heard = self._model.media.stream(sounds, len(sounds), self._model.access())
        conversations = [
            [
                {"role": "system", "content": self._context},
                {"role": "user", "content": [{"type": "audio", "audio": sound}]},
            ]
            for sound in heard
        ]
        inputs = self._model.prepare_all(conversations, True)
        if self._language is not None:
            opening = self._tokenizer.encode_prompt(self._form.opening.format(language=self._language), "")
            inputs = [one.followed_by(opening) for one in inputs]
        options = [
            GenerationOptions(max_new_tokens=self._limit(one.end - one.start), temperature=0, seed=0)
            for one in stretches
        ]
        found = self._generator.run(inputs, options, self._access.deadline, len(inputs))
        replies = [reply for (reply,) in found]
        return [self._piece(*each) for each in zip(stretches, replies, strict=True)]

    def _limit(self, seconds: float) -> int:
        if self._max_new_tokens is not None:
            return self._max_new_tokens
        return _TOKENS_BESIDE + int(_TOKENS_A_SECOND * seconds)

    def _piece(self, stretch: _Stretch, reply: Reply) -> Piece:
        start, end, reason = stretch.start, stretch.end, reply.finish_reason
        if reason == "length":
            tokens = len(reply.token_ids)
            warnings.warn(f"the text from {start:.1f} to {end:.1f} s was cut off after {tokens} tokens", stacklevel=2)
        language, said = parse_reply(reply.text, self._form, self._language)
        return Piece(start, end, said, language, reason)


def language_name(language: Any, form: TranscriptForm) -> str:
    """The model's name of a language.

    Raises:
        InputError: the model does not know it.
    """
    found = form.languages.get(language.strip().casefold()) if isinstance(language, str) else None
    if found is None:
        known = ", ".join(dict.fromkeys(form.languages.values()))
        raise InputError("unknown_language", f"language must be one of {known}, or its code; got {shown(language)}")
    return found


def parse_reply(text: str, form: TranscriptForm, language: str | None) -> tuple[str | None, str]:
    """Language and transcript of a reply.

    Args:
        text: what the model wrote.
        form: how it writes.
        language: what it was told to write in; its reply then is the transcript alone.
    """
    text = _REPEATED.sub(r"\1", text.strip())
    told, marker, said = text.partition(form.marker)
    if language is not None or not marker:
        return language, text
    before = form.opening.partition("{language}")[0]
    name = (told.strip().splitlines() or [""])[0].strip()
    if name.casefold().startswith(before):
        name = name[len(before) :].strip()
    return (None if name.casefold() in ("", "none") else name), said.strip()
