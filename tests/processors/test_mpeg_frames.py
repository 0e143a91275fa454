"""MPEG audio frame by frame: headers as FFmpeg reads them, and what stands between frames and is none."""

import io
import itertools
import struct

import pytest

from processors import InputError
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


# What no frame may have: ISO 11172-3, 2.4.2.3, and the version that MPEG-2.5 leaves free.
@pytest.mark.parametrize(
    "header",
    [
        header_of(version=1), header_of(layer=4), header_of(rate=15), header_of(column=3), header_of() ^ 1 << 21,
        header_of() ^ 1 << 31,
    ],
)  # fmt: skip
def test_values_that_are_reserved_are_no_header(header):
    data = (header.to_bytes(4, "big") + bytes(413)) * 10
    assert mpeg_segments(io.BytesIO(data), "it", 0) is None


def test_samples_and_padding_go_by_layer_and_version():
    """A frame of layer I has 384 samples and is padded by four bytes; of the others by one, with 1,152 samples but for
    layer III of MPEG-2, which has half as many."""
    for version, layer in itertools.product((MPEG1, MPEG2, MPEG25), (1, 2, 3)):
        header = header_of(version, layer, 8)
        samples = 384 if layer == 1 else 576 if layer == 3 and version != MPEG1 else 1152
        (segment,) = walk(frames(10, header))
        assert (segment.samples, segment.skipped) == (10 * samples, samples), (version, layer)
        assert parse(header | 1 << 9).size - parse(header).size == (4 if layer == 1 else 1)


def test_the_frame_in_front_is_silent_and_the_shortest_of_its_kind():
    """A slot of four bytes of layer I, and of one byte of the others: ISO 11172-3, 2.4.3.1; 32 kbit/s or 8 kbit/s."""
    kilobits = {(MPEG1, 1): 32, (MPEG1, 2): 32, (MPEG1, 3): 32, (MPEG2, 1): 32, (MPEG2, 2): 8, (MPEG2, 3): 8}
    for (version, layer), rate in kilobits.items():
        for column, hertz in enumerate((44_100, 48_000, 32_000) if version == MPEG1 else (22_050, 24_000, 16_000)):
            for mode, checked, padded in itertools.product((0, 3), (False, True), (0, 1)):
                header = header_of(version, layer, 10, column, mode, checked) | padded << 9
                (segment,) = walk(frames(10, header))
                silence = segment.pieces[1]
                samples = 384 if layer == 1 else 576 if layer == 3 and version != MPEG1 else 1152
                slot = 4 if layer == 1 else 1
                assert len(silence) == samples * 1000 * rate // 8 // hertz // slot * slot
                assert silence[:4] == header_of(version, layer, 1, column, mode).to_bytes(4, "big")
                assert not any(silence[4:])


SMALL = header_of(MPEG2, 3, 1, 1)  # 8 kbit/s at 24 kHz: 24 bytes
LIKE_FRAMES = frames(20, SMALL)


@pytest.mark.parametrize(
    "tag",
    [
        b"TAG" + LIKE_FRAMES[:125],
        b"TAG+" + LIKE_FRAMES[:223] + b"TAG" + LIKE_FRAMES[:125],
        b"APETAGEX" + struct.pack("<IIII", 2000, 480, 1, 1 << 29) + bytes(8) + LIKE_FRAMES,
        b"APETAGEX" + struct.pack("<IIII", 2000, 480, 1, 0) + bytes(8),
        b"ID3\4\0\0\0\0\3\x60" + LIKE_FRAMES,
        b"ID3\4\0\x10\0\0\3\x60" + LIKE_FRAMES + bytes(10),
        b"LYRICSBEGIN" + LIKE_FRAMES + b"LYRICSEND",
    ],
    ids=["id3v1", "enhanced", "ape_header", "ape_footer", "id3v2", "id3v2_footer", "lyrics"],
)
def test_tags_between_frames_are_left_out_to_the_byte(tag):
    data = frames(30, SMALL) + tag + frames(40, SMALL)
    (segment,) = walk(data)
    assert segment.pieces[2:] == [(0, 30 * 24), (30 * 24 + len(tag), len(data))]
    (segment,) = walk(frames(30, SMALL) + tag)
    assert segment.pieces[2:] == [(0, 30 * 24)]


@pytest.mark.parametrize(("rest", "lost"), [(1, True), (23, True), (416, True), (417, False), (5000, False)])
def test_between_frames_only_what_is_left_of_one_is_passed_over(rest, lost):
    data = frames(10) + b"\x33" * rest + frames(10)
    if lost:
        (segment,) = walk(data)
        assert segment.samples == 20 * 1152
    else:
        with pytest.raises(InputError) as refusal:
            walk(data)
        assert refusal.value.code == "audio_corrupt"


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (frames(3) + b"\x33" * 500, True), (frames(2) + b"\x33" * 500, False), (frames(2), True), (frames(1), True),
        (frames(1) + b"\x33" * 500, False), (frames(1) + b"TAG" + bytes(125), True), (frames(1)[:-1], False),
        (frames(2)[:-1], True), (b"", False), (frames(1)[:3], False), (frames(1) + bytes(50), True),
        (frames(1) + frames(1, header_of(layer=2)), False), (frames(1) + frames(1, header_of(version=MPEG2)), False),
        (frames(1) + frames(1, header_of(column=1)), False), (frames(1) + frames(1, header_of(rate=5)), True),
    ],
)  # fmt: skip
def test_what_begins_a_file_of_frames(data, known):
    """Three in a row of one version, layer and sampling rate, or fewer up to the end or a tag."""
    assert (mpeg_segments(io.BytesIO(data), "it", 0) is not None) is known


@pytest.mark.parametrize(("search", "found"), [(0, False), (99, False), (102, True), (5000, True)])
def test_frames_behind_something_else_are_looked_for_so_far(search, found):
    data = b"\x33" * 100 + frames(10)
    segments = mpeg_segments(io.BytesIO(data), "it", 0, search)
    assert (segments is not None) is found
    if segments:
        assert segments[0].pieces[2:] == [(100, len(data))]


# A header frame of MPEG-1 in two channels: its mark stands behind 32 bytes, or 36 from its start.
def counted(mark, promised):
    if mark == b"VBRI":
        # Version, delay, quality, bytes and frames.
        return frame_of(header_of(), bytes(32) + mark + struct.pack(">HHHII", 1, 0, 75, 9999, promised))
    return frame_of(header_of(), bytes(32) + mark + struct.pack(">II", 1, promised))


@pytest.mark.parametrize("mark", [b"Xing", b"Info", b"VBRI"])
@pytest.mark.parametrize("there", [3, 60])
def test_a_header_may_count_itself_and_no_frame_more(mark, there):
    """With half a frame at the end, that one is what is missing."""
    for promised, behind, short in (
        (0, 0, False), (there - 1, 0, False), (there, 0, False), (there + 1, 0, False), (there + 2, 0, True),
        (there, 100, False), (there + 1, 100, True), (1 << 8, 0, True), (1 << 16, 0, True), (1 << 24, 0, True),
    ):  # fmt: skip
        data = counted(mark, promised) + frames(there) + frames(1)[:behind]
        if short:
            with pytest.raises(InputError) as refusal:
                walk(data)
            assert refusal.value.code == "audio_truncated"
            continue
        (segment,) = walk(data)
        made = segment.pieces[1:]
        if mark == b"VBRI" or promised < there:
            assert (segment.samples, segment.skipped) == (there * 1152, 1152)
            assert made[1:] == [(417, 417 * (there + 1))] and isinstance(made[0], bytes)
        else:
            # A decoder that understands it is handed it, with what was counted.
            assert segment.samples is None and segment.skipped == 0
            assert made == [(0, 44), there.to_bytes(4, "big"), (48, 417), (417, 417 * (there + 1))]


@pytest.mark.parametrize("mark", [b"Xing", b"Info", b"VBRI"])
@pytest.mark.parametrize("before", [3, 60])
def test_a_header_frame_begins_another_stream(mark, before):
    data = frames(before) + counted(mark, 40) + frames(40)
    first, second = walk(data)
    assert first.pieces[2:] == [(0, 417 * before)]
    assert second.pieces[-1] == (417 * (before + 1), len(data))


@pytest.mark.parametrize("mode", [0, 3])
@pytest.mark.parametrize("version", [MPEG1, MPEG2, MPEG25])
def test_the_mark_of_a_header_frame_stands_behind_the_side_information(version, mode):
    """ISO 11172-3, 2.4.1.7, and 13818-3: 32 bytes, of one channel 17; of MPEG-2, 17 and 9."""
    header = header_of(version, 3, 8, mode=mode)
    side = {(True, 0): 32, (True, 3): 17, (False, 0): 17, (False, 3): 9}[version == MPEG1, mode]
    size = len(frame_of(header))
    begin = frame_of(header, bytes(side) + b"Xing" + struct.pack(">II", 1, 3))
    (segment,) = walk(begin + frames(3, header))
    assert segment.pieces[-1] == (size, 4 * size)
    begin = frame_of(header, bytes(side - 1) + b"Xing" + struct.pack(">II", 1, 300))
    (segment,) = walk(begin + frames(3, header))
    assert segment.pieces[-1] == (0, 4 * size)


@pytest.mark.parametrize("layer", [1, 2])
def test_other_layers_have_no_header_frames(layer):
    header = header_of(layer=layer)
    (segment,) = walk(frame_of(header, bytes(32) + b"Xing" + struct.pack(">II", 1, 300)) + frames(10, header))
    assert segment.samples == 11 * (384 if layer == 1 else 1152)


@pytest.mark.parametrize("padded", [0, 1])
def test_a_delay_that_does_not_fit_into_the_frame_is_none(padded):
    """LAME's delay and padding are three bytes, which end 24 bytes into its tag: here that is 49 bytes."""
    header = header_of(MPEG2, 3, 2, 1, mode=3) | padded << 9  # 16 kbit/s at 24 kHz: 48 bytes, and padding
    lame = b"LAME".ljust(21, b"\0") + b"\x24\0\0"
    begin = (header.to_bytes(4, "big") + bytes(9) + b"Info" + struct.pack(">II", 1, 5) + lame)[: 48 + padded]
    (segment,) = walk(begin + frames(20, header))
    assert segment.skipped == 576 + (0x240 + 529 if padded else 0)


def test_a_header_frame_without_the_name_of_an_encoder_tells_no_delay():
    begin = frame_of(header_of(), bytes(32) + b"Info" + struct.pack(">II", 1, 5) + bytes(21) + b"\x24\0\0")
    (segment,) = walk(begin + frames(20))
    assert (segment.samples, segment.skipped) == (20 * 1152, 1152)


def test_a_delay_of_more_than_there_is_leaves_nothing():
    lame = b"LAME".ljust(21, b"\0") + b"\xff\xf0\0"
    begin = frame_of(header_of(), bytes(32) + b"Info" + struct.pack(">II", 1, 1) + lame)
    (segment,) = walk(begin + frames(3))
    assert (segment.samples, segment.skipped) == (0, 1152 + 4095 + 529)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 0)])
@pytest.mark.parametrize("count", [3, 60])
def test_another_number_of_channels_is_another_stream(first, second, count):
    data = frames(count, header_of(mode=first)) + frames(count, header_of(mode=second))
    assert [segment.pieces[-1] for segment in walk(data)] == [(0, 417 * count), (417 * count, len(data))]


def test_two_modes_of_two_channels_are_one_stream():
    data = b"".join(frames(30, header_of(mode=mode)) for mode in (0, 1, 2, 1))
    (segment,) = walk(data)
    assert segment.samples == 120 * 1152 and segment.pieces[-1] == (0, len(data))


def test_frames_of_other_bit_rates_are_one_stream():
    data = b"".join(frames(3, header_of(rate=rate)) for rate in range(1, 15)) * 4
    (segment,) = walk(data)
    assert segment.samples == 14 * 3 * 4 * 1152 and segment.pieces[-1] == (0, len(data))


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("size", [60, 500, 1044])
def test_a_free_bit_rate_is_the_distance_to_the_next_header(layer, size):
    """ISO 11172-3, 2.4.2.3: constant but for the padding; what looks like a header in the side information is none."""
    header, slot = header_of(layer=layer, rate=0, mode=3), 4 if layer == 1 else 1
    made = b""
    for number in range(30):
        padded = header | (number % 3 == 1) << 9
        inside = b"\0" * 6 + header.to_bytes(4, "big")
        made += (padded.to_bytes(4, "big") + inside).ljust(size + (number % 3 == 1) * slot, b"\x11")
    (segment,) = walk(made)
    assert segment.samples == 30 * (384 if layer == 1 else 1152)
    assert segment.pieces[2:] == [(0, len(made))]
