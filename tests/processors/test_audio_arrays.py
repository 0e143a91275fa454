"""Arrays of samples from any library, at any rate: taken by value, or refused with what to do."""

import array
import io
import threading

import ml_dtypes
import numpy as np
import pytest

from processors import AudioConfig, AudioProcessor, InputError, load_audio
from processors.mel import log_mel
from tests.processors.odd_audio import RATE, tone, written

SOUND = tone(0.25)
INTEGERS = (SOUND * 32767).round().astype(np.int16)


class OnlyDLPack:
    """An array that has neither `__array__` nor a buffer."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class OnADevice:
    """An array of another device, or with a gradient: the library says no, in its own words."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert a tensor at 0x7f00deadbeef")

    def __dlpack__(self, **options):
        raise BufferError("not on this device")


def refusal_of(call, *args, **options):
    with pytest.raises(InputError) as refusal:
        call(*args, **options)
    message = str(refusal.value)
    assert len(message) <= 500 and "\n" not in message and "0x" not in message
    return refusal.value.code, message


@pytest.mark.parametrize(
    "samples",
    [
        INTEGERS, array.array("h", INTEGERS.tolist()), memoryview(INTEGERS), OnlyDLPack(INTEGERS),
        INTEGERS.astype(">i2"), INTEGERS.astype(np.int32) << 16, INTEGERS[::-1][::-1], np.ma.masked_array(INTEGERS),
        SOUND, SOUND.tolist(), tuple(SOUND.tolist()), array.array("f", SOUND.tolist()),
        array.array("d", SOUND.tolist()), memoryview(np.stack([SOUND, SOUND])), OnlyDLPack(np.stack([SOUND, SOUND])),
        SOUND.astype(">f4"), SOUND.astype(">f8"), SOUND.astype(ml_dtypes.bfloat16), SOUND.astype(np.float16),
        np.stack([SOUND, SOUND], axis=1),
    ],
)  # fmt: skip
def test_every_kind_of_array_is_taken_by_value(samples):
    made = load_audio(samples, RATE)
    assert made.dtype == np.float32 and made.shape == SOUND.shape
    assert np.abs(made - SOUND).max() <= 1e-3


@pytest.mark.parametrize(
    "dtype",
    [
        "int64",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "complex64",
        "object",
        "U3",
        "longdouble",
        "M8[s]",
        "m8[s]",
        "f4,f4",
    ],
)
def test_other_types_are_refused_with_the_remedy(dtype):
    code, message = refusal_of(load_audio, np.zeros(900, dtype), RATE)
    assert code == "audio_dtype" and "float32" in message


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (OnADevice(), "audio_unknown_format"), ({}, "audio_unknown_format"), (None, "audio_unknown_format"),
        (3.5, "audio_unknown_format"), (range(9), "audio_unknown_format"), ([[0.1] * 300] * 2, "audio_unknown_format"),
        ((SOUND, RATE), "audio_unknown_format"), ([0.1, None], "audio_unknown_format"), ([], "audio_unknown_format"),
        ([1, 2, 3] * 300, "audio_dtype"), ([True] * 500, "audio_dtype"), ([10**400] * 500, "audio_dtype"),
        (np.zeros((2, 3, 500)), "audio_shape"), (np.zeros((65, 500)), "audio_shape"), (np.float32(1), "audio_shape"),
        (np.zeros(0), "audio_empty"), (np.ma.masked_array(SOUND, mask=SOUND > 0.2), "audio_not_finite"),
    ],
)  # fmt: skip
def test_what_is_no_array_of_samples_is_refused(samples, code):
    assert refusal_of(load_audio, samples, RATE)[0] == code


@pytest.mark.parametrize("rate", [np.int32(RATE), np.float32(RATE), float(RATE), np.array(RATE), np.uint16(RATE)])
def test_every_kind_of_number_is_a_rate(rate):
    np.testing.assert_array_equal(load_audio(SOUND, rate), SOUND)


@pytest.mark.parametrize("rate", [1_000, 1_001, 11_025, 192_000, 768_000])
def test_rates_from_end_to_end(rate):
    assert len(load_audio(SOUND, rate)) == -(-len(SOUND) * RATE // rate)
    assert len(load_audio(SOUND, RATE, rate)) == -(-len(SOUND) * rate // RATE)


@pytest.mark.parametrize(
    "rate",
    [None, "16000", b"16000", float("nan"), float("inf"), -1, 0, 999, 768_001, 16_000.5, 10**400, 10**5000, 1 << 31,
     True, np.True_, 1j, [16_000], np.array([16_000])],
    ids=lambda rate: type(rate).__name__,
)  # fmt: skip
def test_what_is_no_rate_is_refused(rate):
    assert refusal_of(load_audio, SOUND, rate)[0] == "audio_rate"
    assert refusal_of(load_audio, SOUND, RATE, rate)[0] == "audio_rate"


@pytest.mark.parametrize("peak", [1e-44, 0.5, 1.0, 2.0, 8.0, 16.0])
def test_samples_near_full_scale_are_taken_as_they_are(peak):
    loud = (SOUND / np.abs(SOUND).max() * np.float32(peak)).astype(np.float32)
    made = load_audio(loud, RATE)
    np.testing.assert_array_equal(made, loud)
    assert np.isfinite(log_mel(made)).all()


@pytest.mark.parametrize("peak", [17.0, 100.0, 32_767.0, 1e18, 1e19, 3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_far_over_full_scale_are_refused_with_the_remedy(peak, dtype):
    loud = SOUND.astype(dtype) / 0.3 * dtype(peak)
    for source in (loud, np.stack([loud, -loud]), written(loud, subtype="FLOAT" if dtype is np.float32 else "DOUBLE")):
        code, message = refusal_of(load_audio, source, RATE)
        assert code == "audio_range" and "32768" in message and "int16" in message
    # Beyond float32 too.
    assert refusal_of(load_audio, SOUND.astype(np.float64) * 1e300, RATE)[0] == "audio_range"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_sample_that_is_not_finite_is_refused(value, dtype):
    broken = np.tile(SOUND, 40).astype(dtype)
    broken[len(broken) // 2 + 3] = value
    for source in (broken, np.stack([broken, broken])):
        assert refusal_of(load_audio, source, 44_100)[0] == "audio_not_finite"


@pytest.mark.parametrize(
    ("waveform", "code"),
    [
        (SOUND * np.float32(1e18), "audio_range"), (np.full(4000, np.nan, np.float32), "audio_not_finite"),
        (np.full(4000, np.inf, np.float32), "audio_not_finite"), (SOUND[:200], "audio_too_short"),
    ],
)  # fmt: skip
def test_a_spectrogram_is_finite_or_refused(waveform, code):
    assert refusal_of(log_mel, waveform)[0] == code
    assert np.isfinite(log_mel(SOUND * np.float32(1e5))).all()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"n_fft": 40_000}, "audio_too_short"), ({"n_fft": 1 << 16}, "audio_too_short"),
        ({"hop_length": 1 << 16}, "audio_too_short"), ({"hop_length": 1}, "audio_config"),
        ({"hop_length": 100, "feature_size": 4096}, "audio_config"), ({"min_length": 1 << 28}, "audio_config"),
        ({"sampling_rate": 1_000_000}, "audio_rate"), ({"sampling_rate": 1}, "audio_rate"),
    ],
)  # fmt: skip
def test_a_geometry_that_no_memory_holds_is_refused(settings, code):
    assert refusal_of(AudioProcessor(AudioConfig(**settings)), SOUND)[0] == code
    assert refusal_of(log_mel, SOUND, AudioConfig(**settings))[0] in {code, "audio_config"}


@pytest.mark.parametrize("name", ["n_fft", "hop_length", "feature_size", "min_length", "sampling_rate"])
def test_a_geometry_beyond_any_is_no_config(name):
    for value in (10**9, 10**12, 10**5000):
        with pytest.raises(ValueError, match=rf"{name} is (?s:.{{1,90}}); supported: whole numbers up to \d+$"):
            AudioConfig(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [{"n_fft": 401}, {"n_fft": 1, "feature_size": 1}, {"hop_length": 3_999}, {"n_fft": 7_998}, {"sampling_rate": 8000}],
)
def test_odd_geometries_are_made(settings):
    config = AudioConfig(**settings)
    made = log_mel(SOUND, config)
    assert made.shape == (config.feature_size, len(SOUND) // config.hop_length) and np.isfinite(made).all()


def test_one_source_in_sixteen_threads(tmp_path):
    data = written(np.stack([SOUND, SOUND], axis=1), 44_100, "FLAC")
    path = tmp_path / "one.flac"
    path.write_bytes(data)
    stream = io.BytesIO(data)
    stream.seek(77)
    want = load_audio(data)
    made: list = [None] * 16

    def read(number):
        source = (data, path, stream, np.stack([SOUND, SOUND]))[number % 4]
        made[number] = [load_audio(source, 44_100) for _ in range(5)]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, several in enumerate(made):
        assert several is not None
        for one in several:
            np.testing.assert_allclose(one, want, atol=1e-3 if number % 4 == 3 else 0)
    assert stream.tell() == 77
