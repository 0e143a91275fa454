"""What audio files promise is held against what is there, and every sample that is there is read."""

import io
import time
import tracemalloc

import numpy as np
import pytest

from processors import Access, AudioProcessor, Deadline, InputError, Limits, load_audio
from processors.decode.audio import decoder as decode_audio
from processors.decode.audio import mpeg_frames
from processors.decode.audio.decoder import audio_blocks
from tests.processors.odd_audio import (
    RATE,
    chunk,
    flac_silence,
    mp3,
    noise,
    pages,
    patched,
    piped_mp3,
    repaged,
    rf64,
    tone,
    wav,
    with_total,
    written,
)  # fmt: skip

SOUND = tone(0.5)
PCM = (SOUND * 32767).round().astype("<i2").tobytes()
SIZE = len(PCM)
INFO = chunk(b"LIST", b"INFOISFT" + b"a program")


@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_what_is_laid_end_to_end_is_one_waveform(rate):
    """Resampled as one, not piece by piece."""
    parts = [noise(0.5, rate, seed=1), noise(0.7, rate, seed=2), noise(0.01, rate, seed=3)]
    for form in ("FLAC", "WAV"):
        want = load_audio(written(np.concatenate(parts), rate, form))
        np.testing.assert_array_equal(load_audio(b"".join(written(part, rate, form) for part in parts)), want)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, SIZE // 2, SIZE + 44])
def test_every_sample_of_a_wave_file_is_there(size):
    want = np.frombuffer(PCM, "<i2").astype(np.float32) / 32768
    np.testing.assert_array_equal(load_audio(wav(PCM, size, size)), want)
    np.testing.assert_array_equal(load_audio(wav(PCM, size) if size else wav(PCM, 0, before=INFO)), want)


@pytest.mark.parametrize("vbr", [False, True])
@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_piped_mp3_equals_ffmpegs(rate, vbr):
    av = pytest.importorskip("av")
    data = piped_mp3(noise(1.3, rate), rate, 64_000 if rate > 40_000 else 24_000, vbr=vbr)
    with av.open(io.BytesIO(data)) as container:
        want = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])
    made = load_audio(data, target_rate=rate)
    assert len(made) == len(want)
    # FFmpeg's is of 16 bits or of other rounding; the first frame may draw on bits that are not there.
    assert np.abs(made[1152:] - want[1152:]).max() <= 2e-3


PROMISING = {
    "wav": lambda: wav(PCM),
    "wav of floats": lambda: written(SOUND, subtype="FLOAT"),
    "rf64": lambda: rf64(PCM, SIZE),
    "w64": lambda: written(SOUND, form="W64"),
    "aiff": lambda: written(SOUND, form="AIFF"),
    "au": lambda: written(SOUND, form="AU"),
    "caf": lambda: written(SOUND, form="CAF"),
    "flac": lambda: written(noise(0.5), form="FLAC"),
    "vorbis": lambda: written(tone(4), form="OGG"),
    "opus": lambda: written(tone(3, 48_000), 48_000, "OGG", "OPUS"),
    "mp3": lambda: mp3(tone(1, 44_100)),
}


@pytest.mark.parametrize("name", PROMISING)
def test_a_file_cut_anywhere_is_refused(name):
    data = PROMISING[name]()
    boundaries = set(np.cumsum([len(page) for page in pages(data)]).tolist()) if data[:4] == b"OggS" else set()
    places = np.random.default_rng(0).integers(8, len(data), 40)
    for place in [*places.tolist(), len(data) - 1, len(data) // 2]:
        # An Ogg stream that ends with a page is a broadcast that was switched off.
        if place not in boundaries:
            with pytest.raises(InputError):
                load_audio(data[:place])


@pytest.mark.parametrize("name", ["flac", "vorbis", "opus"])
def test_a_bit_that_flips_is_noticed(name):
    data = PROMISING[name]()
    start = data.index(b"\xff\xf8") if name == "flac" else 0
    for place in np.random.default_rng(0).integers(start, len(data), 40).tolist():
        with pytest.raises(InputError):
            load_audio(patched(data, place, bytes([data[place] ^ 1 << place % 8])))


def test_no_other_file_is_opened(tmp_path, monkeypatch):
    """libsndfile would take a file of this name in the working directory for a part of the medium."""
    data = piped_mp3(tone(1, 44_100))
    (tmp_path / "._").write_bytes(b"\0\0\1\0" * 100)
    (tmp_path / ".AppleDouble").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load_audio(data)) / RATE == pytest.approx(1.0449, abs=1e-3)
    assert len(load_audio(mp3(tone(1, 44_100)))) == RATE


@pytest.mark.parametrize("name", ["one.raw", "one.mp3", "one.sd2", "one", "one.txt"])
def test_a_files_name_means_nothing(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(wav(PCM))
    assert len(load_audio(path)) == len(SOUND)


def test_bytes_that_only_begin_like_frames_are_not_tried_for_ever(monkeypatch):
    tried = []
    chained = mpeg_frames._chained
    monkeypatch.setattr(mpeg_frames, "_chained", lambda *a, **k: tried.append(1) or chained(*a, **k))
    monkeypatch.setattr(mpeg_frames, "_MOST_MISSES", 100)
    for pattern in (b"\xff\xfb\x90\x64", b"\xff\xfb\x90\x64\x00", b"\xff\xfb\x00\x64\x00"):
        assert len(load_audio(piped_mp3(tone(1, 44_100)) + pattern * 2000)) / RATE >= 1.0449
        assert len(tried) <= 120
        tried.clear()


def refusal_of(call):
    with pytest.raises(InputError) as refusal:
        call()
    return refusal.value.code


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"audio_seconds": 2.5}, "audio_too_long"), ({"audio_samples": 47_999}, "audio_too_long"),
        ({"audio_expansion": 1, "free_bytes": 1000}, "audio_expansion"),
    ],
)  # fmt: skip
def test_limits_bound_what_is_held(limits, code):
    sources = {
        "flac": written(tone(3), form="FLAC"),
        "flac of unknown length": with_total(written(tone(3), form="FLAC"), 0),
        "ulaw": written(tone(3), subtype="ULAW"),
        "three files": written(tone(1), subtype="ULAW") * 3,
        "mp3": piped_mp3(tone(3, 44_100)),
        "vorbis": written(tone(3), form="OGG"),
        "vorbis without positions": b"".join(repaged(page, granule=-1) for page in pages(written(tone(3), form="OGG"))),
    }
    access = Access(limits=Limits(**limits))
    for name, data in sources.items():
        assert refusal_of(lambda data=data: load_audio(data, access=access)) == code, name
        assert refusal_of(lambda data=data: AudioProcessor()(data, access=access)) == code, name
        # What is passed on block by block is not held.
        assert sum(map(len, audio_blocks(data, None, RATE, access))) >= 3 * RATE, name
    if code == "audio_too_long":
        assert refusal_of(lambda: load_audio(tone(3), RATE, access=access)) == code
    if "audio_samples" in limits:
        assert refusal_of(lambda: load_audio(tone(1, 8_000), 8_000, 48_000, access=access)) == code


def test_what_is_within_the_limits_is_read():
    access = Access(limits=Limits(audio_seconds=3, audio_samples=48_000, audio_expansion=8, free_bytes=1))
    for data in (written(tone(3)), written(tone(3), form="FLAC")):
        assert len(load_audio(data, access=access)) == 48_000


VORBIS_AT_1_KHZ = written(np.zeros(500_000, np.float32), 1000, "OGG")
BOMBS = {
    "flac": flac_silence(300),
    "flac of unknown length": flac_silence(300, counted=False),
    "flac that says it is short": with_total(flac_silence(300), 100),
    "channels": wav(bytes(80_000), channels=1000),
    "vorbis at 1 kHz": VORBIS_AT_1_KHZ,
    "vorbis at 1 kHz without positions": b"".join(repaged(page, granule=-1) for page in pages(VORBIS_AT_1_KHZ)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(name):
    access = Access(limits=Limits(free_bytes=1 << 24, audio_expansion=500))
    began = time.process_time()
    tracemalloc.start()
    try:
        assert refusal_of(lambda: load_audio(BOMBS[name], access=access)) in {
            "audio_expansion", "audio_too_long", "audio_shape",
        }  # fmt: skip
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5


def test_what_grows_is_counted_before_it_is_kept(monkeypatch):
    """Minutes of silence in a few bytes are read all the same: until it is odd, to count, and to keep."""
    calls = []
    decode = decode_audio._decode
    monkeypatch.setattr(decode_audio, "_decode", lambda *a: calls.append(1) or decode(*a))
    waveform = load_audio(flac_silence(14, counted=False))
    assert len(waveform) == 14 * 65_535 * 16 and not waveform.any()
    assert len(calls) == 3
    load_audio(noise(2), RATE)
    load_audio(written(noise(2)))
    assert len(calls) == 4


@pytest.mark.parametrize("form", ["FLAC", "MP3", "OGG"])
def test_counting_stops_when_the_time_is_up(form, monkeypatch):
    monkeypatch.setattr(decode_audio, "Segment", None)  # decoding does not begin
    deadline = Deadline()
    deadline.cancel()
    stream = io.BytesIO(written(noise(30), form=form))
    blocks = decode_audio._decode(stream, "it", RATE, Access(deadline=deadline), None)
    assert refusal_of(lambda: next(blocks)) == "cancelled"


@pytest.mark.parametrize("seconds", [0, 0.0, -1, float("nan")])
def test_a_deadline_lies_ahead(seconds):
    assert refusal_of(lambda: Deadline(seconds)) == "bad_deadline"
    assert refusal_of(lambda: load_audio(noise(1), RATE, access=Access().of_call(deadline=seconds))) == "bad_deadline"


def test_reading_stops_when_the_time_is_up():
    data = written(noise(60, 44_100), 44_100)
    deadline = Deadline()
    blocks = audio_blocks(data, None, RATE, Access(deadline=deadline))
    assert len(next(blocks)) < 4 * RATE
    deadline.cancel()
    assert refusal_of(lambda: list(blocks)) == "cancelled"
    late = Deadline(1e-6)
    time.sleep(0.01)
    assert refusal_of(lambda: load_audio(noise(1), RATE, access=Access(deadline=late))) == "deadline"
    assert refusal_of(lambda: load_audio(data, access=Access(deadline=late))) == "deadline"


@pytest.mark.parametrize(
    "start", [b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b".snd", b"caff", b"ID3\3", b"2BIT", b"NIST_1A"]
)
def test_no_bytes_behind_a_known_start_raise_anything_else(start):
    random = np.random.default_rng(len(start) + start[0])
    whole = {b"RIFF": wav(PCM), b"fLaC": written(tone(0.1), form="FLAC"), b"OggS": written(tone(0.1), form="OGG")}
    for _ in range(60):
        data = bytearray(whole.get(start, start + random.bytes(300)))
        for place in random.integers(len(start), len(data), 4):
            data[place] = random.integers(256)
        try:
            made = load_audio(bytes(data[: random.integers(4, len(data) + 1)]))
        except InputError as error:
            assert len(str(error)) <= 500 and "0x" not in str(error)
        else:
            assert np.isfinite(made).all()
