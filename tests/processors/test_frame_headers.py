"""How long a frame of audio is, by its header: each next frame has to begin where the standard puts it."""

import io
import itertools

import pytest

from processors.decode.container.format import container_format
from processors.io.byte_window import ByteWindow
from processors.io.sniff_streams import has_audio_frames

MPEG_1, MPEG_2, MPEG_2_5 = 3, 2, 0
LAYER_I, LAYER_II, LAYER_III = 3, 2, 1
# No text, so that what begins with it is looked through for frames.
DEBRIS = b"\x85\x80\x81" * 5


def follow(data):
    return has_audio_frames(ByteWindow(io.BytesIO(data)))


def demuxer(data):
    return container_format(io.BytesIO(data))


def mpeg_headers(version, layer):
    """Every header of a layer: 14 bit rates, three sample rates, with and without padding."""
    return [
        bytes([0xFF, 0xE1 | version << 3 | layer << 1, rate << 4 | column << 2 | padding << 1, 0xC4])
        for rate, column, padding in itertools.product(range(1, 15), range(3), range(2))
    ]


def mpeg_frame(header, layer):
    """A frame of silence of the length that FFmpeg's parser takes behind a header."""
    av = pytest.importorskip("av")
    codec = {LAYER_I: "mp1", LAYER_II: "mp2", LAYER_III: "mp3"}[layer]
    return bytes(av.CodecContext.create(codec, "r").parse(header + bytes(1 << 13))[0])


@pytest.mark.parametrize("layer", [LAYER_I, LAYER_II, LAYER_III])
def test_frames_of_mpeg_audio_are_as_long_as_ffmpeg_has_them(layer):
    for version in (MPEG_1, MPEG_2, MPEG_2_5):
        frames = [mpeg_frame(header, layer) for header in mpeg_headers(version, layer)]
        for frame in frames:
            assert follow(frame * 4), frame[:4].hex()
        assert not follow((frames[0] + b"\0") * 4)


@pytest.mark.parametrize("version", [MPEG_1, MPEG_2, MPEG_2_5])
def test_a_demuxer_follows_frames_of_layer_three_as_ffmpeg_does(version):
    frames = [mpeg_frame(header, LAYER_III) for header in mpeg_headers(version, LAYER_III)]
    for frame in frames:
        assert demuxer(DEBRIS + frame * 2) == "mp3", frame[:4].hex()
    assert demuxer(DEBRIS + (frames[0] + b"\0") * 2) is None


@pytest.mark.parametrize("version", [MPEG_1, MPEG_2, MPEG_2_5])
def test_bit_rates_and_sample_rates_that_the_standard_reserves_are_no_header(version):
    """ISO/IEC 11172-3, 2.4.2.3: bit rate index 15 is forbidden, sampling frequency 3 reserved; 0 is a free bit rate."""
    for rate, column in itertools.product(range(16), range(4)):
        header = bytes([0xFF, 0xE3 | version << 3, rate << 4 | column << 2, 0xC4])
        known = rate not in (0, 15) and column != 3
        assert demuxer(header + bytes(60)) == ("mp3" if known else None), header.hex()


# Kilobits per second of ATSC A/52, table 5.18; each stands there twice.
AC3_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


@pytest.mark.parametrize(("column", "hertz"), [(0, 48_000), (1, 44_100), (2, 32_000)])
def test_frames_of_ac3_hold_1536_samples(column, hertz):
    """In words of 16 bits, of which 44.1 kHz has one more for every second code."""

    def frame(code, words):
        return (b"\x0b\x77\0\0" + bytes([column << 6 | code, 8 << 3, 0x40])).ljust(2 * words, b"\0")

    for code in range(2 * len(AC3_RATES)):
        words = AC3_RATES[code // 2] * 1000 * 1536 // hertz // 16 + (code % 2 if hertz == 44_100 else 0)
        assert follow(frame(code, words) * 4), (code, hertz)
        if code % 12 == 0:
            assert not follow(frame(code, words + 1) * 4) and not follow(frame(code, words - 1) * 4)
    assert not follow(frame(38, 1280) * 4)


@pytest.mark.parametrize("length", [96, 1006, 8192, 16_384])
def test_frames_of_dts_tell_their_length(length):
    """ETSI TS 102 114, 5.3.1: bits 46 to 59 are the number of bytes less one."""
    header = (0x7FFE8001_FC3C0000 | (length - 1) << 4).to_bytes(8, "big")
    frame = header.ljust(length, b"\0")
    assert follow(frame * 3 + frame[:8]) and not follow((frame + b"\0") * 3 + frame[:8])


def adts(length):
    """A frame of AAC whose header says so many bytes: ISO/IEC 13818-7, 6.2."""
    header = (0xFFF1_5080_0000_00 | length << 13 | 0x1FFC).to_bytes(7, "big")
    return header.ljust(length, b"\0")


@pytest.mark.parametrize("length", [8, 9, 300, 2048, 8191])
def test_frames_of_aac_tell_their_length(length):
    frame = adts(length)
    assert len(frame) == length
    assert follow(frame * 4) and not follow((frame + b"\0") * 4)
    assert demuxer(DEBRIS + frame * 2) == "aac" and demuxer(DEBRIS + (frame + b"\0") * 2) is None


def test_a_header_of_aac_alone_is_no_frame():
    """Its header takes seven bytes."""
    assert not follow(adts(7) * 40) and follow(adts(8) * 40)


def test_sample_rates_of_aac_that_the_standard_reserves_are_no_header():
    """ISO/IEC 14496-3, table 1.18: 13 rates, two that are reserved, and an escape that ADTS has no room for."""
    for index in range(16):
        header = bytearray(adts(300))
        header[2] = 0x40 | index << 2
        assert follow(bytes(header) * 4) == (index < 13), index


@pytest.mark.parametrize("zeros", [0, 3, 5000, 70_000])
def test_two_frames_to_the_end_of_a_file_are_audio_behind_any_number_of_zeros(zeros):
    for frame in (adts(300), mpeg_frame(b"\xff\xfb\x90\xc4", LAYER_III)):
        assert follow(bytes(zeros) + frame * 2)
        assert not follow(bytes(zeros) + frame[:-1] + b"\xff" + frame[1:200])


@pytest.mark.parametrize("before", [b"", DEBRIS])
def test_tags_or_half_a_frame_may_stand_behind_two_frames(before):
    """Other bytes may not: behind debris, so few frames are chance."""
    frame = adts(300)
    for behind in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(24), frame[:200], frame[:7]):
        assert follow(before + frame * 2 + behind)
        assert follow(before + frame + behind) == (not before or behind == frame[:200])
    for behind in (b"TOG" + bytes(125), b"APETAGES" + bytes(24)):
        assert not follow(before + frame * 2 + behind)
