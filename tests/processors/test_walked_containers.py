"""Containers walked piece by piece: AVI against its index and headers, Matroska block by block, transport packets."""

import io
import struct

import pytest

from processors import InputError
from processors.decode.container.structure import check_structure


def checked(data):
    """What FFmpeg is to read (None: all of it), joints, and how many frames there are at least."""
    stream = io.BytesIO(data)
    read, joints, frames = check_structure(stream, "it")
    return None if read is stream else read.read(), joints, frames


def refusal_of(data):
    with pytest.raises(InputError) as refusal:
        check_structure(io.BytesIO(data), "it")
    return refusal.value.code


# --- AVI -------------------------------------------------------------------------------------------------------------


def chunk(kind, content=b""):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def listed(form, *parts):
    return chunk(b"LIST", form + b"".join(parts))


def avi_header(frames=0, total=None, kinds=(b"vids",)):
    """The main header's number of frames, that of the whole extended file, and a header for each stream."""
    main = chunk(b"avih", bytes(16) + struct.pack("<I", frames) + bytes(36))
    streams = [listed(b"strl", chunk(b"strh", kind + bytes(52)), chunk(b"strf", bytes(40))) for kind in kinds]
    extended = [] if total is None else [listed(b"odml", chunk(b"dmlh", struct.pack("<I", total)))]
    return listed(b"hdrl", main, *streams, *extended)


def index_of(movi, places=None, shift=0):
    """An entry for each chunk of a movie list: its name, a flag, its place from the list's name on, its size."""
    entries, place = [], 4
    while place < len(movi) - 8:
        kind, size = struct.unpack_from("<4sI", movi, 8 + place)
        if kind == b"LIST":
            place += 12
            continue
        entries.append(struct.pack("<4sIII", kind, 16, place + shift, size))
        place += 8 + size + size % 2
    return chunk(b"idx1", b"".join(entries[:places]))


def avi(movi, index=b"", frames=0, **header):
    return chunk(b"RIFF", b"AVI " + avi_header(frames, **header) + movi + index)


FRAMES = [chunk(b"00dc", b"x" * (20 + number)) for number in range(6)]
MOVIE = listed(b"movi", *FRAMES)


def test_an_avi_whose_index_lists_every_chunk_is_read_as_it_is():
    """Places count from the list's name on, or from the start of the file; any that all are shifted alike."""
    for shift in (0, 200, 4096):
        assert checked(avi(MOVIE, index_of(MOVIE, shift=shift))) == (None, (), 6)
    assert checked(avi(MOVIE)) == (None, (), 6)


def test_an_index_of_an_avi_that_lacks_chunks_is_left_out():
    for index in (index_of(MOVIE, 5), index_of(MOVIE, 1), chunk(b"idx1", bytes(16))):
        data = avi(MOVIE, index)
        read, joints, frames = checked(data)
        assert read == data[: -len(index)] and joints == () and frames == 6


def test_the_index_of_an_extended_avi_lists_its_first_part_alone():
    more = chunk(b"RIFF", b"AVIX" + listed(b"movi", *FRAMES))
    whole = avi(MOVIE, index_of(MOVIE), frames=6, total=12) + more
    assert checked(whole) == (None, (), 12)
    # Without the extended header it is an index that lacks half of the chunks.
    plain = avi(MOVIE, index_of(MOVIE), frames=6) + more
    read, _, frames = checked(plain)
    assert frames == 12 and read is not None and len(read) == len(plain) - len(index_of(MOVIE))


def test_an_avi_has_no_fewer_frames_than_it_promises():
    for promised in (0, 5, 6):
        assert checked(avi(MOVIE, frames=promised)) == (None, (), 6)
    assert refusal_of(avi(MOVIE, frames=7)) == "video_corrupt"
    # Both parts of an extended file count.
    more = chunk(b"RIFF", b"AVIX" + listed(b"movi", *FRAMES))
    assert checked(avi(MOVIE, frames=6, total=12) + more) == (None, (), 12)
    assert refusal_of(avi(MOVIE, frames=6, total=13) + more) == "video_corrupt"
    # An index of every chunk is right, whatever the header says; one of more chunks than there are is not.
    assert checked(avi(MOVIE, index_of(MOVIE), frames=7)) == (None, (), 6)
    longer = index_of(listed(b"movi", *FRAMES, FRAMES[0]))
    assert refusal_of(avi(MOVIE, longer, frames=7)) == "video_corrupt"


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_an_empty_chunk_of_an_avi_repeats_a_frame_and_any_other_is_one(size):
    movie = listed(b"movi", *FRAMES, chunk(b"00dc", b"x" * size))
    assert checked(avi(movie, frames=7)) == (None, (), 7 if size else 6)


def test_chunks_of_an_avi_may_lie_in_lists_of_records():
    """Interleaved files have a list "rec " for the chunks of one moment; sizes may look like letters of a name."""
    audio, frames = chunk(b"01wb", b"y" * 33), [chunk(b"00dc", b"x" * size) for size in range(44, 124)]
    movie = listed(b"movi", *(listed(b"rec ", frame, audio) for frame in frames))
    assert checked(avi(movie, index_of(movie), kinds=(b"vids", b"auds"))) == (None, (), 80)
    assert checked(avi(movie, kinds=(b"auds", b"vids")))[2] == 0
    assert refusal_of(avi(movie)) == "video_corrupt"  # the second stream has no header


# --- Matroska --------------------------------------------------------------------------------------------------------


def element(kind, content, size=None):
    if size is None:
        width = next(width for width in range(1, 9) if len(content) < (1 << 7 * width) - 1)
        size = (1 << 7 * width | len(content)).to_bytes(width, "big")
    return bytes.fromhex(kind) + size + content


EBML, SEGMENT, CLUSTER, VOID = element("1a45dfa3", b""), "18538067", "1f43b675", "ec"
UNKNOWN = {1: b"\xff", 4: b"\x1f\xff\xff\xff", 8: b"\1" + b"\xff" * 7}
TRACKS = element(
    "1654ae6b", element("ae", b"\xd7\x81\1\x83\x81\1") + element("ae", b"\xd7\x81\2\x83\x81\2")
)  # 1 is video, 2 is audio


def block(track, content=b"x" * 30):
    """A track's number, two bytes of time, and flags."""
    return element("a3", track + b"\0\0\x80" + content)


def cluster(*blocks):
    return element(CLUSTER, b"\xe7\x81\0" + b"".join(blocks))


def test_blocks_of_the_video_track_that_are_not_empty_are_counted():
    first, second = b"\x81", b"\x82"
    blocks = [block(first), block(second), block(first, b"x"), block(first, b""), element("a0", b"\xa1\x85\x81\0\0\0x")]
    assert checked(EBML + element(SEGMENT, TRACKS + cluster(*blocks))) == (None, (), 3)
    assert checked(EBML + element(SEGMENT, TRACKS + cluster(block(second)))) == (None, (), 0)


@pytest.mark.parametrize("tracks", [TRACKS, b""])
def test_a_block_begins_with_the_number_of_a_track(tracks):
    """A variable number of at most eight bytes, which the tracks list where they stand before the clusters."""
    for number in (b"\x81", b"\x40\1", b"\x20\0\1", b"\1\0\0\0\0\0\0\1", b"\x82"):
        assert checked(EBML + element(SEGMENT, tracks + cluster(block(number))))[0] is None
    assert refusal_of(EBML + element(SEGMENT, tracks + cluster(block(b"\0")))) == "video_corrupt"
    other = EBML + element(SEGMENT, tracks + cluster(block(b"\x83")))
    if tracks:
        assert refusal_of(other) == "video_corrupt"
    else:
        assert checked(other)[0] is None


def test_what_follows_a_segment_is_no_damage_and_what_comes_before_is():
    segment, other = element(SEGMENT, TRACKS + cluster(block(b"\x81"))), element("4286", b"x")
    for behind in (b"", element(VOID, bytes(9)), other, b"\0" * 9, b"\xff"):
        assert checked(EBML + segment + behind) == (None, (), 1)
    assert checked(EBML + element(VOID, bytes(9)) + segment) == (None, (), 1)
    assert refusal_of(EBML + other + segment) == "video_corrupt"


def test_a_segment_is_as_long_as_it_says():
    data = EBML + element(SEGMENT, TRACKS + cluster(block(b"\x81")))
    assert checked(data) == (None, (), 1)
    assert refusal_of(data[:-1]) == "video_truncated"


@pytest.mark.parametrize("width", [1, 4, 8])
def test_joined_files_of_matroska_are_read_as_one_segment_of_unknown_size(width):
    """All ones behind the bits of the length: RFC 8794, 4.2."""
    content, parts = TRACKS + cluster(block(b"\x81")), [cluster(block(b"\x81", b"y")), cluster(block(b"\x82"))]
    size = (1 << 7 * width | len(content)).to_bytes(width, "big")
    one, two = EBML + element(SEGMENT, content, size), EBML + element(SEGMENT, TRACKS + b"".join(parts))
    read, joints, frames = checked(one + two)
    assert joints == (len(one),) and frames == 0
    assert read == EBML + element(SEGMENT, content, UNKNOWN[width]) + b"".join(parts)


# --- transport streams -----------------------------------------------------------------------------------------------


def packet(number, start=False, pid=0x100, adaptation=b""):
    """A packet with its counter; one that starts a frame begins with 00 00 01."""
    flags = 0x30 if adaptation else 0x10
    content = adaptation + (b"\0\0\1\xe0\0\0" if start else b"")
    return b"G" + struct.pack(">HB", start << 14 | pid, flags | number & 15) + content + b"\xff" * (184 - len(content))


BREAK = b"\1\x80"  # an adaptation field that announces a break


def transport(*packets, size=188):
    """Packets of 188 bytes, behind a time stamp in 192, before a checksum in 204."""
    before = 4 if size == 192 else 0
    return b"".join(bytes(before) + one + bytes(size - 188 - before) for one in packets)


@pytest.mark.parametrize("size", [188, 192, 204])
def test_a_counter_of_a_track_goes_on_from_where_it_begins(size):
    for first in (0, 1, 2, 9, 15):
        numbers = range(first, first + 30)
        whole = [packet(number, start=place % 5 == 2) for place, number in enumerate(numbers)]
        assert checked(transport(*whole, size=size)) == (None, (), 0)
        # A packet may be sent twice.
        assert checked(transport(*whole[:9], whole[8], *whole[9:], size=size)) == (None, (), 0)
        assert refusal_of(transport(*whole[:9], *whole[10:], size=size)) == "video_corrupt"


@pytest.mark.parametrize("size", [188, 192, 204])
def test_a_counter_may_jump_where_a_frame_starts_or_a_break_is_announced(size):
    whole = [packet(number, start=number % 5 == 2) for number in range(12)]
    rest = [packet(number) for number in range(5, 16)]
    for between in (packet(4, start=True), packet(4, adaptation=BREAK)):
        assert checked(transport(*whole, between, *rest, size=size)) == (None, (), 0)
    assert refusal_of(transport(*whole, packet(4), *rest, size=size)) == "video_corrupt"
    # Tables may be thinned out, and packets of nothing have no counter.
    tables = [packet(number * 3, pid=pid) for number in range(4) for pid in (0x20, 0x1FFF)]
    assert checked(transport(*whole, *tables, size=size)) == (None, (), 0)


@pytest.mark.parametrize("size", [188, 192, 204])
def test_what_follows_a_transport_stream_is_no_damage(size):
    """Less than two packets of other bytes; a sync byte that is missing earlier is a hole."""
    whole = [packet(number, start=number % 5 == 2) for number in range(30)]
    data = transport(*whole, size=size)
    for behind in (b"", b"x", b"x" * (size - 1), b"x" * size, b"x" * (2 * size - 1)):
        assert checked(data + behind) == (None, (), 0)
    for place in (21, 27):
        broken = data[: place * size] + b"x" * size + data[(place + 1) * size :]
        assert refusal_of(broken) == "video_corrupt"
    assert refusal_of(data + b"x" * size * 3) == "video_corrupt"
