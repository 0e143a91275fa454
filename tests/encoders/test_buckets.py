"""Rows that hold every patch and frame once, in few shapes, with the geometry of an independent implementation."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from encoders import AudioConfig, VisionConfig
from encoders.buckets import (
    AUDIO_CHUNKS,
    AUDIO_ROWS,
    MOST_PATCHES,
    VISION_LENGTHS,
    audio_calls,
    audio_shapes,
    audio_token_count,
    frame_geometry,
    vision_calls,
    vision_length,
    vision_shapes,
)

CONFIG = VisionConfig(in_channels=1, patch_size=1, temporal_patch_size=1)  # one value a patch
SOUND = AudioConfig(num_mel_bins=2)  # two bands suffice to see where frames go
RELEASED_PATCHES = 12_845_056 // 16**2

blocks = st.integers(1, 12).map(lambda n: 2 * n)
grids = st.lists(st.tuples(st.integers(1, 3), blocks, blocks), min_size=1, max_size=6)
clips = st.lists(st.integers(1, 2500), min_size=1, max_size=12)


def numbered(grid_thw):
    """Patches that carry their own number, from 1."""
    count = sum(t * h * w for t, h, w in grid_thw)
    return np.arange(1, count + 1, dtype=np.float32)[:, None], np.asarray(grid_thw, np.int32).reshape(-1, 3)


def spectrograms(lengths):
    """Frames that carry their own number, from 1, over all clips."""
    ends = np.cumsum(lengths)
    return [np.tile(np.arange(e - n + 1, e + 1, dtype=np.float32), (2, 1)) for n, e in zip(lengths, ends, strict=True)]


def shape_of(call):
    return tuple((a.shape, a.dtype.name) for a in call.rows)


# --- vision -----------------------------------------------------------------------------------------------------------


def test_lengths_are_few_and_rise():
    found = [vision_length(n) for n in range(1, RELEASED_PATCHES + 1)]
    assert len(set(found)) <= 12
    assert found == sorted(found)
    assert all(length >= n for n, length in enumerate(found, 1))
    assert set(found) == set(VISION_LENGTHS)


def test_a_frame_beyond_the_released_limit_has_a_length_too():
    for n in (RELEASED_PATCHES + 1, 65_536, 65_537, 10**6, MOST_PATCHES):
        assert n <= vision_length(n) < 2 * n


@pytest.mark.parametrize("at_once", [1, 8192], ids=["processor", "accelerator"])
def test_frames_of_any_size_need_24_programs(at_once):
    shapes = vision_shapes(at_once)
    assert len(set(shapes)) == len(shapes) <= 24
    lengths = {length for _, length in shapes}
    every = np.arange(1, RELEASED_PATCHES + 1)
    assert {vision_length(int(n)) for n in [*every, *(2**k for k in range(16, 23)), MOST_PATCHES]} == lengths
    assert vision_shapes(at_once, 576) == [shape for shape in shapes if shape[1] <= 576]
    assert vision_shapes(at_once, 600) == [shape for shape in shapes if shape[1] <= 1024]


@given(grids, st.sampled_from([1, 600, 8192]))
@settings(max_examples=30)
def test_calls_have_the_shapes_that_are_told(grid_thw, at_once):
    pixels, grid = numbered(grid_thw)
    told = set(vision_shapes(at_once))
    assert {call.rows.pixels.shape[:2] for call in vision_calls(pixels, grid, CONFIG, at_once)} <= told


def test_a_frame_that_no_program_reads_is_refused():
    side = 2 * (1 + int(MOST_PATCHES**0.5) // 2)
    pixels = np.broadcast_to(np.zeros((1, 1), np.uint8), (side * side, 1))
    with pytest.raises(ValueError, match="at most 4,194,304"):
        next(vision_calls(pixels, np.asarray([[1, side, side]], np.int32), CONFIG, 1))


def test_patches_of_one_frame_are_written_out_for_all():
    config = VisionConfig(patch_size=2, in_channels=3, temporal_patch_size=2)
    one = (np.arange(24 * 12) % 251).astype(np.uint8).reshape(24, 12)
    grid = np.asarray([[1, 4, 6]], np.int32)
    (short,), (whole,) = (list(vision_calls(one, grid, config, 1, whole_patches=w)) for w in (False, True))
    frames = whole.rows.pixels.reshape(1, 256, 3, 2, 4)
    np.testing.assert_array_equal(frames[:, :, :, 0], short.rows.pixels.reshape(1, 256, 3, 4))
    np.testing.assert_array_equal(frames[:, :, :, 0], frames[:, :, :, 1])
    both = frames.reshape(256, 24)[:24]
    (again,) = vision_calls(both, grid, config, 1, whole_patches=True)
    np.testing.assert_array_equal(again.rows.pixels, whole.rows.pixels)


def test_the_old_name_of_patches_at_once_works():
    pixels, grid = numbered([(1, 4, 6)])
    with pytest.warns(DeprecationWarning, match="patches_at_once"):
        (old,) = vision_calls(pixels, grid, CONFIG, rows_at_once=1)
    (new,) = vision_calls(pixels, grid, CONFIG, patches_at_once=1)
    np.testing.assert_array_equal(old.rows.pixels, new.rows.pixels)
    with pytest.raises(TypeError, match="patches_at_once"):
        vision_calls(pixels, grid, CONFIG)


@given(grids, st.sampled_from([1, 600, 8192]))
@settings(max_examples=50)
def test_rows_hold_every_patch_once_in_order(grid_thw, at_once):
    pixels, grid = numbered(grid_thw)
    frames = {}
    for call in vision_calls(pixels, grid, CONFIG, at_once):
        rows, length = call.rows, call.rows.pixels.shape[1]
        assert len(call.members) == len(rows.lengths)
        assert len(call.members) == 1 or len(call.members) * length <= at_once
        for row, (n, i) in enumerate(zip(rows.lengths.tolist(), call.members, strict=True)):
            assert length == vision_length(n)
            frames[i] = rows.pixels[row, :n, 0]
            for whole in rows[:4]:
                assert not whole[row, n:].any()
    each = [h * w for t, h, w in grid_thw for _ in range(t)]
    assert [len(frames[i]) for i in range(len(each))] == each
    np.testing.assert_array_equal(np.concatenate([frames[i] for i in range(len(each))]), pixels[:, 0])


@given(st.lists(st.tuples(st.integers(1, 40), blocks, blocks), min_size=1, max_size=30), st.sampled_from([1, 8192]))
@settings(max_examples=30)
def test_vision_calls_are_few_and_of_few_shapes(grid_thw, at_once):
    pixels, grid = numbered(grid_thw)
    calls = list(vision_calls(pixels, grid, CONFIG, at_once))
    by_length = Counter()
    for t, h, w in grid_thw:
        by_length[vision_length(h * w)] += t
    rows = {length: [4**k for k in range(9) if k == 0 or 4**k * length <= at_once] for length in by_length}
    assert len({shape_of(call) for call in calls}) <= sum(len(sizes) for sizes in rows.values())
    # All in the largest calls, but for three of each smaller size.
    most = sum(n // rows[length][-1] + 3 * (len(rows[length]) - 1) for length, n in by_length.items())
    assert len(calls) <= most
    assert {len(call.members) for call in calls} <= {size for sizes in rows.values() for size in sizes}


def patches_by_hand(height, width, merge):
    """(row, column) of each patch: block after block, and row after row within a block."""
    return [
        (block_row * merge + row, block_column * merge + column)
        for block_row in range(height // merge)
        for block_column in range(width // merge)
        for row in range(merge)
        for column in range(merge)
    ]


@pytest.mark.parametrize("merge, side", [(2, 48), (1, 8), (3, 7)])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (2, 2), (2, 112), (4, 6), (16, 16), (48, 48), (70, 9)])
def test_geometry_is_that_of_an_independent_interpolation(height, width, merge, side):
    height, width = height * merge, width * merge
    config = VisionConfig(spatial_merge_size=merge, num_position_embeddings=side**2)
    coordinates, indices, weights = frame_geometry(height, width, config)
    assert (coordinates.dtype, indices.dtype, weights.dtype) == (np.int32, np.int32, np.float32)
    np.testing.assert_array_equal(coordinates, patches_by_hand(height, width, merge))

    table = np.random.default_rng(0).standard_normal((side, side, 3))
    between = RegularGridInterpolator((np.arange(side), np.arange(side)), table)
    rows, columns = np.linspace(0, side - 1, height), np.linspace(0, side - 1, width)
    wanted = between([(rows[r], columns[c]) for r, c in coordinates])
    found = (table.reshape(-1, 3)[indices] * weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(found, wanted, atol=5e-5)  # a float32 place among 48 entries


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=50)
def test_position_weights_sum_to_one_and_corners_meet(half_height, half_width):
    height, width = 2 * half_height, 2 * half_width
    coordinates, indices, weights = frame_geometry(height, width, CONFIG)
    assert 0 <= indices.min() and indices.max() < 48**2
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    corners = {(0, 0): 0, (0, width - 1): 47, (height - 1, 0): 47 * 48, (height - 1, width - 1): 47 * 49}
    for place, entry in corners.items():
        patch = coordinates.tolist().index(list(place))
        assert weights[patch][indices[patch] == entry].sum() == 1


@pytest.mark.parametrize(
    "patches, grid_thw",
    [
        (23, [[1, 4, 6]]),
        (25, [[1, 4, 6]]),
        (24, [[1, 4, 6], [1, 2, 2]]),
        (24, []),
        (15, [[1, 3, 5]]),
        (12, [[1, 4, 3]]),
        (0, [[1, 0, 4]]),
        (24, [[1, -4, -6]]),
        (24, [[0, 4, 6], [1, 4, 6]]),
    ],
)
def test_grids_that_do_not_fit_are_refused(patches, grid_thw):
    grid = np.asarray(grid_thw, np.int32).reshape(-1, 3)
    with pytest.raises(ValueError, match="grid_thw"):
        list(vision_calls(np.zeros((patches, 1), np.uint8), grid, CONFIG, 1))


@pytest.mark.parametrize(
    "values, dtype, message",
    [
        (767, np.uint8, "has 768 values .one frame. or 1536 .all frames., got 767"),
        (3072, np.float32, "got 3072"),
        (768, np.int32, "uint8 levels or floats that are normalised already, got int32"),
    ],
)
def test_pixels_that_are_not_patches_are_refused(values, dtype, message):
    """Levels in a wider integer would pass for normalised values."""
    with pytest.raises(ValueError, match=message):
        list(vision_calls(np.zeros((24, values), dtype), np.asarray([[1, 4, 6]], np.int32), VisionConfig(), 1))


def test_no_media_no_calls():
    assert list(vision_calls(np.zeros((0, 1), np.uint8), np.zeros((0, 3), np.int32), CONFIG, 1)) == []
    assert list(audio_calls([], SOUND)) == []


# --- audio ------------------------------------------------------------------------------------------------------------


def test_tokens_of_every_number_of_frames_up_to_1000():
    for frames in range(1, 1001):
        r = frames % 100
        rest = (((r - 1) // 2 + 1 - 1) // 2 + 1 - 1) // 2 + 1 if r else 0
        assert audio_token_count(frames, AudioConfig()) == 13 * (frames // 100) + rest, frames


@given(clips)
@settings(max_examples=50)
def test_windows_hold_every_frame_once_in_order(lengths):
    mels = spectrograms(lengths)
    windows = {}
    for call in audio_calls(mels, SOUND):
        mel, conv_frames, tokens = call.rows
        rows, chunks, bins, frames = mel.shape
        assert (bins, frames) == (2, 100) and conv_frames.shape == (rows, chunks) and len(call.members) == rows
        for row, i in enumerate(call.members):
            flat = mel[row].swapaxes(0, 1).reshape(bins, -1)
            np.testing.assert_array_equal(flat[0], flat[1])
            windows[i] = flat[0], conv_frames[row], int(tokens[row])
    at = 0
    for mel in mels:
        count = -(-mel.shape[1] // 800)
        found = [windows[i] for i in range(at, at + count)]
        at += count
        np.testing.assert_array_equal(np.concatenate([w[w > 0] for w, _, _ in found]), mel[0])
        for w, conv_frames, _ in found:
            n = np.count_nonzero(w)
            assert not w[n:].any()
            assert (conv_frames == min(100, mel.shape[1])).all()
        assert sum(tokens for _, _, tokens in found) == audio_token_count(mel.shape[1], SOUND)
    assert at == len(windows)


@pytest.mark.parametrize("n_window_infer", [100, 300, 800, 1600])
def test_audio_of_any_length_needs_24_programs(n_window_infer):
    config = AudioConfig(num_mel_bins=2, n_window_infer=n_window_infer)
    told = audio_shapes(config)
    assert len(set(told)) == len(told) <= 24
    mels = [np.ones((2, frames), np.float32) for frames in (1, 99, 100, 250, 790, 1600, 40_000)]
    assert {call.rows.mel.shape[:2] for call in audio_calls(mels, config)} <= set(told)


@given(clips)
@settings(max_examples=50)
def test_audio_calls_are_few_and_of_at_most_twelve_shapes(lengths):
    calls = list(audio_calls(spectrograms(lengths), SOUND))
    windows = sum(-(-n // 800) for n in lengths)
    assert {shape_of(call)[0][0][:2] for call in calls} <= {(r, c) for r in AUDIO_ROWS for c in AUDIO_CHUNKS}
    assert len({shape_of(call) for call in calls}) <= 12
    assert len(calls) <= windows // max(AUDIO_ROWS) + 6 * len(AUDIO_CHUNKS)


def test_a_window_is_never_padded_to_more_than_twice_its_chunks():
    for chunks in range(1, 9):
        (call,) = audio_calls(spectrograms([100 * chunks]), SOUND)
        assert chunks <= call.rows.mel.shape[1] < 2 * chunks


def test_windows_that_no_step_fits():
    """Seven chunks a window: the last step is the window itself."""
    config = AudioConfig(num_mel_bins=2, n_window_infer=700)
    shapes = {call.rows.mel.shape[1] for n in range(1, 8) for call in audio_calls(spectrograms([100 * n]), config)}
    assert shapes == {1, 2, 4, 7}


@pytest.mark.parametrize("shape", [(2, 0), (3, 10)])
def test_spectrograms_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[2, frames\], got"):
        list(audio_calls([np.zeros(shape, np.float32)], SOUND))
