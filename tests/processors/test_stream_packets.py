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
