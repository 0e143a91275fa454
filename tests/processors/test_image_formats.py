"""Formats by their first bytes: what the specification of each wants to be there, field by field."""

import io
import struct

import pytest
from PIL import Image

from processors.decode.image.formats import plugin_of, start_of_image

DIB_BITS = (1, 4, 8, 16, 24, 32)


def dib(header=40, width=16, height=16, planes=1, bits=24, compression=0):
    """The header of a device-independent bitmap, as Windows' clipboard holds it."""
    return struct.pack("<IiiHHI", header, width, height, planes, bits, compression).ljust(header, b"\0")


def targa(kind=2, mapped=0, entries=0, entry_bits=0, size=(1, 1), bits=24):
    """The 18 bytes that a TGA begins with."""
    return struct.pack("<BBBHHBHHHHBB", 0, mapped, kind, 0, entries, entry_bits, 0, 0, *size, bits, 0)


def spider(**changed):
    """The 27 numbers that a SPIDER file begins with: two records of four rows' headers, and a square of 16."""
    values = [0.0] * 28
    for word, value in {1: 1, 2: 16, 5: 1, 12: 16, 13: 2, 22: 128, 23: 64}.items():
        values[word] = value
    for word, value in changed.items():
        values[int(word.removeprefix("word"))] = value
    return struct.pack(">27f", *values[1:]).ljust(1024, b"\0")


def encoded(form, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (16, 16)).save(buffer, form)
    return buffer.getvalue()


def test_what_pillow_writes_is_known_by_its_first_bytes():
    forms = "PNG JPEG GIF WEBP TIFF BMP DIB ICO PPM PCX SGI TGA QOI DDS JPEG2000 ICNS AVIF".split()
    assert [plugin_of(encoded(form)[:4096]) for form in forms] == forms
    assert plugin_of(encoded("XBM", "1")) == "XBM" and plugin_of(encoded("MSP", "1")) == "MSP"
    for brand, plugin in ((b"avif", "AVIF"), (b"heic", "HEIF"), (b"isom", None)):
        assert plugin_of(b"\0\0\0\x18ftyp" + brand + bytes(12)) == plugin


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P6\n1 1\n255\n"])
def test_an_image_may_begin_behind_white_space_or_zeros(magic):
    for count in (1, 2, 3, 16):
        for filling in (b"\n", b"\0"):
            assert start_of_image(filling * count + magic + bytes(99)) == count
    assert start_of_image(magic + bytes(99)) == start_of_image(bytes(2000) + magic) == 0


def test_a_dib_has_one_plane_and_one_of_the_depths_of_windows():
    assert [bits for bits in range(65) if plugin_of(dib(bits=bits)) == "DIB"] == list(DIB_BITS)
    assert [planes for planes in range(4) if plugin_of(dib(planes=planes)) == "DIB"] == [1]


@pytest.mark.parametrize("header", [40, 52, 56, 64, 108, 124])
def test_a_dib_may_have_any_header_that_windows_or_os2_writes(header):
    assert plugin_of(dib(header)) == "DIB"
    assert plugin_of(dib(header + 1)) is None and plugin_of(dib(header)[:39]) is None


@pytest.mark.parametrize(("width", "height", "plugin"), [(1, -1, "DIB"), (0, 1, None), (1, 0, None), (-1, 1, None)])
def test_a_dib_may_be_top_down_and_never_empty(width, height, plugin):
    assert plugin_of(dib(width=width, height=height)) == plugin


def test_the_header_of_a_targa_has_18_bytes():
    assert plugin_of(targa(kind=10), 18) == "TGA"
    assert plugin_of(targa(kind=10)[:17], 17) is None


@pytest.mark.parametrize("kind", [1, 9])
def test_a_targa_of_palette_indices_has_a_palette(kind):
    palette = bytes(3 * 4)
    assert plugin_of(targa(kind, 1, 4, 24, bits=8) + palette + b"\0") == "TGA"
    assert plugin_of(targa(kind, bits=8) + palette + b"\0") is None


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_raw_targa_holds_its_pixels(kind):
    bits = 24 if kind == 2 else 8
    head = targa(kind, *((1, 1, 24) if kind == 1 else (0, 0, 0)), size=(5, 3), bits=bits)
    need = 18 + 15 * bits // 8
    assert plugin_of(head, need) == "TGA" and plugin_of(head, need - 1) is None


def test_the_numbers_of_a_spider_file_are_whole():
    assert plugin_of(spider()) == "SPIDER" and plugin_of(spider()[:107]) is None
    for word in (1, 2, 5, 12, 13, 22):
        for value in (1.5, float("nan"), 1e9):
            assert plugin_of(spider(**{f"word{word}": value})) is None, (word, value)
    assert plugin_of(spider(word22=129, word23=64.5)) is None  # two records of a length that is no number of bytes
    assert plugin_of(spider(word22=130, word23=65)) == "SPIDER"
    assert plugin_of(spider(word22=129)) is None
