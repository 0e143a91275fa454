"""MPEG audio frame by frame: headers as FFmpeg reads them, and what stands between frames and is none."""

import io
import itertools
import struct

import pytest

from processors.decode.audio import mpeg_frames
from processors.decode.audio.mpeg_frames import mpeg_segments

MPEG1, MPEG2, MPEG25 = 3, 2, 0


def header_of(version=MPEG1, layer=3, rate=9, column=0, mode=0, checked=False):
    """The 32 bits in front of a frame, ISO 11172-3, 2.4.1.3; of 128 kbit/s at 44.1 kHz."""
    return 0x7FF << 21 | version << 19 | (4 - layer) << 17 | (not checked) << 16 | rate << 12 | column << 10 | mode << 6


def parse(header):
    frame = mpeg_frames._parse(header)
    assert frame is not None
    return frame


def frame_of(header, content=b""):
    size = parse(header).size
    return (header.to_bytes(4, "big") + content).ljust(size, b"\0")


def frames(count, header=None):
    return frame_of(header or header_of()) * count


def walk(data):
    segments = mpeg_segments(io.BytesIO(data), "it", 0)
    assert segments is not None
    return segments


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_sizes_and_rates_are_those_of_ffmpeg(layer):
    av = pytest.importorskip("av")
    for version, rate, column in itertools.product((MPEG1, MPEG2, MPEG25), range(1, 15), range(3)):
        header = header_of(version, layer, rate, column)
        parser = av.CodecContext.create(f"mp{layer}", "r")
        (packet, *_) = parser.parse(header.to_bytes(4, "big") + bytes(5000) + header.to_bytes(4, "big"))
        made = parse(header)
        assert (made.size, made.rate) == (packet.size, parser.sample_rate), (version, rate, column)


@pytest.mark.parametrize(("mode", "channels"), [(0, 2), (1, 2), (2, 2), (3, 1)])
def test_of_the_four_modes_one_has_a_single_channel(mode, channels):
    """ISO 11172-3, 2.4.2.3: stereo, joint stereo, two channels, one channel."""
    assert parse(header_of(mode=mode)).channels == channels


@pytest.mark.parametrize("end", [b"LYRICSEND", b"000527LYRICS200"])
def test_lyrics_are_left_out_even_where_they_look_like_frames(end):
    (segment,) = walk(frames(10) + b"LYRICSBEGIN" + frames(5) + end + frames(10))
    assert segment.samples == 20 * 1152


@pytest.mark.parametrize("zeros", [1, 8191, 8192, 8193, 20_000])
def test_zeros_between_frames_are_left_out(zeros):
    (segment,) = walk(frames(10) + bytes(zeros) + frames(10))
    assert segment.samples == 20 * 1152


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("mode", [0, 3])
def test_a_header_frame_begins_a_file_with_a_checksum_or_without(checked, mode):
    """Its mark stands behind the side information, which a checksum of 16 bits moves."""
    header = header_of(mode=mode, checked=checked)
    size = len(frame_of(header))
    for mark in (b"Xing", b"Info"):
        side = (17 if mode == 3 else 32) + 2 * checked
        begin = frame_of(header, bytes(side) + mark + struct.pack(">II", 1, 40))
        first, second = walk(frames(40, header) + begin + frames(40, header))
        assert first.pieces[-1] == (0, 40 * size) and second.pieces[-1] == (41 * size, 81 * size)


def test_the_encoders_delay_stands_behind_what_the_flags_announce():
    """A Xing header: the number of frames, that of bytes, a table of 100 bytes and a quality, each if its bit is set;
    behind them LAME's tag, whose 22nd byte begins the delay. The decoder's own 529 samples come on top."""
    delay = 1105
    lame = b"LAME3.100".ljust(21, b"\0") + (delay << 12 | 777).to_bytes(3, "big")
    for flags in range(16):
        values = [(1).to_bytes(4, "big"), (9999).to_bytes(4, "big"), bytes(100), (50).to_bytes(4, "big")]
        fields = b"".join(value for bit, value in enumerate(values) if flags >> bit & 1)
        begin = frame_of(header_of(), bytes(32) + b"Xing" + flags.to_bytes(4, "big") + fields + lame)
        (segment,) = walk(begin + frames(20))
        assert (segment.samples, segment.skipped) == (20 * 1152 - delay - 529, 1152 + delay + 529), flags
