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


def test_every_byte_of_a_chunks_size_counts_in_an_avi():
    header = chunk(b"LIST", b"hdrl" + stream_header(b"auds"))
    for size in (0, 1, 255, 256, 65_536, 1 << 24):
        assert sniff(b"RIFF\0\0\0\0AVI " + chunk(b"JUNK", bytes(size)) + header) == "audio", size
        assert sniff(b"RIFF\0\0\0\0AVI " + chunk(b"JUNK", bytes(size))) == "video"


@pytest.mark.parametrize("version", [0, 1])
def test_the_number_of_a_track_stands_behind_times_of_32_or_64_bits(version):
    """ISO/IEC 14496-12, 8.3.2: two times, then the number."""
    times = bytes(16 if version else 8)
    for number in (2, 0x0100_0000, 0x0001_0000, 0x0000_0100, 0xFFFF_FFFF):
        header = box(b"tkhd", bytes([version, 0, 0, 0]), times, struct.pack(">I", number), bytes(60))
        pictures = box(b"trak", header, box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(13))))
        for listed, answer in (
            ((number,), "audio"),
            ((9, number), "audio"),
            ((number ^ 1 << 9,), "video"),
            ((), "video"),
        ):
            data = box(b"ftyp", b"isom", bytes(4)) + box(b"moov", track(b"soun", listed, number=1), pictures)
            assert sniff(data) == answer


def test_boxes_of_a_movie_may_have_sizes_of_64_bits_or_reach_to_the_end():
    """ISO/IEC 14496-12, 4.2."""
    start, movie = box(b"ftyp", b"isom", bytes(4)), box(b"moov", track(b"soun", number=1))
    for content in (b"", b"x", bytes(300)):
        large = struct.pack(">I4sQ", 1, b"mdat", len(content) + 16) + content
        assert sniff(start + large + movie) == "audio"
    assert sniff(start + b"\0\0\0\0moov" + movie[8:]) == "audio"
    assert sniff(start + b"\0\0\0\0free" + movie) == "video"
    # A size that has no room for itself ends the walk: what is behind is not looked at.
    for size in range(2, 8):
        assert sniff(start + struct.pack(">I4s", size, b"free") + movie) == "video"
    for size in (8, 15):
        assert sniff(start + struct.pack(">I4sQ", 1, b"free", size) + movie) == "video"


@pytest.mark.parametrize("brand", [b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ", b"isom", b"M4V ", b"F4V "])
def test_the_brand_decides_where_there_is_no_movie_header(brand):
    answer = "audio" if brand[:3] in (b"M4A", b"M4B", b"M4P", b"F4A", b"F4B") else "video"
    start = box(b"ftyp", brand, bytes(4))
    assert sniff(start + box(b"mdat", bytes(99))) == sniff(start + box(b"moof", bytes(20))) == answer
    assert sniff(box(b"free", brand) + box(b"mdat", bytes(99))) == "video"


def test_a_compressed_movie_header_is_that_of_a_video():
    """QuickTime: what tracks there are cannot be seen, and audio alone is not written so."""
    assert sniff(box(b"moov", box(b"cmov", bytes(40)))) == "video"
    assert sniff(box(b"moov", box(b"mvhd", bytes(40)))) == "audio"


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_number_in_matroska_may_have_leading_zeros(width):
    """RFC 8794, 7.2."""
    for kind, answer in ((VIDEO, "video"), (AUDIO, "audio"), (17, "audio")):
        entry = element("d7", b"\1") + element("83", kind.to_bytes(width, "big"))
        assert sniff(EBML + element(SEGMENT, element(TRACKS, element(TRACK, entry)))) == answer
        # A length may take more bytes than it needs.
        long_size = (1 << 7 * width | len(entry)).to_bytes(width, "big")
        made = element(TRACKS, element(TRACK, entry, long_size))
        assert sniff(EBML + element(SEGMENT, made)) == answer


def test_what_in_matroska_is_named_like_a_type_but_lies_elsewhere_is_none():
    audio = element(TRACK, b"\xd7\x81\1\x83\x81\2")
    assert sniff(EBML + element(SEGMENT, element(TRACKS, audio + element(VOID, b"\x83\x81\1")))) == "audio"
    inside = element(TRACK, element("e1", b"\x83\x81\1") + b"\x83\x81\2")
    assert sniff(EBML + element(SEGMENT, element(TRACKS, inside))) == "audio"
    behind = element(TRACKS, audio) + element(TRACK, b"\x83\x81\1")
    assert sniff(EBML + element(SEGMENT, behind)) == "audio"


STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
EXTENDED = bytes.fromhex("cba5e61472c632438399a96952065b5a")
OTHER = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
KINDS = {
    "audio": bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b"),
    "video": bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b"),
}


def asf_object(name, content):
    return name + struct.pack("<Q", len(content) + 24) + content


def asf(*objects, size=None):
    content = b"".join(objects)
    size = len(content) + 30 if size is None else size
    return bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIH", size, len(objects), 0x201) + content


def asf_stream(kind):
    return asf_object(STREAM, KINDS[kind] + bytes(38))


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_streams_of_an_asf_are_described_in_its_header_or_in_the_extension_of_it(kind):
    """ASF specification, 3.3, 3.4 and 4.1: an extended description may hold the plain one at its end."""
    plain, other = asf_stream(kind), asf_object(OTHER, bytes(80))
    assert sniff(asf(plain)) == sniff(asf(other, asf_stream("audio"), plain)) == kind
    extended = asf_object(EXTENDED, bytes(64) + plain)
    for inner in (extended, other + extended, asf_object(EXTENDED, bytes(64)) + extended, plain):
        extension = asf_object(EXTENSION, bytes(18) + struct.pack("<I", len(inner)) + inner)
        assert sniff(asf(extension)) == sniff(asf(extension, asf_stream("audio"))) == kind
        assert sniff(asf(asf_stream("audio"), extension)) == kind
    # Behind the header are data, whatever they look like, and an object that has no room for itself ends it.
    assert sniff(asf(asf_stream("audio")) + asf_stream(kind)) == "audio"
    broken = OTHER + struct.pack("<Q", 23)
    assert sniff(asf(asf_stream("audio"), broken, asf_stream(kind))) == "audio"
    assert sniff(asf(asf_stream("audio"), OTHER + struct.pack("<Q", 24), asf_stream(kind))) == kind
