"""What the structure of a container promises, at its boundaries: whole, a byte less, a number more."""

import io
import struct

import pytest

from processors import Access, Deadline, InputError
from processors.decode.container.structure import check_structure


def checked(data):
    """What FFmpeg is to read (None: all of it), joints, and how many frames there are at least."""
    stream = io.BytesIO(data)
    read, joints, frames = check_structure(stream, "it")
    return None if read is stream else read.read(), joints, frames


def frames_of(data):
    return checked(data)[2]


def refusal_of(data):
    with pytest.raises(InputError) as refusal:
        check_structure(io.BytesIO(data), "it")
    return refusal.value.code


# --- FLV -------------------------------------------------------------------------------------------------------------


def flv(*tags, offset=9):
    """A header whose size may be larger, and tags, each with its size behind it."""
    made = b"FLV\x01\x05" + struct.pack(">I", offset) + bytes(offset - 9) + bytes(4)
    for kind, payload in tags:
        size = len(payload)
        made += bytes([kind]) + size.to_bytes(3, "big") + bytes(7) + payload + struct.pack(">I", size + 11)
    return made


def avc(packet, data=b"", kind=1):
    """A tag of H.264: a key frame, its packet, and three bytes of time."""
    return 9, bytes([kind << 4 | 7, packet, 0, 0, 0]) + data


HEADER, FRAME, END = 0, 1, 2
START = avc(HEADER, b"\1\x64\0\x1e")
VP6, COMMAND = 4, 5


def test_packets_of_h264_in_an_flv_that_hold_a_frame_are_counted():
    """Neither the configuration nor the end of the sequence is a frame, nor a packet of its header alone."""
    assert frames_of(flv(START, avc(FRAME, b"x"), avc(FRAME, b"x" * 300))) == 2
    assert frames_of(flv(START, avc(FRAME, b"x"), avc(FRAME), avc(END))) == 1
    assert frames_of(flv(START, avc(END))) == frames_of(flv(START, (8, b"x" * 20), (18, b"x"))) == 0
    assert frames_of(flv((9, bytes([1 << 4 | VP6]) + b"x" * 5), (9, bytes([2 << 4 | VP6]) + b"x" * 90))) == 2


def test_a_command_in_an_flv_is_no_frame_and_a_frame_is_no_command():
    """Frame type 5 is a command to the server, of a byte or a few: with more behind it, a frame was overwritten."""
    assert frames_of(flv(START, avc(FRAME, b"x"), (9, b"\x57\0"), avc(COMMAND, kind=5), avc(FRAME, b"x"))) == 2
    assert refusal_of(flv(START, avc(FRAME, b"x"), avc(FRAME, b"x", kind=5))) == "video_corrupt"
    assert frames_of(flv(*[(9, bytes([4 << 4 | VP6]) + b"x" * 9)] * 2)) == 2


def test_one_codec_to_an_flv():
    assert refusal_of(flv(START, avc(FRAME, b"x"), (9, b"\x14xxxxxx"))) == "video_corrupt"
    assert refusal_of(flv(START, avc(3, b"x"))) == refusal_of(flv(START, avc(END, b"x"))) == "video_corrupt"
    assert refusal_of(flv(avc(HEADER, b"\2\x64\0\x1e"))) == "video_corrupt"  # its version is 1


def test_only_the_last_tags_own_size_may_be_missing_from_an_flv():
    data = flv(START, avc(FRAME, b"x" * 30))
    for missing in (0, 1, 3, 4):
        assert frames_of(data[: len(data) - missing]) == 1
    for missing in (5, 6, 34):
        assert refusal_of(data[: len(data) - missing]) == "video_truncated"


@pytest.mark.parametrize("offset", [9, 13])
def test_further_headers_of_a_joined_flv_are_left_out(offset):
    one, two = flv(START, avc(FRAME, b"first")), flv(START, avc(FRAME, b"second"), offset=offset)
    read, joints, frames = checked(one + two + two)
    tags = len(two) - offset - 4
    assert joints == (len(one), len(one) + tags) and frames == 0
    assert read == one + two[-tags:] * 2
    assert checked(two) == (None, (), 1)


def test_an_flv_is_as_long_as_it_says():
    def script(size):
        return 18, b"\2\0\x0aonMetaData\x08\0\0\0\1\0\x08filesize\0" + struct.pack(">d", size) + b"\0\0\x09"

    length = len(flv(script(0), START))
    for size in (0, length - 1, length):
        assert frames_of(flv(script(size), START)) == 0
    assert refusal_of(flv(script(length + 1), START)) == "video_truncated"


# --- MP4 -------------------------------------------------------------------------------------------------------------


def box(kind, content, large=False):
    if large:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


@pytest.mark.parametrize("large", [False, True])
def test_sizes_of_boxes_may_have_64_bits(large):
    """ISO/IEC 14496-12, 4.2: a size of 1 stands for the eight bytes behind the type."""
    start, movie = box(b"ftyp", b"isom\0\0\0\0"), box(b"moov", bytes(100))
    for content in (b"", b"x", b"x" * 300):
        data = start + box(b"mdat", content, large) + movie
        assert checked(data) == (None, (), 0)
        assert refusal_of(data + movie) == "video_corrupt"
        assert refusal_of(start + box(b"mdat", content, large)) == "video_truncated"
        assert refusal_of(start + box(b"mdat", content + b"x", large)[:-1]) == "video_truncated"


# --- ASF -------------------------------------------------------------------------------------------------------------


def asf(packets, size=100, promised=None, least=None, live=0, total=None):
    """A header of one object, and the data: packets of one size, each with three bytes of error correction."""
    least = size if least is None else least
    promised = len(packets) if promised is None else promised
    content = b"".join(packet.ljust(size, b"\0") for packet in packets)
    file = bytes(64) + struct.pack("<III", live, least, size) + bytes(4)
    file = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + struct.pack("<Q", len(file) + 24) + file
    header = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIH", len(file) + 30, 1, 0x201) + file
    total = len(content) + 50 if total is None else total
    data = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c") + struct.pack("<Q", total) + bytes(16)
    return header + data + struct.pack("<QH", promised, 0x101) + content


PACKET = b"\x82\0\0\x5d"


@pytest.mark.parametrize(("size", "count"), [(100, 12), (1 << 19, 5)])
def test_each_packet_of_an_asf_begins_alike(size, count):
    assert checked(asf([PACKET] * count, size)) == (None, (), 0)
    for place in (1, count // 2, count - 1):
        for wrong in (b"\0\0\0\x5d", b"\x82\1\0\x5d", b"\x82\0\1\x5d"):
            packets = [PACKET] * count
            packets[place] = wrong
            assert refusal_of(asf(packets, size)) == "video_corrupt"


def test_packets_of_an_asf_are_all_there():
    assert refusal_of(asf([PACKET] * 9, promised=10)) == "video_truncated"
    assert refusal_of(asf([PACKET] * 9)[:-1]) == "video_truncated"
    assert refusal_of(asf([PACKET] * 9, promised=0, total=951)) == "video_truncated"
    # Of a live stream the header tells nothing, and packets of many sizes cannot be counted.
    assert checked(asf([PACKET] * 9, promised=10, live=1)) == (None, (), 0)
    assert checked(asf([PACKET] * 9, promised=10, least=99)) == (None, (), 0)


def test_every_byte_of_a_size_or_a_number_of_packets_counts_in_an_asf():
    for more in (1 << 8, 1 << 24, 1 << 32, 1 << 56, 1 << 63):
        assert refusal_of(asf([PACKET] * 9, total=950 + more)) == "video_truncated"
        assert refusal_of(asf([PACKET] * 9, promised=9 + more)) == "video_truncated"


# --- Ogg -------------------------------------------------------------------------------------------------------------


def page(number, serial=7, flags=0, size=40):
    return b"OggS\0" + struct.pack("<BQIIIBB", flags, 0, serial, number, 0, 1, size) + bytes(size)


CONTINUED, FIRST = 1, 2


def test_pages_of_a_stream_in_ogg_are_numbered():
    headers = page(0, flags=FIRST) + page(1) + page(2)
    assert checked(headers + page(3) + page(4)) == (None, (), 0)
    for flags in (0, CONTINUED):
        # A recording of a broadcast goes on anywhere behind its headers.
        assert checked(headers + page(900, flags=flags) + page(901)) == (None, (), 0)
        assert refusal_of(headers + page(3) + page(5, flags=flags)) == "video_corrupt"
    # Files laid end to end may have one serial number.
    assert checked((headers + page(3)) * 2) == (None, (), 0)


@pytest.mark.parametrize("serials", [(7, 8), (7, 7 << 8), (7, 7 << 24), (0x0100_0007, 0x0200_0007), (7, 0xFFFF_FFFF)])
def test_streams_in_ogg_are_told_by_all_of_their_serial_numbers(serials):
    one, other = serials
    mixed = b"".join(page(n, serial=one) + page(n, serial=other) + page(2 * n, serial=3 * n + 99) for n in range(9))
    assert checked(mixed) == (None, (), 0)
    assert refusal_of(mixed + page(10, serial=other)) == refusal_of(mixed + page(8, serial=one)) == "video_corrupt"


def test_the_last_page_of_an_ogg_is_whole():
    data = page(0, flags=FIRST) + page(1)
    assert checked(data) == (None, (), 0)
    assert refusal_of(data[:-1]) == "video_truncated"
    assert refusal_of(data + b"x" * 27) == "video_corrupt"


def test_boxes_of_a_movie_have_names():
    start, movie = box(b"ftyp", b"isom\0\0\0\0"), box(b"moov", bytes(100))
    for other in (box(b"\0\1ab", b"x"), box(b"\xa9nam", b"x"), struct.pack(">I4s", 7, b"free")):
        assert refusal_of(start + other + movie) == "video_corrupt"
        # What follows a movie header, no player reads.
        assert checked(start + movie + other) == (None, (), 0)
    last = struct.pack(">I4s", 0, b"mdat") + bytes(77)
    assert checked(start + movie + last) == (None, (), 0)
    assert refusal_of(start + last + movie) == "video_truncated"
    # Pictures have no movie header, but tell where all of it lies.
    assert checked(start + box(b"meta", bytes(9)) + box(b"mdat", bytes(9))) == (None, (), 0)


@pytest.mark.parametrize("kind", [8, 9, 15, 18])
def test_tags_of_an_flv_are_of_four_kinds(kind):
    content = b"\x17\1\0\0\0x" if kind == 9 else b"x" * 20
    for bits in (0, 0x20):  # the bit before says that it is encrypted
        assert checked(flv(START, (kind | bits, content), START))[0] is None
    assert refusal_of(flv(START, (kind ^ 3, content), START)) == "video_corrupt"


def test_tags_of_an_flv_may_number_their_streams():
    """A number that is not 0 is believed where the size behind the tag is right."""
    data = flv(START, (8, b"x" * 30), avc(FRAME, b"x"))
    place = data.index(b"\x08\0\0\x1e") + 8
    numbered = data[:place] + b"\0\0\1" + data[place + 3 :]
    assert frames_of(numbered) == 1
    after = place + 3 + 30
    assert refusal_of(numbered[:after] + struct.pack(">I", 40) + numbered[after + 4 :]) == "video_corrupt"


def test_packets_of_h265_in_an_flv_that_hold_a_frame_are_counted():
    def hevc(packet, data=b"", kind=1):
        return 9, bytes([kind << 4 | 12, packet, 0, 0, 0]) + data

    assert frames_of(flv(hevc(HEADER, b"\0" * 20), hevc(FRAME, b"x"), hevc(FRAME, b"xy", kind=2), hevc(END))) == 2
    assert refusal_of(flv(hevc(HEADER, b"\0" * 20), hevc(3, b"x"))) == "video_corrupt"
    assert refusal_of(flv(START, hevc(FRAME, b"x"))) == "video_corrupt"


def test_the_newer_header_of_a_tag_names_its_codec_itself():
    """Enhanced RTMP: with the first bit set, four letters follow; how many frames there are is not told."""
    newer = 9, b"\x91hvc1" + bytes(9)
    assert checked(flv(newer, newer, newer)) == (None, (), 0)
    assert refusal_of(flv(newer, avc(FRAME, b"x"))) == refusal_of(flv(START, newer)) == "video_corrupt"


def test_a_header_of_an_ogg_stream_may_follow_anywhere():
    """A page that begins a stream begins its count anew; three pages are headers, behind which none may be missing."""
    assert checked(page(0, flags=FIRST) + page(1) + page(9)) == (None, (), 0)
    assert checked(page(0, flags=FIRST) + page(1) + page(2) + page(9)) == (None, (), 0)
    assert refusal_of(page(0, flags=FIRST) + page(1) + page(2) + page(3) + page(9)) == "video_corrupt"
    assert refusal_of(page(0, flags=FIRST) + page(1) + b"OgsS" + page(2)[4:]) == "video_corrupt"
    for number in (0, 255, 256, 65_535, 65_536, 1 << 24):
        run = page(0, flags=FIRST) + page(1) + page(2) + page(number + 3)
        assert checked(run + page(number + 4)) == (None, (), 0)
        assert refusal_of(run + page(number + 5)) == refusal_of(run + page(number + 3)) == "video_corrupt"


def test_a_walk_ends_with_its_deadline():
    data = page(0, flags=FIRST, size=255) + b"".join(page(number, size=255) for number in range(1, 2000))
    assert checked(data) == (None, (), 0)
    with pytest.raises(InputError) as refusal:
        check_structure(io.BytesIO(data), "it", "audio", Access(deadline=Deadline(1e-6)))
    assert refusal.value.code == "deadline"


def test_the_last_box_of_a_movie_may_be_empty():
    start, movie = box(b"ftyp", b"isom\0\0\0\0"), box(b"moov", b"")
    assert checked(start + movie) == (None, (), 0)
    assert refusal_of(start + movie + movie) == "video_corrupt"
    assert checked(start + movie + movie[:7]) == (None, (), 0)


def test_the_last_tag_of_an_flv_may_be_empty():
    data = flv(START, avc(FRAME, b"x"), (18, b""))
    for missing in (0, 3, 4):
        assert frames_of(data[: len(data) - missing]) == 1
    assert refusal_of(data[:-5]) == "video_truncated"


def test_what_pages_of_an_ogg_say_of_time_is_no_part_of_their_streams_number():
    """RFC 3533, 6: eight bytes before the serial number, all ones where no packet ends."""
    pages = [page(number, flags=FIRST * (not number)) for number in range(9)]
    pages[1::2] = [one[:6] + b"\xff" * 8 + one[14:] for one in pages[1::2]]
    assert checked(b"".join(pages)) == (None, (), 0)
    assert refusal_of(b"".join(pages[:5] + pages[6:])) == "video_corrupt"


def test_a_stream_that_was_looked_through_is_left_at_its_start():
    whole = flv(START, avc(FRAME, b"x"))
    for data in (whole, whole[:-6], flv(START, avc(3, b"x")), b"of no kind" * 9):
        stream = io.BytesIO(data)
        stream.seek(3)
        try:
            assert check_structure(stream, "it")[0] is stream
        except InputError as refusal:
            assert refusal.code in ("video_truncated", "video_corrupt")
        assert stream.tell() == 0
