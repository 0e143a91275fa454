"""Log-mel spectrograms of the least that makes a frame, of silence behind short audio, and of the loudest samples."""

import numpy as np
import pytest

from processors import AudioConfig, InputError
from processors.mel import log_mel, mel_filters

SOUND = np.random.RandomState(0).uniform(-0.5, 0.5, 4000).astype(np.float32)


def refusal_of(*arguments):
    with pytest.raises(InputError) as refusal:
        log_mel(*arguments)
    return refusal.value.code


@pytest.mark.parametrize(
    ("settings", "least"),
    [({}, 201), ({"n_fft": 401}, 201), ({"n_fft": 402}, 202), ({"hop_length": 300}, 300), ({"hop_length": 201}, 201)],
)
def test_the_least_that_makes_a_frame(settings, least):
    """Half a window is reflected at the ends, and a frame is a whole hop."""
    config = AudioConfig(**settings)
    assert log_mel(SOUND[:least], config).shape == (128, least // config.hop_length)
    assert refusal_of(SOUND[: least - 1], config) == "audio_too_short"


@pytest.mark.parametrize("samples", [1, 201, 1599, 1600, 1601])
def test_short_audio_is_lengthened_with_silence(samples):
    config = AudioConfig(min_length=1600)
    made = log_mel(SOUND[:samples], config)
    want = log_mel(np.concatenate([SOUND[:samples], np.zeros(max(0, 1600 - samples), np.float32)]))
    np.testing.assert_array_equal(made, want)
    assert made.shape == (128, 10)


def test_one_frame_is_the_power_of_its_window():
    """By the definition, in float64: a periodic Hann window over a reflected signal."""
    half = SOUND[:200].astype(np.float64)
    window = np.concatenate([SOUND[200:0:-1], half])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(window * hann)) ** 2
    bands = np.log10(np.maximum(mel_filters(AudioConfig()).astype(np.float64) @ power, 1e-10))
    want = (np.maximum(bands, bands.max() - 8) + 4) / 4
    made = log_mel(SOUND[:319])
    assert made.shape == (128, 1)
    np.testing.assert_allclose(made[:, 0], want, atol=1e-5)


def test_values_lie_eight_decades_under_the_loudest():
    sound = np.zeros(16_000, np.float32)
    sound[8000:] = np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    made = log_mel(sound)
    assert made.min() == pytest.approx(made.max() - 8 / 4, abs=1e-6)
    # Ten times as loud is two decades of power more.
    assert log_mel(sound / 10).max() == pytest.approx(made.max() - 2 / 4, abs=1e-5)


@pytest.mark.parametrize("bands", [20, 80, 128])
def test_filters_are_triangles_of_one_area_from_0_to_8_khz(bands):
    filters = mel_filters(AudioConfig(feature_size=bands, n_fft=16_000))  # a bin a hertz
    assert filters.shape == (bands, 8001) and filters.dtype == np.float32
    np.testing.assert_allclose(filters.sum(axis=1), 1, atol=2e-3)
    centres = filters.argmax(axis=1)
    # Evenly spaced under 1 kHz; above it, by one ratio.
    low, high = centres[centres < 950], centres[centres > 1100].astype(float)
    assert np.ptp(np.diff(low)) <= 1 and np.ptp(high[1:] / high[:-1]) < 0.01
    assert not filters[:, [0, 8000]].any() and (filters[0, 1:20] > 0).all() and (filters[-1, -20:-1] > 0).all()
    # Each ends where the next but one begins.
    for one, next_but_one in zip(filters, filters[2:], strict=False):
        assert abs(np.flatnonzero(one)[-1] - np.flatnonzero(next_but_one)[0]) <= 2


@pytest.mark.parametrize("hop", [8, 20])
def test_a_sample_becomes_no_more_than_16_values(hop):
    assert log_mel(SOUND[:1000], AudioConfig(hop_length=hop, feature_size=16 * hop)).shape == (16 * hop, 1000 // hop)
    assert refusal_of(SOUND[:1000], AudioConfig(hop_length=hop, feature_size=16 * hop + 1)) == "audio_config"


@pytest.mark.parametrize(("rate", "refused"), [(999, True), (1000, False), (768_000, False), (768_001, True)])
def test_rates_end_at_1_and_768_khz(rate, refused):
    config = AudioConfig(sampling_rate=rate)
    if refused:
        assert refusal_of(SOUND, config) == "audio_config"
    else:
        assert np.isfinite(log_mel(SOUND, config)).all()


def test_the_loudest_samples_are_finite():
    assert np.isfinite(log_mel(np.sign(SOUND) * np.float32(1e6))).all()
    assert refusal_of(np.sign(SOUND) * np.float32(2e6)) == "audio_range"
