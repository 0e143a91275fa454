"""Ogg page by page: RFC 3533's rules of pages and packets, and the positions that a decoder is handed."""

import io
import struct

import pytest

from processors import InputError
from processors.decode.audio.ogg_pages import ogg_segments
from processors.io.splice import splice
from tests.processors.odd_audio import pages, repaged

CONTINUED, BEGIN, END = 1, 2, 4
# One frame of CELT of 20 ms, RFC 6716, section 3.1: 960 samples at 48 kHz.
PACKET = b"\xf8" + bytes(40)
OPUS = (b"OpusHead" + bytes(11), b"OpusTags" + bytes(8))
VORBIS = tuple(bytes([kind]) + b"vorbis" + bytes(20) for kind in (1, 3, 5))
THEORA = tuple(bytes([kind]) + b"theora" + bytes(20) for kind in (0x80, 0x81, 0x82))


def page_of(*packets, granule=0, flags=0, sequence=0, serial=1, whole=True):
    """Section 6: packets in segments of 255 bytes, of which the last is shorter."""
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    if not whole:
        assert len(packets[-1]) % 255 == 0
        lacing = lacing[:-1]
    head = b"OggS\0" + struct.pack("<BqIII", flags, granule, serial, sequence, 0) + bytes([len(lacing)])
    return repaged(head + lacing + b"".join(packets))


def stream_of(headers, granules=(), packets=1, begin=0, serial=1, jump=0):
    made = [
        page_of(header, flags=0 if number else BEGIN, sequence=begin + number & 0xFFFFFFFF, serial=serial)
        for number, header in enumerate(headers)
    ]
    for granule in granules:
        made.append(
            page_of(*[PACKET] * packets, granule=granule, sequence=begin + jump + len(made) & 0xFFFFFFFF, serial=serial)
        )
    return b"".join(made)


def walk(data):
    """The pages of each segment, as a decoder is handed them; None where it is FFmpeg's."""
    stream = io.BytesIO(data)
    segments = ogg_segments(stream, "it", 0)
    return segments and [pages(splice(stream, one.pieces).read()) for one in segments]


def granules_of(data):
    made = walk(data)
    assert made is not None
    (segment,) = made
    for page in segment:
        assert page == repaged(page)  # its checksum fits
    assert [page[5] & END for page in segment] == [0] * (len(segment) - 1) + [END]
    return [struct.unpack_from("<q", page, 6)[0] for page in segment]


def refusal_of(data):
    with pytest.raises(InputError) as refusal:
        walk(data)
    return refusal.value.code


@pytest.mark.parametrize("headers", [OPUS, VORBIS])
def test_a_packet_behind_the_headers_is_audio(headers):
    """RFC 7845, section 3: two packets of headers. Vorbis I, section 4.2: three."""
    assert walk(stream_of(headers, [960])) is not None
    assert refusal_of(stream_of(headers)) == "audio_empty"
    # All of them in two pages, as most writers have it.
    data = page_of(headers[0], flags=BEGIN) + page_of(*headers[1:], sequence=1)
    assert refusal_of(data) == "audio_empty"
    assert walk(data + page_of(PACKET, sequence=2)) is not None


# Positions as they are, and as a decoder is handed them.
OPUS_POSITIONS = [
    ([960, 1920, 2880], [960, 1920, 2880]),
    ([960, 1920, 2500], [960, 1920, 2500]),  # padding is cut off
    ([960, 1920, 2881], [960, 1920, 2880]),
    ([960, 1920, 1 << 60], [960, 1920, 2880]),
    ([960, 1920, 1920], [960, 1920, 1920]),
    ([960, 96_960, 97_920], [960, 96_960, 97_920]),  # a pause of the sender
    ([960, 1920, -1], [960, 1920, 2880]),
    ([960, 1920, 0], [960, 1920, 2880]),
    ([-1, -1, -1], [960, 1920, 2880]),
    ([960, 959, 2880], [960, 1920, 2880]),
    ([960, 960, 2880], [960, 1920, 2880]),
    ([960, 1920, 1919], [960, 1920, 2880]),
    ([500], [500]),
    ([5000], [960]),
]


@pytest.mark.parametrize(("positions", "wanted"), OPUS_POSITIONS)
def test_positions_of_opus_are_what_packets_make_of_them(positions, wanted):
    assert granules_of(stream_of(OPUS, positions)) == [0, 0, *wanted]


def test_positions_of_opus_count_every_packet_of_a_page():
    assert granules_of(stream_of(OPUS, [0, 0, 0], packets=3)) == [0, 0, 2880, 5760, 8640]
    assert granules_of(stream_of(OPUS, [2880, 5760, 9000], packets=3)) == [0, 0, 2880, 5760, 8640]


def test_packets_of_a_page_may_be_of_any_length():
    """Three frames of 20 ms, one of 10 ms, two of 20 ms; a packet that does not say how many, and one of nothing."""
    packets = (b"\xfb\x03" + bytes(300), b"\xf0" + bytes(9), b"\xf9" + bytes(255))
    data = stream_of(OPUS) + page_of(*packets, sequence=2) + page_of(PACKET, sequence=3)
    assert granules_of(data) == [0, 0, 2880 + 480 + 1920, 2880 + 480 + 1920 + 960]
    assert walk(data + page_of(b"\xfb", b"", PACKET, sequence=4)) is not None


@pytest.mark.parametrize(
    ("positions", "wanted"),
    [
        ([500, 1000, 1500], [500, 1000, 1500]), ([0, 1000, 1400], [0, 1000, 1400]), ([9, 9, 1400], [9, 9, 1400]),
        ([500, 1000, -1], [-1, -1, -1]), ([500, 1000, 0], [-1, -1, -1]), ([500, 499, 1500], [-1, -1, -1]),
        ([-1, 1000, 1500], [-1, -1, -1]), ([1], [1]), ([0], [-1]),
    ],
)  # fmt: skip
def test_positions_of_vorbis_are_those_of_the_file_or_none(positions, wanted):
    """RFC 3533, section 6: -1 is no position."""
    assert granules_of(stream_of(VORBIS, positions)) == [0, 0, 0, *wanted]


def test_a_page_in_which_no_packet_ends_keeps_its_position():
    """RFC 3533, section 6: a packet of more than a page goes on in the next, and takes its position from there."""
    long = b"\xf8" + bytes(509)
    data = stream_of(OPUS, [960])
    data += page_of(long, granule=-1, sequence=3, whole=False)
    more = data + page_of(bytes(10), PACKET, granule=5000, flags=CONTINUED, sequence=4)
    assert granules_of(more) == [0, 0, 960, -1, 960 + 2 * 960]
    assert refusal_of(data) == "audio_truncated"
    # A packet that ends with its page ends, even where the next page says otherwise.
    assert walk(stream_of(OPUS, [960]) + page_of(bytes(254), granule=1920, sequence=3)) is not None


def test_pages_that_need_nothing_are_handed_on_as_they_are():
    data = stream_of(OPUS, [960, 1920])
    (segment,) = ogg_segments(io.BytesIO(data), "it", 0) or [None]
    assert segment is not None and segment.open_end and segment.samples is None
    kept, last = segment.pieces
    assert kept == (0, len(data) - len(pages(data)[-1])) and last == repaged(pages(data)[-1], flags=END)
    ended = data[: kept[1]] + last
    (segment,) = ogg_segments(io.BytesIO(ended), "it", 0) or [None]
    assert segment is not None and segment.pieces == [(0, len(data))]


def test_a_broadcast_begins_anywhere_and_loses_no_page_then():
    """Positions of the first page cannot be counted from 0 there."""
    assert granules_of(stream_of(OPUS, [500_000], jump=70)) == [0, 0, 500_000]
    assert granules_of(stream_of(OPUS, [500_000, 500_960], jump=70)) == [0, 0, 500_000, 500_960]
    assert granules_of(stream_of(OPUS, [500_000, 600_000], jump=70)) == [0, 0, 500_000, 500_960]
    whole = pages(stream_of(OPUS, [960, 1920, 2880]))
    assert refusal_of(b"".join(whole[:3] + whole[4:])) == "audio_corrupt"
    assert refusal_of(b"".join([*whole[:4], whole[3], whole[4]])) == "audio_corrupt"
    assert walk(b"".join(whole[:2] + whole[3:])) is not None


def test_numbers_of_pages_begin_again_behind_the_last():
    assert walk(stream_of(OPUS, [960, 1920, 2880], begin=0xFFFFFFFC)) is not None


@pytest.mark.parametrize("place", [0, 24])
def test_pages_of_other_streams_are_left_in_place(place):
    """Section 4: grouped streams all begin before any goes on. Theora's specification, section 6: three headers."""
    sound = pages(stream_of(VORBIS, [500, 1000], serial=5 << place))
    sight = pages(stream_of(THEORA, [1, 2, 3], serial=6 << place))
    mixed = b"".join([sight[0], sound[0], *sight[1:4], *sound[1:4], sight[4], sound[4]])
    assert granules_of(mixed) == [0, 0, 0, 500, 1000]
    assert refusal_of(b"".join([sight[0], sound[0], *sight[1:4], *sound[1:], sight[5]])) == "audio_corrupt"
    assert walk(b"".join([sight[0], sound[0], *sight[1:3], *sound[1:], *sight[4:]])) is not None
    # Nor is a page of a stream that never began looked at.
    stray = page_of(PACKET, serial=9, sequence=77)
    assert granules_of(b"".join([sound[0], stray, *sound[1:]])) == [0, 0, 0, 500, 1000]


def test_each_link_of_a_chain_is_a_segment():
    first, second = stream_of(OPUS, [960]), stream_of(VORBIS, [500, 700], serial=8)
    made = walk(first + second + first)
    assert made is not None and [len(one) for one in made] == [3, 5, 3]
    assert walk(stream_of(THEORA, [1]) + second) is not None
    assert walk(stream_of(THEORA, [1])) is None


@pytest.mark.parametrize("begin", [b"\x7fFLAC\1\0", b"Speex   "])
def test_other_codecs_of_ogg_are_left_to_ffmpeg(begin):
    headers = (begin + bytes(72), bytes(30))
    assert walk(stream_of(headers, [960])) is None
    assert walk(stream_of(OPUS, [960]) + stream_of(headers, [960], serial=3)) is None


@pytest.mark.parametrize("place", [4, 5, 6, 14, 18, 22, 25, 26, 27, 28, 40])
def test_a_checksum_covers_all_of_a_page(place):
    data = bytearray(stream_of(OPUS, [960, 1920]))
    data[len(data) - len(pages(bytes(data))[-1]) + place] ^= 1
    assert refusal_of(bytes(data) + bytes(300)) in {"audio_corrupt", "audio_truncated"}
    assert refusal_of(stream_of(OPUS, [960])[:-1] + b"\1") == "audio_corrupt"


def test_what_follows_the_last_page():
    data = stream_of(OPUS, [960, 1920])
    last = pages(data)[-1]
    for behind in (b"", bytes(5000), b"TAG" + bytes(125), b"rubbish", b"\0Og.", b"OggX"):
        made = walk(data + behind)
        assert made is not None and len(made[0]) == 4
    for end in range(1, len(last)):
        assert refusal_of(data[: len(data) - end]) == "audio_truncated"
    for end in range(1, 27):
        assert refusal_of(data + bytes(9) + last[:end]) == ("audio_truncated" if end < 5 else "audio_corrupt")
    for between in (b"rubbish", bytes(5000), b"x" * 5000):
        assert refusal_of(data[: -len(last)] + between + last) == "audio_corrupt"


def test_pages_without_a_beginning_are_damage():
    assert refusal_of(b"".join(pages(stream_of(OPUS, [960, 1920]))[1:])) == "audio_corrupt"
