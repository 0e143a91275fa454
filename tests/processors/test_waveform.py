"""Waveforms: limits to the sample, blocks that leave no trace, and what is no level or rate."""

import numpy as np
import pytest

from processors import InputError, Limits
from processors.waveform import bounded, check_length, check_level, checked_rate, joined, resample, to_mono


def refusal_of(call, *arguments):
    with pytest.raises(InputError) as refusal:
        call(*arguments)
    return refusal.value.code


def blocks_of(*sizes):
    whole = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    return whole, np.split(whole, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("sizes", [(5,), (0, 5), (5, 0, 7), (1, 2, 3, 100), (100, 1, 1, 1, 11, 1, 12), (1,) * 60])
def test_blocks_are_joined_in_order(sizes):
    whole, blocks = blocks_of(*sizes)
    for most in (None, len(whole), len(whole) + 1):
        made = joined(blocks) if most is None else joined(blocks, most)
        assert made is not None and made.dtype == np.float32
        np.testing.assert_array_equal(made, whole)
    assert joined(blocks, len(whole) - 1) is None
    assert joined([], 0).tolist() == joined([]).tolist() == []


def test_nothing_is_read_behind_the_block_that_is_too_much():
    _, blocks = blocks_of(10, 10, 10)
    left = iter(blocks)
    assert joined(left, 15) is None and len(list(left)) == 1


LIMITS = Limits(audio_seconds=2.5, audio_samples=30_000, audio_expansion=10, free_bytes=4000)


@pytest.mark.parametrize(
    ("samples", "rate", "encoded", "code"),
    [
        (30_000, 16_000, None, None), (30_001, 16_000, None, "audio_too_long"), (2500, 1000, None, None),
        (2501, 1000, None, "audio_too_long"), (1000, 1000, 1, None), (1001, 1000, 1, "audio_expansion"),
        (1000, 1000, 400, None), (1250, 1000, 500, None), (1251, 1000, 500, "audio_expansion"), (0, 1000, 0, None),
    ],
)  # fmt: skip
def test_limits_are_held_to_the_sample(samples, rate, encoded, code):
    """Samples take four bytes."""
    if code is None:
        check_length(samples, rate, encoded, LIMITS)
        _, blocks = blocks_of(samples // 2, samples - samples // 2)
        assert sum(map(len, bounded(blocks, rate, encoded, LIMITS))) == samples
        return
    assert refusal_of(check_length, samples, rate, encoded, LIMITS) == code
    left = bounded(blocks_of(samples - 1, 1)[1], rate, encoded, LIMITS)
    assert len(next(left)) == samples - 1
    assert refusal_of(next, left) == code


@pytest.mark.parametrize(("rate", "target"), [(44_100, 16_000), (8_000, 16_000), (16_000, 44_100), (1_000, 48_000)])
def test_resampling_leaves_no_trace_of_blocks(rate, target):
    sound = np.random.RandomState(0).uniform(-0.5, 0.5, 3001).astype(np.float32)
    whole = joined(resample([sound], rate, target))
    assert len(whole) == -(-3001 * target // rate)
    for size in (1, 256, 700):
        blocks = [sound[at : at + size] for at in range(0, len(sound), size)]
        np.testing.assert_array_equal(joined(resample(blocks, rate, target)), whole)


@pytest.mark.parametrize("samples", [1, 2, 3, 100])
def test_few_samples_become_as_many_as_many_would(samples):
    for rate, target in ((44_100, 16_000), (8_000, 48_000), (768_000, 1_000)):
        made = joined(resample([np.full(samples, 0.25, np.float32)], rate, target))
        assert len(made) == -(-samples * target // rate)


def test_a_waveform_of_its_rate_is_passed_on_as_it_is():
    whole, blocks = blocks_of(3, 4000, 5)
    np.testing.assert_array_equal(joined(resample(blocks, 16_000, 16_000)), whole)
    for rate in (16_000, 8_000):
        assert refusal_of(list, resample([], rate, 16_000)) == "audio_empty"
        assert refusal_of(list, resample([np.empty(0, np.float32)], rate, 16_000)) == "audio_empty"
        for value in (np.nan, np.inf):
            assert refusal_of(list, resample([whole, np.float32([value])], rate, 16_000)) == "audio_not_finite"
    for rates in ((999, 16_000), (16_000, 999)):
        assert refusal_of(list, resample(blocks, *rates)) == "audio_rate"


@pytest.mark.parametrize("value", [16.0, -16.0])
def test_levels_go_up_to_16(value):
    check_level(np.float32([0, value]))
    beyond = np.nextafter(np.float32(value), np.float32(2 * value))
    assert refusal_of(check_level, np.float32([0, beyond])) == "audio_range"
    check_level(np.float32([0, beyond]), 17.0)
    check_level(np.empty(0, np.float32))


@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        (np.int8, [-128, -1, 0, 127], [-1, -1 / 128, 0, 127 / 128]),
        (np.uint8, [0, 127, 128, 255], [-1, -1 / 128, 0, 127 / 128]),
        (np.int16, [-32_768, -1, 0, 16_384], [-1, -1 / 32_768, 0, 0.5]),
        (np.int32, [-(1 << 31), 0, 1 << 30, 1], [-1, 0, 0.5, 2.0**-31]),
        (np.float64, [-1, 0.25, 2, 1e-9], [-1, 0.25, 2, np.float32(1e-9)]),
    ],
)
def test_full_scale_is_one_of_every_type(dtype, values, wanted):
    samples = np.array([values, values], dtype)
    swapped = samples.astype(samples.dtype.newbyteorder(">"))
    for made in (to_mono(samples, 0), to_mono(samples.T, 1), to_mono(swapped, 0)):
        assert made.dtype == np.float32 and made.tolist() == wanted


@pytest.mark.parametrize(("rate", "refused"), [(999.0, True), (1000, False), (768_000.0, False), (768_000.5, True)])
def test_rates_end_at_1_and_768_khz(rate, refused):
    if refused:
        assert refusal_of(checked_rate, rate) == "audio_rate"
    else:
        assert checked_rate(rate) == rate and isinstance(checked_rate(np.float64(rate)), int)


def test_a_message_about_a_rate_is_short():
    for rate in (1e17, -1e17, 1e18, 1e300, 10**17, 10**5000, -(10**5000), float("inf"), float("nan")):
        with pytest.raises(InputError) as refusal:
            checked_rate(rate)
        assert refusal.value.code == "audio_rate" and len(str(refusal.value)) < 200
