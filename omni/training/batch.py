"""Examples side by side, as arrays of a few shapes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int32

from encoders.buckets import (
    VISION_LENGTHS,
    AudioRows,
    Call,
    VisionRows,
    audio_calls,
    audio_token_count,
    vision_calls,
)
from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig
from omni.media.embedding import Embedding
from omni.training.example import Example
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.video import VideoFeatures

# Frames go side by side in one call, however many there are.
_ALL_ROWS = 1 << 40
_LEAST_TOKENS = 64
# Small pictures cost as much as their padding, many times over: training has more lengths than encoding, and programs.
_VISION_LENGTHS = (64, 144, *VISION_LENGTHS)

F = TypeVar("F", ImageFeatures, VideoFeatures)
Shape = tuple[int, ...]


class BatchOverflow(ValueError):
    """Examples that do not fit into a batch of the shape that was asked for."""


@dataclass(frozen=True)
class BatchShape:
    """One shape for all batches, and so one program.

    Attributes:
        tokens: of a conversation.
        vision: rows of the vision tower's calls, by the shape of their pixels: patches, and values a patch.
        audio: rows of the audio tower's calls, by the shape of their mel frames: chunks, bins, frames a chunk.
    """

    tokens: int
    vision: Mapping[Shape, int]
    audio: Mapping[Shape, int]


class EncodedRows(NamedTuple):
    """Tokens that towers made, padded with zeros.

    Attributes:
        tokens: of all media, one after another.
        deepstack: the same for each deepstack level, zeros for audio; None without any.
    """

    tokens: Float32[np.ndarray, "rows width"]
    deepstack: Float32[np.ndarray, "levels rows width"] | None


class Batch(NamedTuple):
    """What a step reads, padded with zeros on the right.

    Towers give rows of tokens, and those of all calls make up a table, pictures and clips first. Each token of a
    conversation that is a medium's names its row there. Where media are encoded already, they are the table.

    Attributes:
        token_ids: ids.
        position_ids: rotary positions in time, height and width.
        counts: real tokens of each conversation.
        learned: True for the tokens that are to be predicted.
        sources: for each token the row of the table and 1; 0 for text.
        vision: arguments of the vision tower, one call for each padded length.
        audio: arguments of the audio tower, one call for each padded length.
        encoded: the table, where media are encoded already.
    """

    token_ids: Int32[np.ndarray, "batch tokens"]
    position_ids: Float32[np.ndarray, "3 batch tokens"]
    counts: Int32[np.ndarray, "batch"]
    learned: Bool[np.ndarray, "batch tokens"]
    sources: Int32[np.ndarray, "batch tokens"]
    vision: tuple[VisionRows, ...]
    audio: tuple[AudioRows, ...]
    encoded: EncodedRows | None = None


def collate(examples: Sequence[Example], config: ModelConfig, batch_shape: BatchShape | None = None) -> Batch:
    """Puts examples side by side.

    Args:
        examples: one or more.
        config: sizes of the towers.
        batch_shape: what lengths and numbers of rows are padded to; powers of two when None, so that few programs serve
            many batches. It has no say in media that are encoded already.

    Raises:
        BatchOverflow: the examples do not fit.
    """
    table = _Table()
    vision_rows, audio_rows = (None, None) if batch_shape is None else (batch_shape.vision, batch_shape.audio)
    vision: list[VisionRows] = []
    if config.vision is not None:
        # Stills and clips differ in the values of a patch, so each kind makes its own calls.
        still = config.vision.in_channels * config.vision.patch_size**2
        vision += table.see(_features(examples, ImageFeatures), still, config.vision, vision_rows)
        film = still * config.vision.temporal_patch_size
        vision += table.see(_features(examples, VideoFeatures), film, config.vision, vision_rows)
    sounds = [f for e in examples for f in (*e.media, *e.tracks) if isinstance(f, AudioFeatures)]
    # Each number of windows of a length is a program: a few more windows are cheaper than that.
    audio = [] if config.audio is None else table.hear(sounds, config.audio, audio_rows, len(examples) // 4)

    longest = max(len(example.token_ids) for example in examples)
    if batch_shape is not None and longest > batch_shape.tokens:
        raise BatchOverflow(f"a conversation of {longest} tokens in a batch for {batch_shape.tokens}")
    shape = (len(examples), _padded(longest, _LEAST_TOKENS) if batch_shape is None else batch_shape.tokens)
    batch = Batch(
        token_ids=np.zeros(shape, np.int32),
        position_ids=np.zeros((3, *shape), np.float32),
        counts=np.asarray([len(example.token_ids) for example in examples], np.int32),
        learned=np.zeros(shape, bool),
        sources=np.zeros(shape, np.int32),
        vision=tuple(vision),
        audio=tuple(audio),
        encoded=table.take([f for e in examples for f in (*e.media, *e.tracks) if isinstance(f, Embedding)]),
    )
    for b, example in enumerate(examples):
        count = batch.counts[b]
        batch.token_ids[b, :count] = example.token_ids
        batch.position_ids[:, b, :count] = example.position_ids
        batch.learned[b, :count] = example.learned
        for span in example.spans:
            medium, track = example.media[span.media_index], example.tracks[span.media_index]
            # A video's span of kind `audio` is its sound track.
            heard = span.kind == "audio" and track is not None
            batch.sources[b, span.indices] = table.places[id(track if heard else medium)] + 1
    return batch


def _features(examples: Sequence[Example], kind: type[F]) -> list[F]:
    return [features for example in examples for features in example.media if isinstance(features, kind)]


class _Table:
    """Where the tokens of media come to lie."""

    def __init__(self):
        self.places: dict[int, np.ndarray] = {}
        self._size = 0

    def see(
        self,
        media: Sequence[ImageFeatures | VideoFeatures],
        values: int,
        config: VisionConfig,
        row_counts: Mapping[Shape, int] | None,
    ) -> list[VisionRows]:
        """Calls of the vision tower, for media whose patches have so many values."""
        own = None if row_counts is None else {one: count for one, count in row_counts.items() if one[1] == values}
        calls: Iterable[Call] = ()
        grids = np.zeros((0, 3), np.int32)
        if media:
            grids = np.concatenate([features.grid_thw for features in media])
            pixels = np.concatenate([features.pixels for features in media])
            calls = vision_calls(pixels, grids, config, _ALL_ROWS, _VISION_LENGTHS)
        unit = config.merge_unit

        def blank(shape: Shape) -> VisionRows:
            row = 1, shape[0]
            places, taps, weights = np.zeros((*row, 2), np.int32), np.zeros((*row, 4), np.int32), np.zeros((*row, 4))
            lengths = np.full(1, shape[0], np.int32)
            return VisionRows(np.zeros((1, *shape), np.uint8), places, taps, weights.astype(np.float32), lengths)

        found, frames = self._place(
            calls, lambda rows: rows.pixels.shape[1] // unit, lambda rows: rows.lengths // unit, own, blank
        )
        start = 0
        for features, t in zip(media, grids[:, 0].tolist(), strict=True):
            self.places[id(features)] = np.concatenate([frames[i] for i in range(start, start + t)])
            start += t
        return found

    def hear(
        self, sounds: Sequence[AudioFeatures], config: AudioConfig, row_counts: Mapping[Shape, int] | None, least: int
    ) -> list[AudioRows]:
        """Calls of the audio tower; without row counts, of at least so many rows."""

        def blank(shape: Shape) -> AudioRows:
            tokens = audio_token_count(shape[0] * config.chunk_frames, config)
            conv_frames = np.full((1, shape[0]), config.chunk_frames, np.int32)
            return AudioRows(np.zeros((1, *shape), np.float32), conv_frames, np.full(1, tokens, np.int32))

        calls = audio_calls([sound.mel for sound in sounds], config)
        width = config.chunk_tokens
        found, windows = self._place(
            calls, lambda rows: rows.mel.shape[1] * width, lambda rows: rows.lengths, row_counts, blank, least
        )
        start = 0
        for sound in sounds:
            end = start + -(-sound.mel.shape[1] // config.n_window_infer)
            self.places[id(sound)] = np.concatenate([windows[i] for i in range(start, end)])
            start = end
        return found

    def take(self, media: Sequence[Embedding]) -> EncodedRows | None:
        """The rows of media that are encoded already: a table by themselves."""
        if not media:
            return None
        ends = np.cumsum([len(medium.tokens) for medium in media]).tolist()
        count, width = _padded(ends[-1], _LEAST_TOKENS), media[0].tokens.shape[1]
        tokens = np.zeros((count, width), np.float32)
        levels = max((len(medium.deepstack) for medium in media if medium.deepstack is not None), default=0)
        deepstack = np.zeros((levels, count, width), np.float32)
        for medium, end in zip(media, ends, strict=True):
            self.places[id(medium)] = own = np.arange(end - len(medium.tokens), end)
            tokens[own] = medium.tokens
            if medium.deepstack is not None:
                deepstack[:, own] = medium.deepstack
        return EncodedRows(tokens, deepstack if levels else None)

    def _place(
        self,
        calls: Iterable[Call],
        width: Callable[[Any], int],
        lengths: Callable[[Any], np.ndarray],
        row_counts: Mapping[Shape, int] | None,
        blank: Callable[[Shape], Any],
        least: int = 1,
    ) -> tuple[list[Any], dict[int, np.ndarray]]:
        """One call for each padded length, and where in the table each frame's or window's tokens lie."""
        by_shape: dict[Shape, list[Call]] = {shape: [] for shape, count in (row_counts or {}).items() if count}
        for call in calls:
            by_shape.setdefault(call.rows[0].shape[1:], []).append(call)
        found, places = [], {}
        for shape, group in sorted(by_shape.items()):
            members = [i for call in group for i in call.members]
            count = _padded(len(members), least) if row_counts is None else row_counts.get(shape, 0)
            if len(members) > count:
                raise BatchOverflow(f"{len(members)} rows of shape {shape} in a batch for {count}")
            own = [call.rows for call in group] or [blank(shape)]
            whole = [np.concatenate(arrays) for arrays in zip(*own, strict=True)]
            # A row of padding is the first row again: a frame without patches has no softmax.
            spare = count - len(whole[0])
            rows = type(own[0])(*(np.concatenate([a, np.repeat(a[:1], spare, axis=0)]) for a in whole))
            for row, (i, tokens) in enumerate(zip(members, lengths(rows), strict=False)):
                places[i] = self._size + row * width(rows) + np.arange(tokens)
            self._size += len(rows.lengths) * width(rows)
            found.append(rows)
        return found, places


def _padded(count: int, least: int) -> int:
    return 1 << (max(count, least) - 1).bit_length()
