"""Odd and bad audio: what is whole is read to its end, what is not is refused, and each with its declared outcome."""

from functools import cache

import numpy as np
import pytest

from processors import InputError, load_audio
from tests.processors.odd_audio import (
    ID3V1,
    LYRICS,
    RATE,
    ape,
    chunk,
    encoded,
    flac_silence,
    free_format,
    id3,
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
SHORT, DAMAGED, EMPTY, UNKNOWN = "audio_truncated", "audio_corrupt", "audio_empty", "audio_unknown_format"
LONG = ("audio_too_long", "audio_expansion")
BAD_LEVEL = ("audio_range", "audio_not_finite")
NO_AUDIO = (UNKNOWN, "audio_needs_video_extra")
INFO = chunk(b"LIST", b"INFOISFT" + b"a program")


def at(data, mark, offset, value):
    return patched(data, data.index(mark) + offset, value)


@cache
def piped(seconds=1, rate=44_100):
    return piped_mp3(tone(seconds, rate), rate)


@cache
def headed(seconds=1, rate=44_100, **options):
    return mp3(tone(seconds, rate), rate, **options)


def loud_and_quiet():
    return [noise(2, 44_100), np.zeros(88_200, np.float32)]


def stereo():
    return encoded(tone(1, 44_100), 44_100, "libmp3lame", "mp3", layout="stereo")


def mp2(bit_rate):
    return encoded(tone(1, 48_000), 48_000, "mp2", "mp2", bit_rate)


def form_of(form, subtype=None):
    return written(SOUND, form=form, subtype=subtype)


def aiff_of(size):
    return at(at(form_of("AIFF"), b"SSND", 4, size), b"COMM", 10, size)


def counted(frames):
    return frames.to_bytes(4, "big")


def small(number):
    return number.to_bytes(4, "little")


def wide(bits, kind):
    """Samples in the upper bits of containers of five to eight bytes."""
    width = -(-bits // 8)
    whole = (np.asarray(SOUND, np.float64) * 2.0**62).astype("<i8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
    made = wav((whole[:, ::-1] if kind == b"RIFX" else whole).tobytes(), bits=8 * width, kind=kind)
    order = "big" if kind == b"RIFX" else "little"
    return at(made, b"fmt ", 22, bits.to_bytes(2, order))


def aiff_backwards(data):
    """The same with the header behind the samples."""
    common, samples = data.index(b"COMM"), data.index(b"SSND")
    return data[:common] + data[samples:] + data[common : common + 26]


def alac_packets(offset, value):
    """The table of packets with a byte replaced; the cookie in front of it has one of its own."""
    return at(form_of("CAF", "ALAC_16"), b"pakt\0\0\0\0\0\0\0", offset, value)


def after_a_pause(data):
    every = pages(data)
    return b"".join([*every[:4], *(repaged(page, granule=granule(page) + 96_000) for page in every[4:])])


@cache
def vorbis(seconds=0.5, rate=RATE, channels=1):
    return written(np.stack([tone(seconds, rate)] * channels, axis=1), rate, "OGG")


@cache
def opus(seconds=3.0, rate=48_000):
    return written(tone(seconds, rate), rate, "OGG", "OPUS")


def granule(page):
    return int.from_bytes(page[6:14], "little", signed=True)


def last_page(data, **fields):
    *first, last = pages(data)
    return b"".join(first) + repaged(last, **fields)


def broadcast(data):
    """The headers, and then pages from the middle of a stream."""
    every = pages(data)
    headers = [page for page in every if granule(page) == 0]
    late = [
        repaged(page, granule=granule(page) + 4_800_000, sequence=700 + number)
        for number, page in enumerate(every[len(headers) :])
    ]
    return b"".join(headers + late)


@cache
def flac(seconds=3.0, rate=RATE):
    return written(tone(seconds, rate), rate, "FLAC")


def flac_frames(data):
    return [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xf8"]


def without_frame(data, number):
    places = flac_frames(data)
    return data[: places[number]] + data[places[number + 1] :]


def late_format():
    plain = wav(PCM)
    return plain[:12] + plain[36:] + plain[12:36]


def extensible():
    return written(SOUND, form="WAVEX", subtype="PCM_16")


def counted_higher(data):
    place = data.index(b"Info") + 11
    return patched(data, place, bytes([data[place] + 1]))


def headers_of(data):
    return b"".join(page for page in pages(data) if granule(page) == 0)


# A name, what makes the file, and the seconds or the codes.
CASES = [
    # MPEG audio without a header frame, as a pipe leaves it.
    *[
        (f"mp3 piped at {rate} Hz", lambda rate=rate, bits=bits: piped_mp3(noise(2, rate), rate, bits), seconds)
        for rate, bits, seconds in [
            (44_100, 64_000, 78 * 1152 / 44_100), (48_000, 64_000, 2.04), (22_050, 32_000, 2.0637),
            (11_025, 16_000, 2.1421), (8_000, 8_000, 2.16),
        ]
    ],
    ("mp3 piped, variable, quiet first", lambda: piped_mp3(np.concatenate(loud_and_quiet()[::-1]), vbr=True), 4.0490),
    ("mp3 piped, variable, loud first", lambda: piped_mp3(np.concatenate(loud_and_quiet()), vbr=True), 4.0490),
    ("mp3 piped twice", lambda: piped() * 2, 2 * 1.0449),
    ("mp3 with a header", lambda: headed(), 1.0),
    ("mp3 with headers, laid end to end", lambda: headed() + headed(2), 3.0),
    ("mp3 laid end to end with tags between", lambda: headed() + ID3V1 + headed(), 2.0),
    ("mp3 of three rates laid end to end", lambda: b"".join(headed(1, rate) for rate in (44_100, 22_050, 16_000)), 3.0),
    ("mp3 of other bit rates laid end to end", lambda: headed() + headed(bit_rate=128_000), 2.0),
    ("mp3 mono and then stereo", lambda: headed() + stereo(), 2.0),
    ("mp3 piped behind one with a header", lambda: headed() + piped(), 2.0648),
    ("mp3 with a cover that looks like frames", lambda: id3(150_000) + piped(), 1.0449),
    ("mp3 with two tags", lambda: id3(300) + id3(20_000, b"\x55") + piped(), 1.0449),
    ("mp3 with an APEv2 tag behind", lambda: piped() + ape(40_000), 1.0449),
    ("mp3 with Lyrics3 and ID3v1 behind", lambda: piped() + LYRICS + ID3V1, 1.0449),
    ("mp3 behind zeros", lambda: bytes(3000) + piped(), 1.0449),
    ("mp3 behind zeros and a tag", lambda: bytes(100) + id3(500) + headed(), 1.0),
    ("mp3 before zeros", lambda: piped() + bytes(9000), 1.0449),
    ("mp3 behind rubbish", lambda: b"\x12 rubbish" * 100 + piped(), 1.0449),
    ("mp3 before rubbish", lambda: piped() + b"\x12 rubbish" * 999, 1.0449),
    ("mp3 piped, stopped within a frame", lambda: piped()[:-100], 1.0188),
    ("mp3 stopped within a frame before another", lambda: piped()[:-100] + piped(), 1.0188 + 1.0449),
    ("mp3 of one frame", lambda: piped()[:208], 0.0261),
    ("mp3 whose header counts a frame more", lambda: counted_higher(headed()), 1.0),
    ("mp3 with half of what its header says", lambda: headed()[:4000], SHORT),
    ("mp3 without the end of its last frame", lambda: headed()[:-50], SHORT),
    ("mp3 with rubbish in the middle", lambda: piped()[:4180] + b"\x33" * 3000 + piped()[4180:], DAMAGED),
    ("mp2", lambda: mp2(128_000), 1.008),
    ("mp2 of other bit rates laid end to end", lambda: mp2(384_000) + mp2(64_000), 2.016),
    ("mp1 of a free bit rate", lambda: free_format(50), 50 * 384 / 44_100),
    ("mp3 in a wave file", lambda: encoded(tone(1, 44_100), 44_100, "libmp3lame", "wav", 64_000), 1.0449),
    # FLAC.
    ("flac of unknown length", lambda: with_total(flac(), 0), 3.0),
    ("flac whose header counts less", lambda: with_total(flac(), 1000), 3.0),
    ("flac whose header counts more", lambda: with_total(flac(), 100_000), SHORT),
    ("flac laid end to end", lambda: flac(1) + flac(2), 3.0),
    ("flac of unknown length laid end to end", lambda: with_total(flac(1), 0) + with_total(flac(2), 0), 3.0),
    ("flac of two rates laid end to end", lambda: flac(1) + flac(2, 44_100), 3.0),
    ("flac behind an ID3 tag", lambda: id3(4000) + flac(1), 1.0),
    ("flac before an ID3v1 tag", lambda: flac(1) + ID3V1, 1.0),
    ("flac without its second half", lambda: flac()[: len(flac()) // 2], SHORT),
    ("flac without its last bytes", lambda: flac()[:-50], DAMAGED),
    ("flac of unknown length without its last bytes", lambda: with_total(flac(), 0)[:-50], DAMAGED),
    ("flac with a damaged frame", lambda: patched(flac(), len(flac()) // 2, b"\xaa\x55"), DAMAGED),
    ("flac of unknown length without a frame", lambda: without_frame(with_total(flac(), 0), 3), DAMAGED),
    ("flac without a frame", lambda: without_frame(flac(), 3), SHORT),
    ("flac without frames", lambda: flac()[: flac_frames(flac())[0]], SHORT),
    ("flac without frames or a length", lambda: with_total(flac(), 0)[: flac_frames(flac())[0]], EMPTY),
    ("flac without stream information", lambda: b"fLaC\x84\x00\x00\x00" + flac()[42:], DAMAGED),
    ("flac whose header ends early", lambda: flac()[:30], (SHORT, DAMAGED)),
    ("flac of minutes of silence", lambda: flac_silence(3), 3 * 65.535),
    ("flac bomb", lambda: flac_silence(200), LONG),
    ("flac bomb of unknown length", lambda: flac_silence(1500, counted=False), LONG),
    ("flac bomb that says it is short", lambda: with_total(flac_silence(1500), 1000), LONG),
    # WAV and its relatives.
    *[
        (f"wav of length {size:#x}", lambda size=size: wav(PCM, size, size), 0.5)
        for size in (
            0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000, 0x7FFE0000,
            0x7F000000,
        )
    ],
    ("wav of length 0 before a list", lambda: wav(b"", 0, behind=INFO), EMPTY),
    ("wav of no samples", lambda: wav(b""), EMPTY),
    ("wav that counts its header as samples", lambda: wav(PCM, SIZE + 44), 0.5),
    ("wav that counts its outer size as samples", lambda: wav(PCM, SIZE + 36), 0.5),
    ("wav whose header was written early", lambda: wav(PCM, SIZE // 2, SIZE // 2 + 36), 0.5),
    ("wav before chunks", lambda: wav(PCM, behind=INFO + chunk(b"id3 ", b"\x01" * 99)), 0.5),
    ("wav behind chunks", lambda: wav(PCM, before=INFO + chunk(b"JUNK", bytes(333))), 0.5),
    ("wav with its format behind its samples", late_format, 0.5),
    ("wav of odd chunks without padding", lambda: wav(PCM, before=b"LIST" + (5).to_bytes(4, "little") + b"INFOx"), 0.5),
    ("wav laid end to end", lambda: wav(PCM) + wav(PCM), 1.0),
    ("wav of two rates laid end to end", lambda: wav(PCM) + wav(PCM, rate=8000), 1.5),
    ("wav behind an ID3 tag", lambda: id3(1000) + wav(PCM), 0.5),
    ("wav before an ID3v1 tag", lambda: wav(PCM) + ID3V1, 0.5),
    ("wav before zeros", lambda: wav(PCM) + bytes(4000), 0.5),
    ("wav of a sample too few", lambda: wav(PCM, SIZE + 2), SHORT),
    ("wav without its second half", lambda: wav(PCM, SIZE)[: SIZE // 2], SHORT),
    ("wav without samples", lambda: wav(PCM)[:36], SHORT),
    ("wav big-endian", lambda: wav(np.frombuffer(PCM, "<i2").astype(">i2").tobytes(), kind=b"RIFX"), 0.5),
    ("wav extensible", extensible, 0.5),
    *[
        (f"wav {kind} of length 0", lambda kind=kind: at(form_of("WAV", kind), b"data", 4, bytes(4)), seconds)
        for kind, seconds in [
            ("PCM_24", 0.5), ("DOUBLE", 0.5), ("ULAW", 0.5), ("ALAW", 0.5), ("IMA_ADPCM", 0.5085), ("MS_ADPCM", 0.506),
            ("GSM610", 0.52),
        ]
    ],
    *[
        (f"wav of {bits}-bit integers as {kind.decode()}", lambda bits=bits, kind=kind: wide(bits, kind), 0.5)
        for bits in (36, 40, 45, 53, 64) for kind in (b"RIFF", b"RIFX")
    ],
    ("wav of 64-bit integers without its end", lambda: wide(64, b"RIFF")[:-100], SHORT),
    ("wav of floats that counts its samples right", lambda: form_of("WAV", "FLOAT"), 0.5),
    *[
        (f"wav whose fact is {fact:,}", lambda fact=fact: at(form_of("WAV", "FLOAT"), b"fact", 8, small(fact)), seconds)
        for fact, seconds in [
            (0, 0.5), (1000, 0.5), (16_000, 0.5), (0xFFFFFFFF, 0.5), (0x7FFFFFFF, 0.5), (0x1000_0000, SHORT),
        ]
    ],
    ("wav of 1,000 channels", lambda: wav(bytes(80_000), channels=1000), "audio_shape"),
    ("wav of no channels", lambda: wav(PCM, channels=0), "audio_shape"),
    ("wav at 1 Hz", lambda: wav(PCM, rate=1), "audio_rate"),
    ("wav at 2 GHz", lambda: wav(PCM, rate=1 << 31), "audio_rate"),
    ("wav at 1 MHz", lambda: wav(PCM, rate=1_000_000), "audio_rate"),
    ("wav of no known codec", lambda: wav(PCM, tag=0x1234), ("audio_unknown_codec", "audio_needs_video_extra")),
    ("wav of int16 as floats", lambda: written(SOUND * 32767, subtype="FLOAT"), "audio_range"),
    ("wav of huge doubles", lambda: written(SOUND.astype(float) * 1e300, subtype="DOUBLE"), BAD_LEVEL),
    ("wav four times over full scale", lambda: written(SOUND * 12, subtype="FLOAT"), 0.5),
    ("rf64", lambda: rf64(PCM, SIZE), 0.5),
    ("rf64 of length 0", lambda: rf64(PCM, 0), 0.5),
    ("rf64 of unknown length", lambda: rf64(PCM, (1 << 64) - 1), 0.5),
    ("rf64 without its second half", lambda: rf64(PCM, 2 * SIZE), SHORT),
    ("bw64", lambda: rf64(PCM, SIZE, b"BW64"), 0.5),
    ("w64 of length 0", lambda: at(form_of("W64"), b"data", 16, bytes(8)), 0.5),
    ("w64 of unknown length", lambda: at(form_of("W64"), b"data", 16, b"\xff" * 8), 0.5),
    ("w64 without its end", lambda: form_of("W64")[:-100], SHORT),
    # AIFF, AU, CAF and older ones.
    ("aiff of length 0", lambda: aiff_of(bytes(4)), 0.5),
    ("aiff as sox pipes it", lambda: aiff_of(b"\x7f\0\0\0"), 0.5),
    ("aiff whose header counts too many", lambda: at(form_of("AIFF"), b"COMM", 10, b"\0\1\0\0"), SHORT),
    ("aiff whose header counts one too many", lambda: at(form_of("AIFF"), b"COMM", 10, counted(8001)), SHORT),
    ("aiff whose header counts 2^31", lambda: at(form_of("AIFF"), b"COMM", 10, b"\x7f\xff\xff\xff"), SHORT),
    ("aiff whose header counts none", lambda: at(form_of("AIFF"), b"COMM", 10, bytes(4)), 0.5),
    ("aiff whose header was written early", lambda: at(form_of("AIFF"), b"COMM", 10, counted(1000)), 0.5),
    ("aiff with its header behind", lambda: aiff_backwards(form_of("AIFF")), 0.5),
    ("aiff with a false header behind", lambda: aiff_backwards(at(form_of("AIFF"), b"COMM", 10, counted(8001))), SHORT),
    ("aiff-c of ulaw that counts too many", lambda: at(form_of("AIFF", "ULAW"), b"COMM", 10, counted(8001)), SHORT),
    ("aiff-c of ima4", lambda: form_of("AIFF", "IMA_ADPCM"), 0.5),
    ("aiff-c of ima4 in samples", lambda: at(form_of("AIFF", "IMA_ADPCM"), b"COMM", 10, counted(8000)), 0.5),
    ("aiff-c of ima4 that counts too many", lambda: at(form_of("AIFF", "IMA_ADPCM"), b"COMM", 10, counted(200)), SHORT),
    *[
        (f"caf of alac with too many {what}", lambda at_byte=at_byte: alac_packets(at_byte, b"\x19"), SHORT)
        for what, at_byte in [("packets", 19), ("frames", 24)]
    ],
    ("caf of alac with too large packets", lambda: alac_packets(36, b"\xff"), SHORT),
    ("8svx that counts too many", lambda: at(form_of("SVX", "PCM_S8"), b"VHDR", 8, counted(8001)), SHORT),
    ("8svx that counts none", lambda: at(form_of("SVX", "PCM_S8"), b"VHDR", 8, bytes(4)), 0.5),
    ("aiff without its end", lambda: form_of("AIFF")[:-100], SHORT),
    ("aiff without samples", lambda: form_of("AIFF")[:40], SHORT),
    ("aiff-c of floats without its end", lambda: form_of("AIFF", "FLOAT")[:-100], SHORT),
    ("au of unknown length", lambda: patched(form_of("AU"), 8, b"\xff" * 4), 0.5),
    ("au of length 0", lambda: patched(form_of("AU"), 8, bytes(4)), 0.5),
    ("au whose header was written early", lambda: patched(form_of("AU"), 8, b"\0\0\x10\0"), 0.5),
    ("au little-endian", lambda: written(SOUND, form="AU", endian="LITTLE"), 0.5),
    ("au without its end", lambda: form_of("AU")[:-100], SHORT),
    ("caf of unknown length", lambda: at(form_of("CAF"), b"data", 4, b"\xff" * 8), 0.5),
    ("caf without its end", lambda: form_of("CAF")[:-100], SHORT),
    ("caf of alac without its end", lambda: form_of("CAF", "ALAC_16")[:-200], SHORT),
    *[
        (f"{form} without its end", lambda form=form: form_of(form, "PCM_16")[:-100], SHORT)
        for form in ("VOC", "SVX", "NIST", "AVR")
    ],
    *[
        (form, lambda form=form: form_of(form, "PCM_16"), 0.5)
        for form in ("VOC", "SVX", "NIST", "AVR", "PVF", "PAF", "IRCAM")
    ],
    *[(f"{form} is no audio", lambda form=form: form_of(form, "PCM_16"), NO_AUDIO) for form in ("MAT4", "MAT5", "HTK")],
    # Ogg.
    ("vorbis laid end to end", lambda: vorbis() + vorbis(1), 1.5),
    ("vorbis of two rates laid end to end", lambda: vorbis() + vorbis(1, 44_100), 1.5),
    ("vorbis mono and then stereo", lambda: vorbis() + vorbis(1, channels=2), 1.5),
    ("opus laid end to end", lambda: opus(1) + opus(2), 3.0),
    ("opus of two rates laid end to end", lambda: opus(1) + opus(2, 24_000), 3.0),
    ("vorbis and then opus", lambda: vorbis() + opus(1), 1.5),
    ("vorbis without an end", lambda: last_page(vorbis(), flags=0), 0.5),
    ("opus without an end", lambda: last_page(opus(), flags=0), 3.0),
    ("vorbis of unknown length", lambda: last_page(vorbis(), granule=-1), 0.504),
    ("vorbis of length 0", lambda: last_page(vorbis(), granule=0), 0.504),
    ("opus of unknown length", lambda: last_page(opus(), granule=-1), 3.0035),
    ("opus of length 0", lambda: last_page(opus(), granule=0), 3.0035),
    ("opus of an endless length", lambda: last_page(opus(), granule=1 << 60), 3.0035),
    ("opus without positions", lambda: b"".join(repaged(page, granule=0) for page in pages(opus())), 3.0035),
    ("opus after a pause of the sender", lambda: after_a_pause(opus()), 3.0),
    ("vorbis of a broadcast", lambda: broadcast(vorbis()), 0.504),
    ("opus of a broadcast", lambda: broadcast(opus()), 3.0),
    ("vorbis before zeros", lambda: vorbis() + bytes(500), 0.5),
    ("vorbis before an ID3v1 tag", lambda: vorbis() + ID3V1, 0.5),
    ("vorbis without its last bytes", lambda: vorbis()[:-10], SHORT),
    ("opus without its second half", lambda: opus()[: len(opus()) // 2], SHORT),
    ("opus without a page", lambda: b"".join(pages(opus())[:3] + pages(opus())[4:]), DAMAGED),
    ("opus with a damaged page", lambda: patched(opus(), len(opus()) // 2, b"\xaa\x55\xaa"), DAMAGED),
    ("vorbis without samples", lambda: headers_of(vorbis()), EMPTY),
    ("opus without samples", lambda: headers_of(opus()), EMPTY),
    ("ogg that begins in the middle", lambda: b"".join(pages(opus())[2:]), DAMAGED),
    ("flac in ogg without its end", lambda: encoded(tone(1, 48_000), 48_000, "flac", "ogg")[:-500], SHORT),
    # Containers, and what is none.
    ("alac in mp4 without its end", lambda: encoded(tone(1, 48_000), 48_000, "alac", "ipod")[:-20_000], SHORT),
    ("opus in webm without its end", lambda: encoded(tone(1, 48_000), 48_000, "libopus", "webm")[:-2000], SHORT),
    ("wma without its end", lambda: encoded(tone(1, 44_100), 44_100, "wmav2", "asf", 64_000)[:-3000], SHORT),
    ("adts behind an ID3 tag", lambda: id3(4000) + encoded(tone(1, 48_000), 48_000, "aac", "adts", 64_000), 1.024),
    ("zeros", lambda: bytes(5000), NO_AUDIO),
    ("noise", lambda: noise(1).tobytes(), (UNKNOWN, "audio_needs_video_extra", DAMAGED)),
    ("an ID3 tag alone", lambda: id3(3000), (UNKNOWN, "audio_needs_video_extra", "audio_no_track", DAMAGED, EMPTY)),
    ("the word RIFF", lambda: b"RIFF", NO_AUDIO),
]  # fmt: skip


@pytest.mark.parametrize(("make", "outcome"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_outcome_is_as_declared(make, outcome):
    data = make()
    if isinstance(outcome, float):
        assert len(load_audio(data)) / RATE == pytest.approx(outcome, abs=1e-3)
        return
    with pytest.raises(InputError) as refusal:
        load_audio(data)
    assert refusal.value.code in np.atleast_1d(outcome)
    assert len(str(refusal.value)) <= 500 and "\n" not in str(refusal.value) and "0x" not in str(refusal.value)


@pytest.mark.parametrize("bits", [36, 64])
@pytest.mark.parametrize("kind", [b"RIFF", b"RIFX"])
def test_wide_integers_keep_their_level(bits, kind):
    assert np.abs(load_audio(wide(bits, kind), target_rate=RATE) - SOUND / 2).max() < 1e-6
