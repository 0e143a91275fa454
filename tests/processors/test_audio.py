"""Audio: log-mel against the reference and librosa, and every kind of waveform by value."""

import base64
import io
import sys

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import AudioConfig, AudioProcessor, InputError, load_audio
from processors import mel as mel_module
from processors.mel import log_mel, mel_filters

SECONDS = [0.1, 0.73, 1.0, 8.0, 12.34, 31.0, 95.0]


def written(samples, rate=16_000, form="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def tone(rate, seconds=0.5, pitch=440.0):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("seconds", SECONDS)
def test_mel_equals_the_references(seconds, golden, inputs):
    archive = golden("mels")
    made = AudioProcessor()(inputs.speech(seconds)).mel
    assert made.dtype == np.float32 and made.shape == (128, int(seconds * 16_000) // 160)
    assert made.shape[1] == archive[f"{seconds}/frames"]
    kept = made[:, inputs.kept_frames(made.shape[1])]
    assert np.abs(kept - archive[f"{seconds}/kept"]).max() <= 1e-5
    assert np.abs(made.astype(np.float64).mean(axis=1) - archive[f"{seconds}/band_means"]).max() <= 1e-6


def test_filters_equal_the_references_and_librosas(golden):
    filters = mel_filters(AudioConfig())
    assert np.abs(filters - golden("mels")["filters"]).max() <= 1e-8
    assert np.abs(filters - librosa.filters.mel(sr=16_000, n_fft=400, n_mels=128, fmax=8000)).max() <= 1e-8


def test_mel_equals_librosas(inputs):
    sound = inputs.speech(3.21)
    power = librosa.stft(sound.astype(np.float64), n_fft=400, hop_length=160, pad_mode="reflect")[:, :-1]
    bands = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=128, fmax=8000) @ np.abs(power) ** 2
    want = np.log10(np.maximum(bands, 1e-10))
    want = (np.maximum(want, want.max() - 8) + 4) / 4
    assert np.abs(log_mel(sound) - want).max() <= 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(201, 60_000), st.sampled_from([1, 7, 64, 1000]), st.integers(0, 2**31))
def test_blocks_leave_no_trace(samples, block, seed):
    sound = np.random.RandomState(seed).randn(samples).astype(np.float32)
    whole = log_mel(sound)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mel_module, "_BLOCK", block)
        assert np.abs(log_mel(sound) - whole).max() <= 1e-6


@given(st.integers(20, 60), st.integers(-19, 60), st.integers(1, 78))
def test_both_ends_are_reflected(samples, start, stop):
    sound = np.arange(samples, dtype=np.float32)
    start, stop = min(start, samples - 1), min(max(start + 1, stop), 2 * samples - 1)
    want = np.pad(sound, (19, samples - 1), mode="reflect")[19 + start : 19 + stop]
    np.testing.assert_array_equal(mel_module._reflected(sound, start, stop), want)


@given(st.integers(201, 5_000))
def test_frames_are_whole_hops(samples):
    assert log_mel(np.ones(samples, np.float32)).shape == (128, samples // 160)


def test_silence_is_flat():
    made = log_mel(np.zeros(16_000, np.float32))
    np.testing.assert_allclose(made, (-10 + 4) / 4, atol=1e-6)


def test_a_list_gives_a_list_of_what_each_gives_alone(inputs):
    clips = [inputs.speech(seconds) for seconds in (1.0, 0.1, 0.73)]
    for made, clip in zip(AudioProcessor()(clips), clips, strict=True):
        np.testing.assert_array_equal(made.mel, AudioProcessor()(clip).mel)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_resampling_equals_librosas(rate):
    sound = np.random.RandomState(rate).randn(rate + 37).astype(np.float32) * 0.1
    want = librosa.resample(sound, orig_sr=rate, target_sr=16_000)
    np.testing.assert_array_equal(load_audio(sound, rate), want)
    # A file is resampled block by block.
    np.testing.assert_array_equal(load_audio(written(sound, rate, subtype="FLOAT")), want)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_files_equal_librosas(form, tmp_path):
    sound = np.stack([tone(44_100), tone(44_100, pitch=700)], axis=1)
    data = written(sound, 44_100, form)
    path = tmp_path / "sound.png"  # the name lies: only content counts
    path.write_bytes(data)
    want = librosa.load(io.BytesIO(data), sr=16_000)[0]
    uri = "data:audio/x;base64," + base64.b64encode(data).decode()
    for source in (data, path, str(path), uri):
        np.testing.assert_array_equal(load_audio(source), want)
    np.testing.assert_array_equal(AudioProcessor()(path, sampling_rate=8_000).mel, log_mel(want))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_depth_of_a_file_by_value(subtype):
    assert np.abs(load_audio(written(tone(16_000), subtype=subtype)) - tone(16_000)).max() <= 1 / 120


@pytest.mark.parametrize(
    ("dtype", "scale", "shift"),
    [
        (np.int8, 128, 0), (np.int16, 32_768, 0), (np.int32, 2**31, 0), (np.uint8, 128, 128), (np.float64, 1, 0),
        (np.float16, 1, 0),
    ],
)  # fmt: skip
def test_every_type_of_array_by_value(dtype, scale, shift):
    sound = tone(16_000)
    stored = (sound.astype(np.float64) * scale + shift).round(3 if scale == 1 else 0).astype(dtype)
    made = load_audio(stored, 16_000)
    assert made.dtype == np.float32
    assert np.abs(made - sound).max() <= (1 / scale if scale > 1 else 2e-3)


def test_channels_are_averaged_whichever_way_they_lie():
    left, right = tone(16_000), tone(16_000, pitch=1000)
    want = (left + right) / 2
    for stacked in (np.stack([left, right]), np.stack([left, right], axis=1)):
        np.testing.assert_allclose(load_audio(stacked, 16_000), want, atol=1e-7)
    np.testing.assert_array_equal(load_audio(left[None], 16_000), left)
    np.testing.assert_array_equal(load_audio(left[:, None], 16_000), left)
    # As many channels as samples: the first side is the channels.
    assert load_audio(np.array([[1.0, 1.0], [0.0, 0.0]]), 16_000).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("matroska", "aac"), ("adts", "aac")]
)
def test_containers_that_only_ffmpeg_opens(container, codec):
    av = pytest.importorskip("av")
    rate = 48_000
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        track = file.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone(rate, 2.0)] * 2), format="fltp", layout="stereo")
        frame.sample_rate = rate
        for packet in [*track.encode(frame), *track.encode(None)]:
            file.mux(packet)
    made = load_audio(buffer.getvalue())
    assert abs(len(made) - 32_000) < 3_200
    spectrum = np.abs(np.fft.rfft(made[8_000:24_000]))
    assert spectrum.argmax() == 440 and np.abs(made).max() == pytest.approx(0.5, abs=0.05)


def test_without_pyav_the_extra_is_named(monkeypatch, video_file):
    data = video_file([0.0], sound=tone(44_100))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r'pip install "omni-jax\[video\]"') as refusal:
        load_audio(data)
    assert refusal.value.code == "audio_needs_video_extra"


WAV = written(tone(16_000))
FLAC = written(tone(16_000, 3.0), form="FLAC")
BROKEN = np.full(1000, 0.1, np.float32)
BROKEN[7] = np.nan
LOUD = BROKEN.copy()
LOUD[7] = np.inf


@pytest.mark.parametrize(
    ("source", "rate", "code"),
    [
        (b"these are not the bytes of a sound", 16_000, "audio_unknown_format"),
        (b"\x00\x01\x02\x03" * 99, 16_000, "audio_unknown_format"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5\n/etc/passwd\n", 16_000, "audio_unknown_format"),
        (WAV[: len(WAV) // 2], 16_000, "audio_truncated"),
        (FLAC[: len(FLAC) // 2], 16_000, ("audio_truncated", "audio_corrupt")),
        (written(np.zeros(0, np.float32)), 16_000, "audio_empty"),
        (np.zeros(0), 16_000, "audio_empty"),
        (np.zeros((2, 0)), 16_000, "audio_empty"),
        (np.zeros((2, 3, 500)), 16_000, "audio_shape"),
        (np.zeros((100, 500)), 16_000, "audio_shape"),
        (np.float32(1), 16_000, "audio_shape"),
        (np.zeros(500, np.int64), 16_000, "audio_dtype"),
        (np.zeros(500, bool), 16_000, "audio_dtype"),
        (BROKEN, 16_000, "audio_not_finite"),
        (LOUD, 44_100, "audio_not_finite"),
        (written(BROKEN, subtype="FLOAT"), 16_000, "audio_not_finite"),
        (np.zeros(500), 0, "audio_rate"),
        (np.zeros(500), 16_000.5, "audio_rate"),
        (np.zeros(500), 10_000_000, "audio_rate"),
        (np.zeros(200), 16_000, "audio_too_short"),
        (written(np.zeros(90, np.float32)), 16_000, "audio_too_short"),
        ([], 16_000, "audio_missing"),
        (object(), 16_000, "audio_unknown_format"),
        ([0.5, 0.25], 16_000, "audio_unknown_format"),
    ],
)
def test_what_cannot_be_used_is_refused(source, rate, code):
    with pytest.raises(InputError) as refusal:
        AudioProcessor()(source, sampling_rate=rate)
    assert refusal.value.code in np.atleast_1d(code)
    assert len(str(refusal.value)) <= 500 and "0x" not in str(refusal.value)


def test_an_array_needs_its_rate():
    with pytest.raises(InputError) as refusal:
        load_audio(np.zeros(1000))
    assert refusal.value.code == "audio_rate"


def test_a_wave_file_of_unknown_length_is_whole():
    # What writing to a pipe leaves in the header.
    start = WAV.index(b"data") + 4
    piped = WAV[:4] + b"\xff" * 4 + WAV[8:start] + b"\xff" * 4 + WAV[start + 4 :]
    np.testing.assert_array_equal(load_audio(piped), load_audio(WAV))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", WAV[:44], FLAC[:60], b"OggS\x00", b"ID3\x03", b"\x1aE\xdf\xa3"]))
def test_no_bytes_raise_anything_else(tail, start):
    try:
        load_audio(start + tail)
    except InputError:
        pass
