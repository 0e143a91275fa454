"""Streams of packets: what their tables, tags and first frames say of the medium, as the formats' standards have it."""

import io
import struct

import pytest

from processors import InputError, sniff
from processors.io.byte_window import ByteWindow
from processors.io.sniff_streams import is_elementary_video, transport_packets

# Stream types of a program map table: ISO/IEC 13818-1, table 2-34; ATSC A/53 and A/52; SMPTE RP 227; AVS; and those
# of encrypted samples in HTTP Live Streaming.
VIDEO_TYPES = {
    "MPEG-1": 0x01, "MPEG-2": 0x02, "MPEG-4": 0x10, "H.264": 0x1B, "SVC": 0x1F, "MVC": 0x20, "JPEG 2000": 0x21,
    "H.265": 0x24, "H.266": 0x33, "AVS": 0x42, "Dirac": 0xD1, "AVS2": 0xD2, "AVS3": 0xD4, "H.264 encrypted": 0xDB,
    "VC-1": 0xEA,
}  # fmt: skip
AUDIO_TYPES = {
    "MPEG-1": 0x03, "MPEG-2": 0x04, "AAC in ADTS": 0x0F, "AAC in LATM": 0x11, "MPEG-H": 0x2D, "AC-3": 0x81,
    "DTS": 0x82, "TrueHD": 0x83, "E-AC-3": 0x87, "AC-3 encrypted": 0xC1, "E-AC-3 encrypted": 0xC2,
    "AAC encrypted": 0xCF,
}  # fmt: skip
PRIVATE_DATA = 0x06


def packet(pid, payload, start=True):
    head = b"G" + struct.pack(">HB", start << 14 | pid, 0x10)
    return head + payload + b"\xff" * (184 - len(payload))


def table(kind, body):
    """A section with a pointer before it and a checksum of zeros behind it."""
    return b"\0" + struct.pack(">BH", kind, 0xB000 | len(body) + 9) + b"\0\1\xc1\0\0" + body + bytes(4)


def transport_stream(types=(), packets=(), map_pid=0x1FF0):
    """Tables that name streams of these types, packets, and packets of nothing to the end."""
    made = []
    if types:
        streams = b"".join(struct.pack(">BHH", kind, 0xE100 + at, 0xF000) for at, kind in enumerate(types))
        made.append(packet(0, table(0, struct.pack(">HH", 1, 0xE000 | map_pid))))
        made.append(packet(map_pid, table(2, b"\xe1\0\xf0\0" + streams)))
    return b"".join([*made, *packets, *[packet(0x1FFF, b"")] * 6])


@pytest.mark.parametrize("map_pid", [0x0010, 0x0100, 0x1FF0])
def test_a_table_of_audio_alone_is_audio_wherever_it_stands(map_pid):
    for name, kind in AUDIO_TYPES.items():
        assert sniff(transport_stream([kind], map_pid=map_pid)) == "audio", name


def test_the_last_packet_counts_as_well():
    assert sniff(transport_stream([AUDIO_TYPES["AAC in ADTS"]])[: 2 * 188]) == "audio"


def test_a_table_that_names_any_video_beside_audio_is_a_video():
    for name, kind in VIDEO_TYPES.items():
        assert sniff(transport_stream([AUDIO_TYPES["AAC in ADTS"], kind])) == "video", name
    assert sniff(transport_stream([AUDIO_TYPES["AAC in ADTS"], PRIVATE_DATA])) == "audio"


def test_packets_count_where_no_table_is_there():
    audio, video = packet(0x101, b"\0\0\1\xc0\0\0"), packet(0x102, b"\0\0\1\xe0\0\0")
    assert sniff(transport_stream(packets=[audio])) == "audio"
    assert sniff(transport_stream(packets=[audio, video])) == sniff(transport_stream(packets=[video])) == "video"
    # Neither is known: more transport streams are video.
    assert sniff(transport_stream(packets=[packet(0x101, b"nothing")])) == "video"


@pytest.mark.parametrize("size", [188, 192, 204])
def test_a_sync_byte_stands_at_the_start_of_five_packets_in_turn(size):
    def layout(syncs, packets, before=0):
        data = bytes(before) + (b"G" + bytes(size - 1)) * syncs + bytes(size) * (packets - syncs)
        return transport_packets(ByteWindow(io.BytesIO(data)))

    assert layout(5, 9) == (0, size) and layout(5, 9, before=100) == (100, size)
    assert layout(4, 9) is None and layout(4, 9, before=100) is None
    # Or of all of a shorter file.
    assert layout(4, 4) == layout(2, 2) == (0, size)
    assert layout(3, 4) is layout(1, 1) is None


def flv(flags, *tags):
    made = b"FLV\x01" + bytes([flags]) + struct.pack(">II", 9, 0)
    for kind, size in tags:
        made += bytes([kind]) + size.to_bytes(3, "big") + bytes(7 + size) + struct.pack(">I", size + 11)
    return made


SCRIPT, AUDIO_TAG, VIDEO_TAG = 18, 8, 9
HAS_AUDIO, HAS_VIDEO = 4, 1


def test_tags_of_an_flv_count_before_the_flags_of_its_header():
    for flags in (0, HAS_AUDIO, HAS_VIDEO, HAS_AUDIO | HAS_VIDEO):
        assert sniff(flv(flags, (SCRIPT, 300), (AUDIO_TAG, 2), (AUDIO_TAG, 500))) == "audio"
        assert sniff(flv(flags, (SCRIPT, 300), (AUDIO_TAG, 2), (AUDIO_TAG, 500), (VIDEO_TAG, 5))) == "video"
    assert sniff(flv(HAS_AUDIO, (SCRIPT, 300))) == "audio"
    assert sniff(flv(HAS_AUDIO | HAS_VIDEO, (SCRIPT, 300))) == sniff(flv(0, (SCRIPT, 300))) == "video"


def test_the_header_of_an_flv_tells_where_its_tags_begin():
    plain = flv(HAS_AUDIO | HAS_VIDEO, (AUDIO_TAG, 500))
    assert sniff(plain[:5] + struct.pack(">I", 13) + bytes(4) + plain[9:]) == "audio"


def test_units_that_begin_a_stream_of_video():
    """ISO/IEC 13818-2 and 14496-2: sequence headers; H.264 and H.265, table 7-1: parameter sets, delimiters, SEI."""
    start = b"\0\0\0\1"
    for unit in (b"\xb3\x14", b"\xb0\x01", b"\xb5\x89", b"\x67\x64", b"\x09\xf0", b"\x06\x05"):
        assert is_elementary_video(start + unit) and is_elementary_video(start[1:] + unit)
    for unit in (b"\x40\x01", b"\x42\x01", b"\x44\x01", b"\x4e\x01"):
        assert is_elementary_video(start + unit) and not is_elementary_video(start + unit[:1] + b"\2")
    # A forbidden bit, a slice, an end; and too few bytes.
    for unit in (b"\xe7\x64", b"\xc0\x01", b"\x65\x88", b"\x0a\x00"):
        assert not is_elementary_video(start + unit)
    assert not is_elementary_video(start + b"\x67") and not is_elementary_video(b"\2\x67\x64")


def id3(version=4, payload=b""):
    size = bytes(len(payload) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + size + payload


def test_a_version_of_255_is_no_tag():
    """ID3v2.4, 3.1: a tag begins with "ID3", two bytes below 255, flags and four bytes below 128."""
    for version in (2, 3, 4, 0xFE):
        assert sniff(id3(version, b"x" * 20) + b"damaged") == "audio"
    for other in (id3(0xFF), b"ID3\4\0\0\0\0\x80\0", b"ID3\4\0\0\0\0\0"):
        with pytest.raises(InputError) as refusal:
            sniff(other)
        assert refusal.value.code == "media_unknown"


@pytest.mark.parametrize("count", [1, 7, 8])
def test_what_is_damaged_behind_tags_was_audio(count):
    assert sniff(id3(payload=b"x" * 20) * count + b"damaged") == "audio"


# Types beside those above: auxiliary, stereoscopic and layered video; AAC without a transport, and what discs have.
@pytest.mark.parametrize("kind", [0x1E, 0x22, 0x23, 0x25, 0x27, 0x31])
def test_further_kinds_of_video_are_video(kind):
    assert sniff(transport_stream([AUDIO_TYPES["AAC in ADTS"], kind])) == "video"


@pytest.mark.parametrize("kind", [0x1C, 0x2E, 0x80, 0x84, 0x85, 0x86, 0x88, 0xA1, 0xA2])
def test_further_kinds_of_audio_are_audio(kind):
    assert sniff(transport_stream([kind])) == "audio"


@pytest.mark.parametrize("kind", [0x05, 0x0B, 0x15, 0x7F, 0x89, 0xA0, 0xFF])
def test_data_beside_audio_are_no_video_and_alone_no_audio(kind):
    assert sniff(transport_stream([AUDIO_TYPES["AAC in ADTS"], kind])) == "audio"
    assert sniff(transport_stream([kind])) == "video"


def map_of(*streams, about=b""):
    """A program map: descriptors of the program, and of each stream its type and its descriptors."""
    body = struct.pack(">HH", 0xE100, 0xF000 | len(about)) + about
    for kind, descriptors in streams:
        body += struct.pack(">BHH", kind, 0xE101, 0xF000 | len(descriptors)) + descriptors
    return table(2, body)


def programs(*numbered):
    return table(0, b"".join(struct.pack(">HH", number, 0xE000 | pid) for number, pid in numbered))


def followed(*packets):
    return b"".join([*packets, *[packet(0x1FFF, b"")] * 6])


def registration(name):
    return b"\5\4" + name


@pytest.mark.parametrize(
    ("descriptors", "answer"),
    [
        (registration(b"Opus"), "audio"),
        (registration(b"AC-3"), "audio"),
        (registration(b"EAC3"), "audio"),
        (registration(b"DTS1"), "audio"),
        (b"\x6a\1\0", "audio"),
        (b"\x7a\1\0", "audio"),
        (b"\x7b\1\0", "audio"),
        (registration(b"HEVC"), "video"),
        (registration(b"AV01"), "video"),
        (registration(b"VC-1"), "video"),
        (registration(b"AVSV"), "video"),
        (registration(b"drac"), "video"),
        (registration(b"VVC "), "video"),
    ],
)
def test_descriptors_tell_what_private_data_are(descriptors, answer):
    """ETSI EN 300 468, annex D, and the registrations of SMPTE: of audio where they stand alone, of video always."""
    private = (PRIVATE_DATA, descriptors)
    others = [map_of(private), map_of((AUDIO_TYPES["AC-3"], b"\x0a\4eng\0"), private, (0x05, b""))]
    for made in others:
        assert sniff(followed(packet(0, programs((1, 0x100))), packet(0x100, made))) == answer
    # Subtitles are neither.
    subtitles = map_of((PRIVATE_DATA, b"\x59\1\0"))
    assert sniff(followed(packet(0, programs((1, 0x100))), packet(0x100, subtitles))) == "video"


@pytest.mark.parametrize("about", [b"", registration(b"HDMV"), registration(b"CUEI") + b"\x1b\2\x1b\x1b"])
def test_streams_of_a_map_stand_behind_the_descriptors_of_its_program(about):
    audio, video = (AUDIO_TYPES["AC-3"], b""), (VIDEO_TYPES["H.264"], b"")
    assert sniff(followed(packet(0, programs((1, 0x100))), packet(0x100, map_of(audio, about=about)))) == "audio"
    late = map_of(audio, audio, video, about=about)
    assert sniff(followed(packet(0, programs((1, 0x100))), packet(0x100, late))) == "video"


def test_every_program_has_its_map_and_what_has_number_0_is_none():
    """ISO/IEC 13818-1, 2.4.4.3: program 0 is the network's own table."""
    audio, video = map_of((AUDIO_TYPES["AC-3"], b"")), map_of((VIDEO_TYPES["H.264"], b""))
    listed = packet(0, programs((1, 0x100), (2, 0x1A55)))
    assert sniff(followed(listed, packet(0x100, audio), packet(0x1A55, video))) == "video"
    listed = packet(0, programs((0, 0x1A55), (256, 0x100)))
    assert sniff(followed(listed, packet(0x100, audio), packet(0x1A55, video))) == "audio"
    # A table that is not on its way yet, or is of another kind, says nothing.
    assert sniff(followed(packet(0x1A55, video), listed, packet(0x100, audio))) == "audio"
    other = packet(0, table(1, struct.pack(">HH", 1, 0xE1A5)))
    assert sniff(followed(other, packet(0x1A5, audio))) == "video"


def test_a_section_begins_where_its_pointer_says_and_behind_the_adaptation_field():
    audio = map_of((AUDIO_TYPES["AC-3"], b""))
    listed = packet(0, programs((1, 0x100)))
    for rest in (0, 1, 5):
        moved = bytes([rest]) + b"\2" * rest + audio[1:]
        assert sniff(followed(listed, packet(0x100, moved))) == "audio"
    for length in (0, 1, 7):
        field = bytes([length]) + b"\0" * length
        head = b"G" + struct.pack(">HB", 0x4100, 0x30) + field
        assert sniff(followed(listed, head + audio + b"\xff" * (188 - len(head) - len(audio)))) == "audio"
    # Without a payload, and in the middle of a section, there is none.
    for start, flags in ((0x4100, 0x20), (0x0100, 0x10)):
        head = b"G" + struct.pack(">HB", start, flags) + (b"\0" if flags == 0x20 else b"")
        data = followed(listed, head + audio + b"\xff" * (188 - len(head) - len(audio)))
        assert sniff(data) == "video"


def test_names_of_packets_without_tables():
    """ISO/IEC 13818-1, table 2-22: audio is 110x xxxx, video 1110 xxxx."""
    for name in range(0xBC, 0x100):
        made = transport_stream(packets=[packet(0x101, b"\0\0\1" + bytes([name, 0, 0]))])
        assert sniff(made) == ("audio" if 0xC0 <= name <= 0xDF else "video"), hex(name)
        beside = packet(0x102, b"\0\0\1\xc0\0\0")
        made = transport_stream(packets=[beside, packet(0x101, b"\0\0\1" + bytes([name, 0, 0]))])
        assert sniff(made) == ("video" if 0xE0 <= name <= 0xEF else "audio"), hex(name)


def pack(second=True, stuffing=0):
    """The header of a pack: ISO/IEC 13818-1, 2.5.3.3; that of MPEG-1 is two bytes shorter."""
    if second:
        return b"\0\0\1\xba\x44" + bytes(8) + bytes([0xF8 | stuffing]) + b"\xff" * stuffing
    return b"\0\0\1\xba\x21" + bytes(7)


def pes(name, size=20):
    return b"\0\0\1" + bytes([name]) + struct.pack(">H", size) + bytes(size)


SYSTEM, PADDING, NAVIGATION, END = 0xBB, 0xBE, 0xBF, b"\0\0\1\xb9"


@pytest.mark.parametrize("start", [pack(), pack(stuffing=1), pack(stuffing=7), pack(second=False)])
def test_names_of_packets_of_a_program_stream(start):
    before = pes(SYSTEM, 300) + pes(PADDING, 1)
    for name in range(0xBC, 0x100):
        alone, beside = start + before + pes(name), start + pes(0xC0) + start + before + pes(name)
        video, audio = 0xE0 <= name <= 0xEF or name == 0xFD, 0xC0 <= name <= 0xDF or name == 0xBD
        assert sniff(alone + start) == ("audio" if audio else "video"), hex(name)
        assert sniff(beside + start) == ("video" if video else "audio"), hex(name)


def test_a_program_stream_ends_where_it_says_or_is_damaged():
    for end in (END, b"\1\0\1\xe0", b"\0\1\1\xe0", b"\0\0\2\xe0"):
        data = pack() + pes(0xC0) + end + bytes(2) + pes(0xE0)
        assert sniff(data) == "audio"
    assert sniff(pack() + pes(NAVIGATION, 65_000) + pes(0xC0, 300) + pes(0xE1)) == "video"
    # The header of its last packet alone is enough.
    assert sniff(pack() + pes(0xC0) + b"\0\0\1\xe0\0\0") == "video"
    assert sniff(pack() + pes(0xC0) + b"\0\0\1\xe0\0") == "audio"


def test_delimiters_of_h265_begin_a_stream_of_video():
    assert is_elementary_video(b"\0\0\0\1\x46\x01\x50")
    for unit in (b"\x48\x01", b"\x4a\x01", b"\x3e\x01", b"\x50\x01", b"\xc2\x01"):
        assert not is_elementary_video(b"\0\0\0\1" + unit)


def ogg_page(payload, serial, first=True):
    lengths = bytes([255] * (len(payload) // 255) + [len(payload) % 255])
    head = b"OggS\0" + bytes([2 * first]) + bytes(8) + struct.pack("<IIIB", serial, 0, 0, len(lengths))
    return head + lengths + payload


OGG_VIDEO = [b"\x80theora", b"BBCD\0", b"OVP80", b"\x80daala", b"\x01video", b"KW-DIRAC"]
OGG_AUDIO = [b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"fLaC", b"Speex   ", b"PCM     ", b"CELT    ", b"\x01audio"]


@pytest.mark.parametrize("audio", OGG_AUDIO)
def test_streams_of_an_ogg_are_told_by_their_first_packet(audio):
    """All that belong together begin before any goes on; behind that, another file may have been laid."""
    for video in OGG_VIDEO:
        one, other = ogg_page(audio + bytes(30), 1), ogg_page(video + bytes(600), 2)
        assert sniff(one + other) == sniff(other + one) == "video"
        more = ogg_page(bytes(700), 1, first=False)
        assert sniff(one + more + other) == "audio"
        # Of a stream that nobody knows, more may follow before the others begin.
        unknown = ogg_page(b"?" * 30, 9)
        assert sniff(unknown + ogg_page(bytes(9), 9, first=False) + other) == "video"
        assert sniff(unknown + one + b"OgsS" + other[4:]) == "audio"
    assert sniff(ogg_page(b"?" * 30, 9)) == "audio"


@pytest.mark.parametrize("length", [0, 127, 128, 1 << 14, (1 << 14) + 129, 1 << 21])
def test_seven_bits_of_each_byte_of_a_tags_size_count(length):
    """ID3v2.4, 3.1. What follows is told as if no tag were there."""
    assert sniff(id3(payload=b"x" * length) + flv(HAS_VIDEO, (VIDEO_TAG, 5))) == "video"
    assert sniff(id3(payload=b"x" * length) + flv(HAS_AUDIO, (AUDIO_TAG, 5))) == "audio"
