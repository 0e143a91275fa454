"""Media of any size as rows of a few lengths, on the host.

Attention in the vision tower never leaves a frame, and in the audio tower never leaves its window. So a frame, or a
window, is one row, padded on the right to one of a few lengths: no attention between rows to mask, no cost that grows
with the square of its length, and a bounded number of compiled programs whatever sizes come.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from warnings import warn

import numpy as np
from jaxtyping import Float32, Int32, Shaped

from encoders.config import AudioConfig, VisionConfig, downsampled

# Patches a row. Twelve steps up to the released pixel limit; common picture sizes lie just below one:
# 512², 768², 1024 x 768, 1024², 1080p, 1440p, 4K and 12 megapixels.
VISION_LENGTHS = (256, 576, 1024, 1536, 2304, 3072, 4096, 6144, 8192, 16384, 32768, 50176)
# Beyond them lengths double, from here to the longest frame that is read: 24 programs serve frames of any sizes, also
# where an accelerator runs several rows together.
_LONG, MOST_PATCHES = 1 << 16, 1 << 22
# Chunks a window, and windows a call.
AUDIO_CHUNKS = (1, 2, 4, 8)
AUDIO_ROWS = (16, 4, 1)


class VisionRows(NamedTuple):
    """Frames as rows of patches in merge-block order, padded with zeros.

    Attributes:
        pixels: grey levels 0..255 or normalised values of each patch.
        coordinates: row and column of each patch in its frame.
        table_indices: the four entries of the position table around each patch.
        table_weights: their bilinear weights.
        lengths: patches of each frame.
    """

    pixels: Shaped[np.ndarray, "rows length values"]
    coordinates: Int32[np.ndarray, "rows length 2"]
    table_indices: Int32[np.ndarray, "rows length 4"]
    table_weights: Float32[np.ndarray, "rows length 4"]
    lengths: Int32[np.ndarray, "rows"]


class AudioRows(NamedTuple):
    """Attention windows as rows of chunks, padded with zeros.

    Attributes:
        mel: log-mel frames of each chunk.
        conv_frames: frames that each chunk is convolved at.
        lengths: tokens of each window.
    """

    mel: Float32[np.ndarray, "rows chunks bins frames"]
    conv_frames: Int32[np.ndarray, "rows chunks"]
    lengths: Int32[np.ndarray, "rows"]


class Call(NamedTuple):
    """One call of a tower: its rows, and which of the caller's frames or windows they are, in order."""

    rows: VisionRows | AudioRows
    members: tuple[int, ...]


def vision_length(patches: int, lengths: Sequence[int] = VISION_LENGTHS) -> int:
    """Return the padded length of a frame: one of these or, beyond them, a power of two."""
    for length in lengths:
        if patches <= length:
            return length
    length = _LONG
    while length < patches:
        length *= 2
    return length


def vision_shapes(patches_at_once: int, most_patches: int = MOST_PATCHES) -> list[tuple[int, int]]:
    """Return rows and patches a row of every program that frames can need, whatever their sizes.

    Args:
        patches_at_once: as `vision_calls` takes it.
        most_patches: of the largest frame.
    """
    lengths = [length for length in VISION_LENGTHS if length < most_patches]
    lengths.append(vision_length(most_patches))
    while _LONG <= lengths[-1] // 2:
        lengths.append(lengths[-1] // 2)
    return [(rows, length) for length in sorted(lengths) for rows in _sizes(max(1, patches_at_once // length))]


def audio_shapes(config: AudioConfig) -> list[tuple[int, int]]:
    """Return rows and chunks a row of every program that audio can need, whatever its length."""
    return [(rows, chunks) for chunks in _chunk_steps(config) for rows in AUDIO_ROWS]


@lru_cache(maxsize=64)
def frame_geometry(
    height: int, width: int, config: VisionConfig
) -> tuple[Int32[np.ndarray, "patches 2"], Int32[np.ndarray, "patches 4"], Float32[np.ndarray, "patches 4"]]:
    """Where the patches of a frame lie, and how its positions are interpolated from the table.

    The table is resampled bilinearly with its corners aligned to the frame's, in float32.

    Args:
        height: of the frame, in patches.
        width: of the frame, in patches.
        config: merge size and table size.

    Returns:
        (row, column) of each patch in merge-block order; indices and weights of the table entries around it.
    """
    merge = config.spatial_merge_size
    side = round(config.num_position_embeddings**0.5)
    at = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    blocks = at.reshape(height // merge, merge, width // merge, merge, 2).swapaxes(1, 2)
    coordinates = blocks.reshape(-1, 2).astype(np.int32)
    taps, weights = [], []
    for axis, size in enumerate((height, width)):
        source = coordinates[:, axis].astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
        below = np.floor(source)
        above = source - below
        taps.append(np.stack([below, np.minimum(below + 1, side - 1)], axis=-1).astype(np.int32))
        weights.append(np.stack([1 - above, above], axis=-1))
    indices = (taps[0][:, :, None] * side + taps[1][:, None, :]).reshape(-1, 4)
    products = (weights[0][:, :, None] * weights[1][:, None, :]).reshape(-1, 4).astype(np.float32)
    return coordinates, indices, products


def vision_calls(
    pixels: Shaped[np.ndarray, "patches values"],
    grid_thw: Int32[np.ndarray, "media 3"],
    config: VisionConfig,
    patches_at_once: int | None = None,
    lengths: Sequence[int] = VISION_LENGTHS,
    *,
    whole_patches: bool = False,
    rows_at_once: int | None = None,
) -> Iterator[Call]:
    """Cuts media into frames and groups frames of one padded length into calls.

    Args:
        pixels: patches of all media, one medium after another.
        grid_thw: patches of each medium in time, height and width.
        config: merge size and table size.
        patches_at_once: patches that a call may hold in several rows; one row a call where a frame alone has as many.
        lengths: to which rows are padded, rising.
        whole_patches: write patches of one frame out for every frame that they stand for, so that images and videos
            share their programs.
        rows_at_once: the old name of `patches_at_once`.

    Raises:
        ValueError: the grids do not count the patches, a side is not a whole number of blocks, a frame has more than
            `MOST_PATCHES`, or the values are not those of patches.
    """
    if rows_at_once is not None:
        warn("rows_at_once counts patches, and is now called patches_at_once", DeprecationWarning, stacklevel=2)
        patches_at_once = rows_at_once
    if patches_at_once is None:
        raise TypeError("vision_calls() needs patches_at_once, the patches that a call may hold in several rows")
    return _vision_calls(pixels, grid_thw, config, patches_at_once, lengths, whole_patches)


def _vision_calls(
    pixels: np.ndarray,
    grid_thw: np.ndarray,
    config: VisionConfig,
    patches_at_once: int,
    lengths: Sequence[int],
    whole_patches: bool,
) -> Iterator[Call]:
    frames = [(int(h), int(w)) for t, h, w in grid_thw.tolist() for _ in range(t)]
    merge, channels, area, depth = config.spatial_merge_size, config.in_channels, config.patch_size**2, 1
    if pixels.shape[1] not in (channels * area, channels * area * config.temporal_patch_size):
        both = f"{channels * area} values (one frame) or {channels * area * config.temporal_patch_size} (all frames)"
        raise ValueError(f"a patch of pixels has {both}, got {pixels.shape[1]}")
    if pixels.dtype != np.uint8 and np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(f"pixels are uint8 levels or floats that are normalised already, got {pixels.dtype}")
    if (grid_thw < 1).any():
        raise ValueError(f"grid_thw must be positive, got {grid_thw.tolist()}")
    if sum(h * w for h, w in frames) != len(pixels):
        raise ValueError(f"grid_thw counts {sum(h * w for h, w in frames)} patches, pixels has {len(pixels)}")
    if any(h % merge or w % merge for h, w in frames):
        raise ValueError(f"the sides of grid_thw must be multiples of the merge size {merge}")
    if (most := max((h * w for h, w in frames), default=0)) > MOST_PATCHES:
        raise ValueError(f"a frame has {most:,} patches, a tower reads at most {MOST_PATCHES:,}")
    if whole_patches and pixels.shape[1] == channels * area:
        depth = config.temporal_patch_size
    starts = np.cumsum([0] + [h * w for h, w in frames])
    by_length: dict[int, list[int]] = {}
    for i, (h, w) in enumerate(frames):
        by_length.setdefault(vision_length(h * w, lengths), []).append(i)
    for length, members in by_length.items():
        for chosen in _split(members, _sizes(max(1, patches_at_once // length))):
            rows = VisionRows(
                np.zeros((len(chosen), length, pixels.shape[1] * depth), pixels.dtype),
                np.zeros((len(chosen), length, 2), np.int32),
                np.zeros((len(chosen), length, 4), np.int32),
                np.zeros((len(chosen), length, 4), np.float32),
                np.asarray([frames[i][0] * frames[i][1] for i in chosen], np.int32),
            )
            for row, i in enumerate(chosen):
                n = rows.lengths[row]
                frame = pixels[starts[i] : starts[i + 1]]
                if depth == 1:
                    rows.pixels[row, :n] = frame
                else:
                    rows.pixels[row, :n].reshape(n, channels, depth, area)[:] = frame.reshape(n, channels, 1, area)
                for whole, part in zip(rows[1:4], frame_geometry(*frames[i], config), strict=True):
                    whole[row, :n] = part
            yield Call(rows, tuple(chosen))


def audio_token_count(frames: int, config: AudioConfig) -> int:
    """Tokens of audio: those of its whole chunks, and of the rest."""
    whole, rest = divmod(frames, config.chunk_frames)
    return whole * config.chunk_tokens + (downsampled(rest) if rest else 0)


def audio_calls(mels: Sequence[Float32[np.ndarray, "bins _"]], config: AudioConfig) -> Iterator[Call]:
    """Cuts audio into attention windows and groups windows of one padded length into calls.

    Audio of at least one whole chunk has its last chunk padded with zeros to a whole one; shorter audio is so too
    with `config.whole_chunks`, and else convolved at its own length, as the reference does with one item.

    Args:
        mels: log-mel spectrograms.
        config: chunk and window sizes.

    Raises:
        ValueError: a spectrogram is empty or has another number of bands.
    """
    chunk, window = config.chunk_frames, config.n_window_infer
    windows: list[tuple[np.ndarray, int]] = []
    for mel in mels:
        if mel.ndim != 2 or mel.shape[0] != config.num_mel_bins or not mel.shape[1]:
            raise ValueError(f"a mel spectrogram must be [{config.num_mel_bins}, frames], got {list(mel.shape)}")
        conv_frames = chunk if config.whole_chunks else min(chunk, mel.shape[1])
        windows += [(mel[:, at : at + window], conv_frames) for at in range(0, mel.shape[1], window)]
    steps = _chunk_steps(config)
    by_chunks: dict[int, list[int]] = {}
    for i, (part, _) in enumerate(windows):
        needed = -(-part.shape[1] // chunk)
        by_chunks.setdefault(next(n for n in steps if n >= needed), []).append(i)
    for chunks, members in by_chunks.items():
        for chosen in _split(members, AUDIO_ROWS):
            mel = np.zeros((len(chosen), config.num_mel_bins, chunks * chunk), np.float32)
            for row, i in enumerate(chosen):
                mel[row, :, : windows[i][0].shape[1]] = windows[i][0]
            cut = mel.reshape(len(chosen), config.num_mel_bins, chunks, chunk).swapaxes(1, 2)
            conv_frames = np.asarray([[windows[i][1]] * chunks for i in chosen], np.int32)
            lengths = [audio_token_count(windows[i][0].shape[1], config) for i in chosen]
            yield Call(AudioRows(np.ascontiguousarray(cut), conv_frames, np.asarray(lengths, np.int32)), tuple(chosen))


def _chunk_steps(config: AudioConfig) -> list[int]:
    """Chunks that a window may be padded to."""
    return sorted({min(n, config.window_chunks) for n in AUDIO_CHUNKS} | {config.window_chunks})


def _sizes(most: int) -> tuple[int, ...]:
    """Rows a call may have: powers of 4 up to `most`, so that few programs serve any number of rows."""
    found = [1]
    while found[-1] * 4 <= most:
        found.append(found[-1] * 4)
    return tuple(reversed(found))


def _split(members: Sequence[int], sizes: Iterable[int]) -> Iterator[Sequence[int]]:
    """Cuts a list into pieces of the largest sizes that fit."""
    start = 0
    for size in sizes:
        while len(members) - start >= size:
            yield members[start : start + size]
            start += size
