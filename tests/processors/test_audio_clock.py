"""An audio track on the clock of its container: what is cut, what is filled with silence, and what is left alone."""

import numpy as np
import pytest

from processors import InputError
from processors.decode.audio.track import _at_rate, _Clock

RATE = 1000


def ramp(samples, first=1):
    return np.arange(first, first + samples, dtype=np.float32)


def lay(stretches, start=None):
    """Stretches of a time in seconds and samples, at 1 kHz, laid from a time on."""
    return np.concatenate(list(_Clock(start, RATE).lay(iter(stretches))))


def expected(*parts):
    """Numbers of silent samples, and samples."""
    return np.concatenate([np.zeros(part, np.float32) if isinstance(part, int) else part for part in parts])


def test_a_track_without_a_start_has_its_own():
    np.testing.assert_array_equal(lay([(7.25, ramp(100)), (7.35, ramp(50, 101))]), ramp(150))
    np.testing.assert_array_equal(lay([(None, ramp(100)), (None, ramp(50, 101))]), ramp(150))


@pytest.mark.parametrize("late", [1, 40, 3000, 65_535, 65_536, 65_537, 200_000, 600_000])
def test_silence_stands_in_for_a_track_that_begins_later(late):
    np.testing.assert_array_equal(lay([((5000 + late) / RATE, ramp(90))], 5.0), expected(late, ramp(90)))


@pytest.mark.parametrize("early", [1, 30, 89, 90, 91, 179, 180, 250])
def test_what_lies_before_the_start_is_cut_to_the_sample(early):
    begin = (5000 - early) / RATE
    made = lay([(begin, ramp(90)), (begin + 0.09, ramp(90, 91)), (begin + 0.18, ramp(90, 181))], 5.0)
    np.testing.assert_array_equal(made, ramp(270)[early:])


@pytest.mark.parametrize(
    ("step", "filled"),
    [
        (0, 0), (1, 0), (50, 0), (51, 51), (3000, 3000), (600_000, 600_000), (600_001, 0), (10_000_000, 0), (-50, 0),
        (-51, -51), (-80, -80), (-600_001, 0),
    ],
)  # fmt: skip
def test_a_hole_is_filled_unless_it_is_jitter_or_a_broken_clock(step, filled):
    """Times are rounded to the ticks of a container, so that 50 ms are none; nor is a hole of more than ten minutes."""
    made = lay([(2.0, ramp(100)), (2.1 + step / RATE, ramp(100, 101)), (None, ramp(10, 201))])
    np.testing.assert_array_equal(made, expected(ramp(100), max(filled, 0), ramp(110, 101)[max(-filled, 0) :]))


def test_a_clock_that_drifts_is_followed_where_it_is_50_ms_away():
    """What was filled counts: the stretches behind are where they say."""
    stretches = [(0.1 * number + 0.02 * number, ramp(100, 1 + 100 * number)) for number in range(7)]
    made = lay(stretches)
    pieces = [ramp(300), 60, ramp(300, 301), 60, ramp(100, 601)]
    np.testing.assert_array_equal(made, expected(*pieces))


def at_rate(stretches, start=None, target=RATE):
    return np.concatenate(list(_at_rate(iter(stretches), start, target, "it")))


def test_a_stretch_of_another_rate_goes_on_where_the_last_one_ended():
    made = at_rate([(1.0, 1000, ramp(500)), (1.7, 2000, np.full(1000, 0.5, np.float32))], 0.5)
    np.testing.assert_array_equal(made[:1000], expected(500, ramp(500)))
    # A hole of 200 ms, and 500 ms of the other rate.
    assert len(made) == 1000 + 700 and abs(made[1100]) < 0.01 and made[1450] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(at_rate([(None, 1000, ramp(9))]), ramp(9))


@pytest.mark.parametrize(
    ("stretches", "code"),
    [([], "audio_empty"), ([(0.0, 0, ramp(9))], "audio_corrupt"), ([(0.0, -1, ramp(9))], "audio_corrupt"),
     ([(0.0, 999, ramp(9))], "audio_rate"), ([(0.0, 1, ramp(9))], "audio_rate")],
)  # fmt: skip
def test_a_track_has_samples_and_a_rate(stretches, code):
    with pytest.raises(InputError) as refusal:
        at_rate(stretches)
    assert refusal.value.code == code
