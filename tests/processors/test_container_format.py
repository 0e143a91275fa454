"""The demuxer of a container, by what its format puts at its start: magic numbers, start codes, sync words, tags."""

import io
from types import SimpleNamespace

import pytest

from processors.decode.container.format import container_format
from processors.decode.container.pyav import may_end_anywhere


def demuxer(data):
    return container_format(io.BytesIO(data))


# Formats that no encoder at hand writes, and how a file of each begins.
RARE = {
    "nsv": [b"NSVf"],
    "smk": [b"SMK2", b"SMK4"],
    "bink": [b"BIKi", b"BIKb", b"KB2i"],
    "flic": [b"\0\x10\0\0\x11\xaf", b"\0\x10\0\0\x12\xaf"],
    "pva": [b"AVPV"],
    "dhav": [b"DHAV"],
    "gxf": [b"\0\0\0\0\1\xbc"],
    "dv": [b"\x1f\7\0"],
    "mpc8": [b"MPCK"],
    "mpc": [b"MP+\7"],
    "tak": [b"tBaK"],
    "ape": [b"MAC "],
    "dsf": [b"DSD "],
    "iff": [b"FRM8", b"FORM\0\0\1\0" + b"8SVX"],
    "qcp": [b"RIFF\0\1\0\0QLCM"],
    "dtshd": [b"DTSHDHDR"],
    "dts": [b"\x7f\xfe\x80\1", b"\xfe\x7f\1\x80", b"\x1f\xff\xe8\0", b"\xff\x1f\0\xe8"],
    "truehd": [b"\0\0\0\0\xf8\x72\x6f\xba"],
    "mlp": [b"\0\0\0\0\xf8\x72\x6f\xbb"],
}


def test_rare_formats_are_told_by_their_first_bytes():
    for name, starts in RARE.items():
        for start in starts:
            assert demuxer(start + bytes(200)) == name, start
            assert demuxer(b"\x80" + start + bytes(200)) != name, start


# The unit or object behind 00 00 01: ISO/IEC 13818-1, table 2-18; 13818-2 and 14496-2, table 6-3; SMPTE 421M, annex E;
# H.264 and H.265, table 7-1.
START_CODES = {
    "mpeg": [b"\xba\x44", b"\xbb\x00"],
    "mpegvideo": [b"\xb3\x14"],
    "m4v": [b"\xb0\x01", b"\xb5\x89", b"\0\0\0\1\x20\0", b"\0\x55\0\0\1\x20\0"],
    "vc1": [b"\x0f\xc8"],
    "hevc": [b"\x40\1", b"\x42\1", b"\x44\1", b"\x46\1", b"\x4e\1"],
    "h264": [b"\x67\x64", b"\x68\xeb", b"\x65\x88", b"\x41\x9a", b"\x06\x05", b"\x09\xf0"],
}


@pytest.mark.parametrize("name", sorted(START_CODES))
def test_what_begins_with_a_start_code_is_told_by_it(name):
    for code in START_CODES[name]:
        for zeros in (2, 3, 100):
            assert demuxer(bytes(zeros) + b"\1" + code + b"\x55" * 40) == name, code
        assert demuxer(b"\0\1" + code + b"\x55" * 40) is None


def test_other_codes_begin_no_stream():
    """A forbidden bit, an end of a sequence, units that H.264 leaves open, an object without a layer of video."""
    for code in (b"\xe7\x64", b"\xb7\0", b"\x6a\0", b"\x7f\0", b"\x00\x55\0\0\1\x1f\0", b"\x00\x55"):
        assert demuxer(b"\0\0\1" + code + b"\x55" * 40) is None, code


def id3(payload=b""):
    return b"ID3\4\0\0" + bytes(len(payload) >> shift & 127 for shift in (21, 14, 7, 0)) + payload


MP3 = (b"\xff\xfb\x90\xc4").ljust(417, b"\0")
AAC = bytes.fromhex("fff15080041ffc").ljust(32, b"\0")


@pytest.mark.parametrize("before", [id3(), id3(bytes(300)), id3(b"a" * 130) * 2])
def test_what_follows_a_tag_is_told(before):
    expected = {"mp3": MP3 * 2, "aac": AAC * 2, "loas": b"\x56\xe0\x20" + bytes(40), "flac": b"fLaC", "tta": b"TTA1",
                "wv": b"wvpk", "mpc8": b"MPCK", "mpc": b"MP+"}  # fmt: skip
    for name, data in expected.items():
        assert demuxer(before + data + bytes(40)) == name
    # MPEG audio has no magic number: a header anywhere is taken for it, and none for nothing.
    assert demuxer(before + b"\x80\x81damaged" + MP3) == "mp3"
    assert demuxer(before + b"\x80\x81damaged" + bytes(99)) is None


def test_lengths_of_latm_fill_thirteen_bits():
    """ISO/IEC 14496-3, 1.7.2: eleven bits of sync, then those of the length."""
    for length in (0, 1, 255, 256, 4096, 8191):
        assert demuxer((0x2B7 << 13 | length).to_bytes(3, "big") + bytes(60)) == "loas", length
    for other in (0x2B6, 0x2B5, 0x2A7, 0x0B7):
        assert demuxer((other << 13 | 256).to_bytes(3, "big") + bytes(60)) is None


def test_what_has_no_end_of_its_own_may_end_anywhere():
    """Packets and frames one after another; a file with an index or a size has an end."""
    for name in ("mpegts", "mpeg", "h264", "mp3", "aac", "ac3"):
        assert may_end_anywhere(SimpleNamespace(format=SimpleNamespace(name=name)))
    for name in ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf", "ogg", "wav"):
        assert not may_end_anywhere(SimpleNamespace(format=SimpleNamespace(name=name)))
