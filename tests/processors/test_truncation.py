"""Whether a container ends before its header says: whole to the byte, and a byte short."""

import io
import struct

import pytest

from processors.io.truncation import is_placeholder, is_truncated

BODY = bytes(range(1, 101))


def short(data):
    return is_truncated(io.BytesIO(data))


def avi(size=None, before=b""):
    movie = b"LIST" + struct.pack("<I", len(BODY) + 4 if size is None else size) + b"movi" + BODY
    return b"RIFF" + struct.pack("<I", 4 + len(before) + len(movie)) + b"AVI " + before + movie


def matroska(width, size=None):
    """A segment whose size takes so many bytes: as many leading bits, RFC 8794, 4.1, announce them."""
    coded = ((len(BODY) if size is None else size) | 1 << 7 * width).to_bytes(width, "big")
    return b"\x1aE\xdf\xa3\x80" + b"\x18S\x80g" + coded + BODY


def iso(kind=b"mdat", size=None, wide=False):
    """A box of 32 bits of size, or of 64 where these are 1; ISO 14496-12, 4.2."""
    size = len(BODY) + (16 if wide else 8) if size is None else size
    head = struct.pack(">I4sQ", 1, kind, size) if wide else struct.pack(">I4s", size, kind)
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + head + BODY


def is_whole_to_the_byte(data):
    return not short(data) and short(data[:-1]) and not short(data + b"behind")


def test_the_frames_of_an_avi_end_in_the_file():
    assert is_whole_to_the_byte(avi())
    assert is_whole_to_the_byte(avi(before=b"LIST" + struct.pack("<I", 9) + b"hdrl" + bytes(6)))
    assert is_whole_to_the_byte(avi(before=b"LIST" + struct.pack("<I", 4) + b"INFO"))


def test_the_segment_of_a_matroska_file_ends_in_it():
    for width in range(1, 9):
        assert is_whole_to_the_byte(matroska(width)), width


@pytest.mark.parametrize("kind", [b"mdat", b"moov", b"moof"])
def test_the_boxes_of_a_movie_end_in_the_file(kind):
    assert is_whole_to_the_byte(iso(kind)) and is_whole_to_the_byte(iso(kind, wide=True))


@pytest.mark.parametrize("kind", [b"mdat", b"moov"])
def test_a_movie_may_begin_with_its_media(kind):
    assert is_whole_to_the_byte(iso(kind)[16:])


@pytest.mark.parametrize("size", [(1 << 63) + 116, (1 << 56) + 116, (1 << 32) + 116, 117])
def test_every_byte_of_a_64_bit_size_counts(size):
    assert short(iso(wide=True, size=size))


@pytest.mark.parametrize("kind", [b"free", b"skip", b"wide"])
def test_other_boxes_may_say_what_they_like(kind):
    assert not short(iso(kind, size=1 << 31))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFF0000, 0x7FFFFFFF, 0x80000000, 0x7FFE0000, 0x7F000000])
def test_a_size_that_a_writer_left_open_promises_nothing(size):
    assert is_placeholder(size) and not short(avi(size))


@pytest.mark.parametrize("size", [1, 0x7EFFFFFF, 0x7F000001, 0x7FFDFFFF, 0x80000001, 0xFFFEFFFF])
def test_any_other_size_is_a_promise(size):
    assert not is_placeholder(size)


@pytest.mark.parametrize("width", range(1, 9))
def test_a_size_of_ones_is_unknown_in_matroska(width):
    assert not short(matroska(width, (1 << 7 * width) - 1))
    assert short(matroska(width, (1 << 7 * width) - 2)) or width == 1
