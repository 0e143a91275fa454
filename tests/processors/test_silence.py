"""Recordings are cut where they are quiet, and nothing is lost."""

from itertools import pairwise

import numpy as np
import pytest

from processors import silence

RATE = 1000


def split_at_silence(sound, rate, longest, block=4096):
    """First sample, and the one after the last, of each stretch."""
    blocks = (sound[at : at + block] for at in range(0, len(sound), block))
    stretches = list(silence.split_at_silence(blocks, rate, longest))
    np.testing.assert_array_equal(np.concatenate(stretches), sound)
    edges = np.cumsum([0, *map(len, stretches)]).tolist()
    return list(pairwise(edges))


def loud(seconds: float, quiet: list[float]) -> np.ndarray:
    """Noise with 200 ms of silence around each of the given times."""
    sound = np.random.RandomState(0).uniform(-1, 1, int(seconds * RATE)).astype(np.float32)
    for at in quiet:
        sound[int((at - 0.1) * RATE) : int((at + 0.1) * RATE)] *= 1e-3
    return sound


@pytest.mark.parametrize("samples", [1, 999, 20_000])
def test_what_is_short_enough_is_one_stretch(samples):
    assert split_at_silence(np.ones(samples, np.float32), RATE, 20) == [(0, samples)]


def test_cuts_are_in_the_pauses():
    pauses = [13.0, 17.0, 31.5, 47.0]
    stretches = split_at_silence(loud(60, pauses), RATE, 20)
    assert [start for start, _ in stretches[1:]] == pytest.approx([p * RATE for p in (13, 31.5, 47)], abs=4100)
    for start, _ in stretches[1:]:
        assert min(abs(start - pause * RATE) for pause in pauses) <= 60


@pytest.mark.parametrize("rate", [1000, 1010, 16_000])
def test_a_pause_is_cut_in_its_middle(rate):
    sound = np.random.RandomState(1).uniform(-1, 1, 30 * rate).astype(np.float32)
    pause = rate // 10  # as long as the window that is looked for
    sound[15 * rate : 15 * rate + pause] = 0
    assert split_at_silence(sound, rate, 20)[1][0] == 15 * rate + pause // 2


@pytest.mark.parametrize("longest", [1, 1.5, 7, 20, 59.9])
@pytest.mark.parametrize("sound", [loud(61.234, [30]), np.zeros(61_234, np.float32)], ids=["noise", "silence"])
def test_stretches_tile_the_recording(sound, longest):
    stretches = split_at_silence(sound, RATE, longest)
    edges = [0, *(end for _, end in stretches)]
    assert [start for start, _ in stretches] == edges[:-1] and edges[-1] == len(sound)
    assert 0 < min(np.diff(edges)) and max(np.diff(edges)) <= longest * RATE
    # All but the last are at least half as long as they may be.
    assert min(np.diff(edges[:-1]), default=longest * RATE) >= longest * RATE // 2


def test_a_recording_without_energy_differences_does_not_stall():
    assert len(split_at_silence(np.full(3_600_000, 0.5, np.float32), RATE, 1200)) in (4, 5)


def test_cuts_do_not_depend_on_blocks():
    sound = loud(60, [13, 31.5])
    assert split_at_silence(sound, RATE, 7, block=1) == split_at_silence(sound, RATE, 7, block=len(sound))


@pytest.mark.parametrize(
    ("longest", "first", "second", "cut"),
    [(30, 19.7, 22, 22), (30, 20.2, 5, 20.2), (30, 29.7, 19.7, 29.7), (12, 5.7, 8, 8), (12, 6.3, 3, 6.3)],
)
def test_a_pause_is_looked_for_in_the_last_ten_seconds_or_the_second_half(longest, first, second, cut):
    """The first is a deeper pause than the second."""
    sound = loud(longest + 5, [second])
    sound[int((first - 0.1) * RATE) : int((first + 0.1) * RATE)] = 0
    assert split_at_silence(sound, RATE, longest)[0][1] == pytest.approx(cut * RATE, abs=60)


def test_a_window_is_a_tenth_of_a_second():
    """Short of that, silence counts less than a longer pause that is not as quiet."""
    sound = loud(30, [])
    sound[15_000:15_080] = 0
    sound[17_000:17_120] *= 0.1
    assert split_at_silence(sound, RATE, 20)[0][1] == pytest.approx(17_060, abs=15)
    sound[15_000:15_100] = 0
    assert split_at_silence(sound, RATE, 20)[0][1] == 15_050


@pytest.mark.parametrize("block", [1, 999, 5000])
@pytest.mark.parametrize("more", [0, 1])
def test_only_what_is_longer_than_a_stretch_is_cut(more, block):
    sound = loud(5, [4.2])
    sound = np.concatenate([sound, np.ones(more, np.float32)])
    assert len(split_at_silence(sound, RATE, 5, block)) == 1 + more


@pytest.mark.parametrize("level", [1e-4, 0.01, 10])
def test_a_recording_of_any_level_is_cut_in_the_same_places(level):
    sound = loud(60, [13, 31.5])
    assert split_at_silence(sound * np.float32(level), RATE, 20) == split_at_silence(sound, RATE, 20)
