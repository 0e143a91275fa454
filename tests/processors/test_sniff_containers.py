"""Whether a container holds video: what counts is where the format has the headers of its tracks, and nothing else."""

import struct

import pytest

from processors import sniff


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + kind + content


def element(kind, content, size=None):
    """An EBML element; of a length that takes as few bytes as it can."""
    if size is None:
        width = next(width for width in range(1, 9) if len(content) < (1 << 7 * width) - 1)
        size = (1 << 7 * width | len(content)).to_bytes(width, "big")
    return bytes.fromhex(kind) + size + content


EBML, UNKNOWN = element("1a45dfa3", b""), b"\xff"
SEGMENT, CLUSTER, TRACKS, TRACK, VOID = "18538067", "1f43b675", "1654ae6b", "ae", "ec"


def tracks(*types):
    entries = [element(TRACK, b"\xd7\x81" + bytes([n]) + b"\x83\x81" + bytes([t])) for n, t in enumerate(types, 1)]
    return element(TRACKS, b"".join(entries))


AUDIO, VIDEO = 2, 1


@pytest.mark.parametrize(("types", "kind"), [([AUDIO], "audio"), ([AUDIO, VIDEO], "video")])
def test_tracks_of_matroska_may_stand_behind_clusters(types, kind):
    """RFC 9559, 6: all but the order of the EBML header and the segment is a recommendation."""
    cluster = element(CLUSTER, b"\xe7\x81\0" + element("a3", b"\x81\0\0\x80" + bytes(300)))
    assert sniff(EBML + element(SEGMENT, cluster * 3 + tracks(*types))) == kind


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 16_382])
def test_elements_of_any_size_may_stand_before_the_tracks_of_matroska(size):
    """126 and 16,382 are the largest sizes of one and two bytes: one more, all ones, is no size."""
    longest = {126: b"\xfe", 16_382: b"\x7f\xfe"}.get(size)
    assert sniff(EBML + element(SEGMENT, element(VOID, bytes(size), longest) + tracks(AUDIO))) == "audio"


@pytest.mark.parametrize("place", [0, 127, 128])
def test_what_lies_in_a_cluster_of_unknown_size_is_no_track(place):
    """A live stream does not say how long its clusters are: the rest of the file is its blocks."""
    live = EBML + element(SEGMENT, b"", UNKNOWN) + element(CLUSTER, bytes(place) + tracks(AUDIO) + bytes(99), UNKNOWN)
    assert sniff(live) == "video"


def track(handler, chapters=(), number=None):
    """A track; without a header where it has no number."""
    header = [] if number is None else [box(b"tkhd", bytes(12), struct.pack(">I", number), bytes(68))]
    refers = [box(b"tref", box(b"chap", struct.pack(f">{len(chapters)}I", *chapters)))]
    return box(b"trak", *header, *refers, box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(13))))


@pytest.mark.parametrize("place", range(3))
def test_only_tracks_that_have_a_number_can_be_chapters(place):
    """A number takes 32 bits: whatever numbers a movie lists, they name no track that has none."""
    listed = [0, 1, 2, *(1 << bit | number for bit in (8, 16, 24, 31) for number in range(4)), 0xFFFF_FFFF]
    boxes = [track(b"soun", listed, number=9), box(b"udta"), box(b"udta")]
    boxes.insert(place, track(b"vide"))
    assert sniff(box(b"ftyp", b"isom", bytes(4)) + box(b"moov", *boxes)) == "video"
    boxes[place] = track(b"vide", number=2)
    assert sniff(box(b"ftyp", b"isom", bytes(4)) + box(b"moov", *boxes)) == "audio"


def chunk(kind, content):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def stream_header(kind):
    return chunk(b"LIST", b"strl" + chunk(b"strh", kind + bytes(52)) + chunk(b"strf", bytes(16)))


@pytest.mark.parametrize(("kind", "answer"), [(b"auds", "audio"), (b"vids", "video"), (b"iavs", "video")])
def test_headers_of_streams_stand_before_the_movie_of_an_avi(kind, answer):
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + stream_header(kind))
    movie = chunk(b"LIST", b"movi" + chunk(b"00wb", bytes(301)))
    for behind in (b"", stream_header(b"vids" if answer == "audio" else b"auds")):
        assert sniff(chunk(b"RIFF", b"AVI " + header + movie + behind)) == answer


def real_chunk(kind, content):
    return kind + struct.pack(">IH", len(content) + 10, 0) + content


@pytest.mark.parametrize(("kind", "answer"), [(b"audio/", "audio"), (b"video/", "video")])
def test_descriptions_of_streams_stand_before_the_data_of_a_real_media(kind, answer):
    def description(kind):
        return real_chunk(b"MDPR", bytes(30) + b"\5track\x14" + kind + b"x-pn-realmedia" + bytes(4))

    header = real_chunk(b".RMF", bytes(8)) + real_chunk(b"PROP", bytes(40)) + description(kind)
    data = real_chunk(b"DATA", bytes(400))
    for behind in (b"", real_chunk(b"INDX", bytes(10)), description(b"video/" if answer == "audio" else b"audio/")):
        assert sniff(header + data + behind) == answer
