"""Features that a decoding process gives: put together as they were, and never believed where they do not fit."""

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from processors import (
    Access,
    AudioConfig,
    AudioProcessor,
    ImageConfig,
    ImageProcessor,
    InputError,
    Limits,
    VideoConfig,
    VideoProcessor,
    features,
)
from processors.features import Processors, isolated_features, packed

IMAGE, VIDEO, AUDIO = ImageConfig(min_pixels=1), VideoConfig(min_pixels=1), AudioConfig(feature_size=8)
EVERY = Processors(IMAGE, VIDEO, AUDIO)


@pytest.fixture
def told(monkeypatch):
    """Reads features of a process that gives these answers."""

    def read(answers, processors=EVERY, access=None):
        @contextmanager
        def answering(*_):
            yield iter([(header, bytearray(payload)) for header, payload in answers])

        monkeypatch.setattr(features, "isolated_answers", answering)
        return isolated_features(b"a file", "it", processors, access or Access())

    return read


def noise(*shape):
    return np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)


def image_answers():
    return list(packed(ImageProcessor(IMAGE)(noise(64, 96, 3))))


def video_answers(count=4):
    return list(packed(VideoProcessor(VIDEO)(noise(count, 64, 96, 3), fps=2.0)))


def audio_answers(samples=1600):
    return list(packed(AudioProcessor(AUDIO)(np.ones(samples, np.float32))))


def test_an_image_arrives_as_it_was(told):
    made, want = told(image_answers()), ImageProcessor(IMAGE)(noise(64, 96, 3))
    np.testing.assert_array_equal(made.pixels, want.pixels)
    assert made.grid_thw.tolist() == [[1, 4, 6]] and made.grid_thw.dtype == np.int32 and made.config == IMAGE


def test_a_video_arrives_as_it_was(told):
    made, want = told(video_answers()), VideoProcessor(VIDEO)(noise(4, 64, 96, 3), fps=2.0)
    np.testing.assert_array_equal(made.pixels, want.pixels)
    assert made.grid_thw.tolist() == [[2, 4, 6]] and made.seconds_per_grid == 1.0 and made.audio is None
    assert made.timestamps.tolist() == [0, 0.5, 1, 1.5] and made.config == VIDEO


def test_audio_arrives_as_it_was(told):
    np.testing.assert_array_equal(told(audio_answers()).mel, AudioProcessor(AUDIO)(np.ones(1600, np.float32)).mel)


def test_features_come_in_blocks(told, monkeypatch):
    monkeypatch.setattr(features, "_BLOCK", 1000)
    answers = image_answers()
    assert len(answers) > 2 and max(len(payload) for _, payload in answers) <= 1000
    np.testing.assert_array_equal(told(answers).pixels, ImageProcessor(IMAGE)(noise(64, 96, 3)).pixels)


def refused(told, answers, **options):
    with pytest.raises(InputError) as refusal:
        told(answers, **options)
    return refusal.value.code


@pytest.mark.parametrize("make", [image_answers, video_answers, audio_answers])
def test_an_answer_that_is_missing_or_too_many_is_refused(told, make):
    answers = make()
    assert refused(told, answers[:-1]) == refused(told, []) == "decoder_crashed"
    assert refused(told, [*answers, ({}, b"")]) == refused(told, [*answers, answers[-1]]) == "decoder_crashed"


@pytest.mark.parametrize("make", [image_answers, video_answers, audio_answers])
def test_a_block_that_is_empty_or_too_long_is_refused(told, make):
    (header, payload), block = make()[:2]
    for bad in (b"", bytes(block[1]) + b"\0", bytes(block[1])[:-1]):
        assert refused(told, [(header, payload), ({}, bad)]) == "decoder_crashed"


@pytest.mark.parametrize("make", [image_answers, video_answers])
@pytest.mark.parametrize(
    "changed",
    [
        {"grid": [0, 4, 6]},
        {"grid": [1, -4, -6]},
        {"grid": [1, 4]},
        {"grid": [1, 4, 6, 1]},
        {"grid": ["a", 4, 6]},
        {"grid": None},
        {"grid": [math.inf, 4, 6]},
        {"grid": [1 << 40, 1 << 40, 1 << 40]},
        {"values": 767},
        {"values": 2304},
        {"values": None},
        {"kind": "audio"},
        {"kind": "text"},
        {"kind": None},
        {"kind": ["image"]},
    ],
)
def test_a_header_that_does_not_fit_is_refused(told, make, changed):
    (header, payload), *blocks = make()
    assert refused(told, [(header | changed, payload), *blocks]) == "decoder_crashed"


@pytest.mark.parametrize("make", [image_answers, video_answers, audio_answers])
def test_a_header_that_lacks_a_field_is_refused(told, make):
    (header, payload), *blocks = make()
    for name in header:
        rest = {key: value for key, value in header.items() if key != name}
        assert refused(told, [(rest, payload), *blocks]) == "decoder_crashed"


@pytest.mark.parametrize(
    ("changed", "times"),
    [
        ({"seconds": 0}, [0.0]),
        ({"seconds": -1}, [0.0]),
        ({"seconds": math.inf}, [0.0]),
        ({"seconds": math.nan}, [0.0]),
        ({}, []),
        ({}, [math.nan]),
        ({}, [0.0, math.inf]),
    ],
)
def test_times_of_a_video_that_are_none_are_refused(told, changed, times):
    (header, _), *blocks = video_answers()
    answers = [(header | changed, np.array(times, np.float64).tobytes()), *blocks]
    assert refused(told, answers) == "decoder_crashed"


@pytest.mark.parametrize("shape", [[7, 10], [9, 10], [8, 0], [8, -1], [8], [8, 10, 1], [8, "x"], None])
def test_a_spectrogram_of_another_shape_is_refused(told, shape):
    (header, payload), *blocks = audio_answers()
    assert refused(told, [(header | {"shape": shape}, payload), *blocks]) == "decoder_crashed"


@pytest.mark.parametrize(
    ("make", "absent"), [(image_answers, "image"), (video_answers, "video"), (audio_answers, "audio")]
)
def test_a_kind_that_was_not_asked_for_is_refused(told, make, absent):
    assert refused(told, make(), processors=replace(EVERY, **{absent: None})) == "decoder_crashed"


def test_as_many_tokens_and_samples_as_the_limits_allow_arrive(told):
    """24 patches are 6 tokens, and 48 are 12; audio of 1600 samples has 10 frames, and rounding may add one."""
    for answers, tokens in ((image_answers(), 6), (video_answers(), 12)):
        told(answers, access=Access(Limits(media_tokens=tokens)))
        assert refused(told, answers, access=Access(Limits(media_tokens=tokens - 1))) == "decoder_crashed"
    told(audio_answers(), access=Access(Limits(audio_samples=1600)))
    told(audio_answers(), access=Access(Limits(audio_samples=1599)))
    assert refused(told, audio_answers(), access=Access(Limits(audio_samples=1439))) == "decoder_crashed"


@pytest.mark.parametrize(
    ("error", "code"),
    [(MemoryError(), "image_too_large"), (RuntimeError("x"), "media_failed"), (InputError("a_code", "x"), "a_code")],
)
def test_what_a_processor_raises_becomes_one_error(error, code, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(ImageProcessor, "__call__", fail)
    with pytest.raises(InputError) as refusal:
        EVERY.read(b"\x89PNG\r\n\x1a\n" + bytes(99), Access())
    assert refusal.value.code == code


def test_a_kind_that_the_model_does_not_read_is_called_so():
    data = b"\x89PNG\r\n\x1a\n" + bytes(99)
    for absent, code in (({}, "part_not_loaded"), ({"absent": "other"}, "other")):
        with pytest.raises(InputError, match="an image") as refusal:
            Processors(None, VIDEO, AUDIO, **absent).read(data, Access())
        assert refusal.value.code == code
