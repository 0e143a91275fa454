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


@pytest.mark.parametrize("size", [0, 0x7FFF_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_0000, 0xFFFF_FFFF])
def test_a_movie_of_an_avi_whose_size_was_left_open_ends_at_its_index_or_with_the_file(size):
    open_movie = b"LIST" + struct.pack("<I", size) + MOVIE[8:]
    assert checked(avi(open_movie)) == checked(avi(open_movie, index_of(MOVIE))) == (None, (), 6)
    more = chunk(b"RIFF", b"AVIX" + open_movie)
    assert checked(avi(open_movie, index_of(MOVIE), frames=6, total=12) + more) == (None, (), 12)
    assert refusal_of(avi(open_movie, chunk(b"???\0"))) == "video_corrupt"


@pytest.mark.parametrize("size", [1, 3, 9, 301])
def test_the_byte_that_makes_a_size_even_may_be_missing_from_an_avi(size):
    """Some writers forget it: what follows then begins a byte early, in a movie or in front of it."""
    junk = b"JUNK" + struct.pack("<I", size) + b"\1" * size
    data = chunk(b"RIFF", b"AVI " + avi_header() + junk + MOVIE)
    assert checked(data) == (None, (), 6)
    inside = b"LIST" + struct.pack("<I", len(MOVIE) - 8 + len(junk)) + b"movi" + junk + MOVIE[12:]
    assert checked(avi(inside)) == (None, (), 6)
    # Half a chunk less is no byte less.
    assert refusal_of(chunk(b"RIFF", b"AVI " + avi_header() + junk[:-1] + MOVIE)) == "video_corrupt"


def test_what_a_chunk_of_an_avi_ends_with_is_no_name():
    """Digits before a name look like one themselves."""
    movie = listed(b"movi", *(chunk(b"00dc", b"x" * 18 + b"00") for _ in range(6)), chunk(b"ix00", bytes(9)))
    assert checked(avi(movie)) == (None, (), 6)


@pytest.mark.parametrize("kind", [b"avih", b"dmlh", b"strh"])
def test_a_header_of_an_avi_that_is_too_short_promises_nothing(kind):
    """The number of frames lies 16 bytes into the main header, and 32 into that of a stream."""
    place = {b"avih": 16, b"dmlh": 0, b"strh": 32}[kind]
    stream = listed(b"strl", chunk(b"strh", b"vids" + bytes(52)))

    def with_header(content):
        return chunk(b"RIFF", b"AVI " + listed(b"hdrl", chunk(kind, content), stream) + MOVIE)

    start = b"vids" + bytes(28) if kind == b"strh" else bytes(place)
    for promised in (0, 5, 6):
        assert checked(with_header(start + struct.pack("<I", promised)))[0] is None
    assert refusal_of(with_header(start + struct.pack("<I", 7))) == "video_corrupt"
    for length in range(0, place + 4, 2):
        assert checked(with_header((start + b"\7\0\0\0")[:length]))[0] is None, length


def test_each_of_joined_avis_has_the_frames_that_it_promises():
    one = avi(MOVIE, frames=6)
    assert checked(one + avi(MOVIE, frames=6)) == (None, (len(one),), 0)
    assert refusal_of(one + avi(MOVIE, frames=7)) == refusal_of(avi(MOVIE, frames=7) + one) == "video_corrupt"


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


def test_a_number_in_matroska_has_at_most_eight_bytes():
    """RFC 8794, 7.2. What cannot be read is left out: where no number of a track is told, any will do."""
    for length in (1, 2, 7, 8, 9):
        number = element("d7", b"\1".rjust(length, b"\0"))
        tracks = element("1654ae6b", element("ae", number + b"\x83\x81\1"))
        data = EBML + element(SEGMENT, tracks + cluster(block(b"\x81"), block(b"\x83")))
        if length <= 8:
            assert refusal_of(data) == "video_corrupt"
        else:
            assert checked(data)[0] is None


def test_what_an_element_of_matroska_lies_in_is_known():
    """RFC 9559, 5.1: an element that has no place in a segment, or in a cluster, is damage."""
    inside = [element(VOID, b"x" * 5), element("bf", bytes(4)), element("ab", b"\1"), element("a7", b"\1"),
              element("5854", b""), element("af", b"x")]  # fmt: skip
    data = TRACKS + cluster(block(b"\x81"), *inside, block(b"\x81"))
    assert checked(EBML + element(SEGMENT, data)) == (None, (), 2)
    for other in ("ae", "1549a966", "4286", "1f43b675"):
        assert refusal_of(EBML + element(SEGMENT, TRACKS + cluster(block(b"\x81"), element(other, b"x" * 9)))) == (
            "video_corrupt"
        )
    beside = [element(kind, b"") for kind in ("114d9b74", "1549a966", "1c53bb6b", "1043a770", "1941a469", "1254c367")]
    data = b"".join([*beside, TRACKS, cluster(block(b"\x81")), element("bf", bytes(4)), element(VOID, bytes(3))])
    assert checked(EBML + element(SEGMENT, data)) == (None, (), 1)
    for other in ("a3", "e7", "ae", "4286"):
        assert refusal_of(EBML + element(SEGMENT, TRACKS + element(other, b"\x81\0\0\0x"))) == "video_corrupt"


def test_only_segments_and_clusters_of_matroska_may_have_no_size():
    live = element(CLUSTER, b"\xe7\x81\0" + block(b"\x81"), UNKNOWN[8])
    assert checked(EBML + element(SEGMENT, TRACKS + live * 3, UNKNOWN[8])) == (None, (), 3)
    # The next element of a segment ends a cluster; in a cluster, one without a size is damage.
    tags = element("1254c367", b"x")
    assert checked(EBML + element(SEGMENT, TRACKS + live + tags + live, UNKNOWN[8])) == (None, (), 2)
    assert checked(EBML + element(SEGMENT, TRACKS + live + EBML + element(SEGMENT, TRACKS), UNKNOWN[8]))[2] == 0
    for open_one in (element("1254c367", b"", UNKNOWN[8]), element(VOID, b"", UNKNOWN[1])):
        assert refusal_of(EBML + element(SEGMENT, TRACKS + cluster(block(b"\x81")) + open_one)) == "video_corrupt"
    for open_one in (element("a3", b"\x81\0\0\0x", UNKNOWN[1]), element("a0", b"", UNKNOWN[1])):
        assert refusal_of(EBML + element(SEGMENT, TRACKS + cluster(open_one))) == "video_corrupt"


def test_a_group_of_matroska_holds_a_block():
    one = element("a1", b"\x81\0\0\0x")
    for group in (one, element("9b", b"\5") + one, one + element("9b", b"\5") + element("fb", b"\1")):
        assert checked(EBML + element(SEGMENT, TRACKS + cluster(element("a0", group)))) == (None, (), 1)
    for group in (b"", element("9b", b"\5"), element("a1", b"\x83\0\0\0x"), element("9b", b"", UNKNOWN[1]) + one):
        assert refusal_of(EBML + element(SEGMENT, TRACKS + cluster(element("a0", group)))) == "video_corrupt"


def test_what_lies_in_an_element_of_matroska_ends_in_it():
    long_block = cluster(block(b"\x81"))[:4] + b"\x90" + cluster(block(b"\x81"))[5:]
    assert refusal_of(EBML + element(SEGMENT, TRACKS + long_block + cluster(block(b"\x81")))) == "video_corrupt"
    whole = EBML + element(SEGMENT, TRACKS + cluster(block(b"\x81")), UNKNOWN[8])
    assert checked(whole) == (None, (), 1)
    for missing in (1, 20, 33):
        assert refusal_of(whole[:-missing]) == "video_truncated"


def test_a_header_of_an_element_that_is_cut_is_a_cut_file_and_another_is_damage():
    whole = EBML + element(SEGMENT, TRACKS + cluster(block(b"\x81")), UNKNOWN[8])
    for start in (b"\x1f\x43\xb6\x75", b"\x1f\x43\xb6\x75\x01\0\0", b"\x1f\x43\xb6\x75\0"):
        assert refusal_of(whole + start) == "video_truncated"
        assert refusal_of(EBML + element(SEGMENT, TRACKS + start)) == "video_truncated"
    # No size begins with a zero byte, and no id with half of one: RFC 8794, 4.1 and 5.
    for start in (b"\x1f\x43\xb6\x75\0", b"\x0f\x43\xb6\x75\x81", b"\0\x81"):
        assert refusal_of(whole + start + bytes(20)) == "video_corrupt"


def test_a_segment_of_matroska_may_end_with_its_tracks():
    for kind in (1, 2):
        tracks = element("1654ae6b", element("ae", b"\xd7\x81\1\x83\x81" + bytes([kind])))
        assert checked(EBML + element(SEGMENT, tracks)) == (None, (), 0)


def cues(*places):
    points = [element("bb", b"\xb3\x81\0" + element("b7", b"\xf7\x81\1\xf1\x82" + place.to_bytes(2, "big")))
              for place in places]  # fmt: skip
    return element("1c53bb6b", b"".join(points))


def test_an_index_of_matroska_lists_no_cluster_inside_of_something_else():
    """RFC 9559, 5.1.5.1.2.2: places count from the start of the segment's content."""
    first, second = cluster(block(b"\x81")), cluster(block(b"\x81", b"y" * 9))
    tags = element("1254c367", b"x" * 50)
    start = len(TRACKS) + len(cues(0, 0, 0))

    def whole(*places):
        return EBML + element(SEGMENT, TRACKS + cues(*places) + first + tags + second)

    end = start + len(first) + len(tags)
    assert checked(whole(start, end, end)) == (None, (), 2)
    # One that is not there, but not inside of something else either, was left out by who cut the file.
    assert checked(whole(start, end + 1, 60_000)) == (None, (), 2)
    for place in (1, len(TRACKS) - 1, start - 1, start + len(first) + 1, end - 1):
        assert refusal_of(whole(start, place, end)) == "video_corrupt", place


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


def test_tracks_of_a_transport_stream_are_told_by_all_thirteen_bits():
    """ISO/IEC 13818-1, 2.4.3.2: each has a counter of its own."""
    for other in (*(0x100 ^ 1 << bit for bit in range(13) if bit != 8), 0x1FFE):
        mixed = [one for number in range(20) for one in (packet(number, number == 2), packet(3 * number, pid=other))]
        assert checked(transport(*mixed)) == (None, (), 0), other
        starts = [packet(2, start=True, pid=other), packet(4, pid=other)]
        assert refusal_of(transport(*mixed, *starts)) == "video_corrupt"


@pytest.mark.parametrize("field", [b"\0", b"\1\0", b"\1\x7f", b"\7\x10" + bytes(6)])
def test_an_adaptation_field_without_the_flag_of_a_break_announces_none(field):
    """ISO/IEC 13818-1, 2.4.3.4: the first of eight flags behind a length, which may be 0."""
    whole = [packet(number, start=number % 5 == 2) for number in range(12)]
    assert checked(transport(*whole, packet(12, adaptation=field), packet(13))) == (None, (), 0)
    assert refusal_of(transport(*whole, packet(4, adaptation=field), packet(5))) == "video_corrupt"


@pytest.mark.parametrize("length", [0, 1, 7, 100, 176])
def test_a_frame_begins_behind_an_adaptation_field(length):
    """Tracks have 00 00 01 there; what does not is a table, whose packets may be missing."""
    field = bytes([length]) + b"\0" * length
    rest = [packet(number) for number in range(1, 9)]
    for start, track in ((packet(0, start=True, adaptation=field), True), (packet(0, adaptation=field), False)):
        table = transport(start, *rest[:3], *rest[5:])
        if track:
            assert refusal_of(table) == "video_corrupt"
        else:
            assert checked(table) == (None, (), 0)
        assert checked(transport(start, *rest)) == (None, (), 0)


def test_packets_without_a_payload_are_not_counted():
    whole = [packet(number, start=number % 5 == 2) for number in range(12)]
    for number in (0, 5, 15):
        stuffing = b"G" + struct.pack(">HBBB", 0x100, 0x20 | number, 183, 0) + b"\xff" * 182
        assert checked(transport(*whole[:7], stuffing, *whole[7:])) == (None, (), 0)
        assert refusal_of(transport(*whole[:7], stuffing, *whole[8:])) == "video_corrupt"


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
