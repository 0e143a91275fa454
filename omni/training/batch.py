"""Examples side by side, as arrays of a few shapes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int32

from encoders.layout import VISION_LENGTHS, AudioRows, Call, VisionRows, audio_calls, vision_calls
from omni.config import ModelConfig
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


class Batch(NamedTuple):
    """What a step reads, padded with zeros on the right.

    Towers give rows of tokens, and those of all calls make up a table, pictures and clips first. Each token of a
    conversation that is a medium's names its row there.

    Attributes:
        token_ids: ids.
        position_ids: rotary positions in time, height and width.
        counts: real tokens of each conversation.
        learned: True for the tokens that are to be predicted.
        sources: for each token the row of the table and 1; 0 for text.
        vision: arguments of the vision tower, one call for each padded length.
        audio: arguments of the audio tower, one call for each padded length.
    """

    token_ids: Int32[np.ndarray, "batch tokens"]
    position_ids: Float32[np.ndarray, "3 batch tokens"]
    counts: Int32[np.ndarray, "batch"]
    learned: Bool[np.ndarray, "batch tokens"]
    sources: Int32[np.ndarray, "batch tokens"]
    vision: tuple[VisionRows, ...]
    audio: tuple[AudioRows, ...]


def collate(examples: Sequence[Example], config: ModelConfig) -> Batch:
    """Puts examples side by side.

    Lengths, and numbers of rows, are padded to powers of two, so that few programs serve many batches.

    Args:
        examples: one or more.
        config: sizes of the towers.
    """
    stills = _features(examples, ImageFeatures)
    clips = _features(examples, VideoFeatures)
    sounds = [f for e in examples for f in (*e.media, *e.tracks) if isinstance(f, AudioFeatures)]
    table = _Table()
    # Stills and clips differ in the width of a patch, so each kind makes its own calls.
    vision = [rows for seen in (stills, clips) if seen for rows in table.see(seen, config)]
    audio = table.hear(sounds, config, len(examples) // 4) if sounds else []

    length = _padded(max(len(example.token_ids) for example in examples), _LEAST_TOKENS)
    shape = (len(examples), length)
    batch = Batch(
        token_ids=np.zeros(shape, np.int32),
        position_ids=np.zeros((3, *shape), np.float32),
        counts=np.asarray([len(example.token_ids) for example in examples], np.int32),
        learned=np.zeros(shape, bool),
        sources=np.zeros(shape, np.int32),
        vision=tuple(vision),
        audio=tuple(audio),
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

    def see(self, media: Sequence[ImageFeatures | VideoFeatures], config: ModelConfig) -> list[VisionRows]:
        """Calls of the vision tower for stills, or for clips."""
        assert config.vision is not None
        grids = np.concatenate([features.grid_thw for features in media])
        calls = vision_calls(
            np.concatenate([f.pixels for f in media]), grids, config.vision, _ALL_ROWS, _VISION_LENGTHS
        )
        unit = config.vision.merge_unit
        found, frames = self._place(calls, lambda rows: rows.pixels.shape[1] // unit, lambda rows: rows.lengths // unit)
        start = 0
        for features, t in zip(media, grids[:, 0].tolist(), strict=True):
            self.places[id(features)] = np.concatenate([frames[i] for i in range(start, start + t)])
            start += t
        return found

    def hear(self, sounds: Sequence[AudioFeatures], config: ModelConfig, least: int) -> list[AudioRows]:
        """Calls of the audio tower, of at least so many rows: each number of windows of a length is a program."""
        assert config.audio is not None
        tokens = config.audio.chunk_tokens
        calls = audio_calls([sound.mel for sound in sounds], config.audio)
        found, windows = self._place(calls, lambda rows: rows.mel.shape[1] * tokens, lambda rows: rows.lengths, least)
        start = 0
        for sound in sounds:
            end = start + -(-sound.mel.shape[1] // config.audio.n_window_infer)
            self.places[id(sound)] = np.concatenate([windows[i] for i in range(start, end)])
            start = end
        return found

    def _place(
        self, calls: Iterable[Call], width: Callable[[Any], int], lengths: Callable[[Any], np.ndarray], least: int = 1
    ):
        """One call for each padded length, and where in the table each frame's or window's tokens lie."""
        by_shape: dict[tuple[int, ...], list[Call]] = {}
        for call in calls:
            by_shape.setdefault(call.rows[0].shape[1:], []).append(call)
        found, places = [], {}
        for _, group in sorted(by_shape.items()):
            members = [i for call in group for i in call.members]
            room = _padded(len(members), least) - len(members)
            whole = [np.concatenate(arrays) for arrays in zip(*(call.rows for call in group), strict=True)]
            # A row of padding is the first row again: a frame without patches has no softmax.
            rows = type(group[0].rows)(*(np.concatenate([a, np.repeat(a[:1], room, axis=0)]) for a in whole))
            for row, (i, count) in enumerate(zip(members, lengths(rows), strict=False)):
                places[i] = self._size + row * width(rows) + np.arange(count)
            self._size += len(rows.lengths) * width(rows)
            found.append(rows)
        return found, places


def _padded(count: int, least: int) -> int:
    return 1 << (max(count, least) - 1).bit_length()
