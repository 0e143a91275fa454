"""Formats by their first bytes: what the specification of each wants to be there, field by field."""

import io
import struct

import pytest
from PIL import Image

from processors.decode.image.formats import is_heif, plugin_of, start_of_image, unreadable_kind

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


def test_a_dib_has_one_of_the_compressions_of_windows():
    assert [code for code in range(20) if plugin_of(dib(compression=code)) == "DIB"] == list(range(7))


@pytest.mark.parametrize("header", [12, 16, 40, 52, 56, 64, 108, 124])
def test_a_bmp_has_any_header_that_windows_or_os2_writes(header):
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + header) + struct.pack("<I", header).ljust(12, b"\0")
    assert plugin_of(data) == "BMP" and plugin_of(data[:-1]) is None
    for other in (header - 1, header + 1, header << 16):
        assert plugin_of(data[:14] + struct.pack("<I", other) + data[18:]) is None


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6", b"f"])
def test_white_space_or_a_remark_follows_the_kind_of_a_netpbm_image(kind):
    for space in (b" ", b"\t", b"\r", b"\n", b"#"):
        assert plugin_of(b"P" + kind + space + b"1 1 255\n") == "PPM"
    for other in (b"1", b"x", b"P", b"\0"):
        assert plugin_of(b"P" + kind + other + b" 1 1 255\n") is None
    assert plugin_of(b"P8\n1 1 255\n") is plugin_of(b"Q" + kind + b"\n1 1 255\n") is None


def icon(kind=1, count=1, length=100, offset=22):
    """The directory of an icon or cursor of one picture."""
    return struct.pack("<HHHBBBBHHII", 0, kind, count, 16, 16, 0, 0, 1, 32, length, offset)


@pytest.mark.parametrize(("kind", "plugin"), [(0, None), (1, "ICO"), (2, "CUR"), (3, None)])
def test_the_directory_of_an_icon_has_22_bytes_and_its_picture_lies_behind_it(kind, plugin):
    assert plugin_of(icon(kind)) == plugin_of(icon(kind) + bytes(9)) == plugin
    assert plugin_of(icon(kind)[:21]) is None
    assert plugin_of(icon(kind, offset=21)) is plugin_of(icon(kind, count=2, offset=37)) is None
    assert plugin_of(icon(kind, count=2, offset=38)) == plugin
    assert plugin_of(icon(kind, count=0)) is plugin_of(icon(kind, length=0)) is None
    assert plugin_of(icon(kind, length=1)) == plugin


def test_the_picture_of_an_icon_lies_in_its_file_where_the_whole_of_it_is_known():
    """Of a short file that was cut all that is left is looked at."""
    for offset, plugin in ((4999, "ICO"), (5000, None), (6000, None)):
        assert plugin_of(icon(offset=offset).ljust(4096, b"\0"), 5000) == plugin
        assert plugin_of(icon(offset=offset).ljust(4095, b"\0")) == "ICO"


@pytest.mark.parametrize(
    ("kind", "depths"),
    [(1, (1, 8)), (9, (1, 8)), (3, (1, 8, 16)), (11, (1, 8, 16)), (2, (1, 15, 16, 24, 32)), (10, (1, 15, 16, 24, 32))],
)
def test_the_depths_of_a_targa_are_those_of_its_kind(kind, depths):
    mapped = (1, 4, 24) if kind in (1, 9) else (0, 0, 0)
    found = [bits for bits in range(65) if plugin_of(targa(kind, *mapped, bits=bits), 5000) == "TGA"]
    assert found == list(depths)


def test_a_targa_is_of_one_of_six_kinds():
    found = [kind for kind in range(40) if plugin_of(targa(kind, bits=8 if kind in (3, 11) else 24), 99) == "TGA"]
    assert found == [2, 3, 10, 11]  # 1 and 9 have a palette


def test_a_targa_without_a_palette_tells_nothing_of_one():
    assert plugin_of(targa(2), 99) == plugin_of(targa(2, 1, 4, 24), 99) == "TGA"  # one may be there and not be used
    assert plugin_of(targa(2, 2, 4, 24), 99) is None
    for entries, entry_bits in ((1, 0), (0, 24)):
        assert plugin_of(targa(2, 0, entries, entry_bits), 99) is None
    head = bytearray(targa(2))
    head[3] = 1  # its first colour
    assert plugin_of(bytes(head), 99) is None


@pytest.mark.parametrize("entry_bits", range(0, 40))
def test_a_targas_palette_has_colours_of_15_to_32_bits(entry_bits):
    known = plugin_of(targa(1, 1, 4, entry_bits, bits=8), 999) == "TGA"
    assert known == (entry_bits in (15, 16, 24, 32))
    assert plugin_of(targa(1, 1, 0, entry_bits, bits=8), 999) is None


def test_a_targa_is_not_empty_and_not_interleaved():
    assert plugin_of(targa(10, size=(1, 1))) == "TGA"
    assert plugin_of(targa(10, size=(0, 1))) is plugin_of(targa(10, size=(1, 0))) is None
    for flags in (0x40, 0x80, 0xC0):
        assert plugin_of(targa(10)[:17] + bytes([flags])) is None
    assert plugin_of(targa(10)[:17] + b"\x3f") == "TGA"


def pcx(version=5, encoding=1, bits=8):
    return bytes([10, version, encoding, bits]).ljust(128, b"\0")


def test_a_pcx_has_a_header_of_128_bytes_and_known_fields():
    assert [version for version in range(9) if plugin_of(pcx(version)) == "PCX"] == [0, 2, 3, 5]
    assert [encoding for encoding in range(9) if plugin_of(pcx(encoding=encoding)) == "PCX"] == [1]
    assert [bits for bits in range(33) if plugin_of(pcx(bits=bits)) == "PCX"] == [1, 2, 4, 8]
    assert plugin_of(pcx()[:127]) is plugin_of(b"\x0b" + pcx()[1:]) is None


def test_an_sgi_has_a_header_of_512_bytes_plain_or_run_length_levels_of_one_or_two_bytes():
    def sgi(storage, levels):
        return bytes([1, 218, storage, levels]).ljust(512, b"\0")

    known = [(s, b) for s in range(4) for b in range(5) if plugin_of(sgi(s, b)) == "SGI"]
    assert known == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert plugin_of(sgi(0, 1)[:511]) is plugin_of(b"\2" + sgi(0, 1)[1:]) is None


@pytest.mark.parametrize("magic", [b"\x11\xaf", b"\x12\xaf"])
def test_a_flic_has_a_header_of_128_bytes_and_eight_bits_a_pixel(magic):
    head = (bytes(4) + magic + bytes(6) + b"\x08\0").ljust(128, b"\0")
    assert plugin_of(head) == "FLI"
    assert plugin_of(head[:127]) is plugin_of(head[:12] + b"\x10\0" + head[14:]) is None
    assert plugin_of(head[:4] + b"\x13\xaf" + head[6:]) is None


def test_formats_whose_mark_is_not_in_front():
    brush = struct.pack(">5I", 32, 2, 16, 16, 1) + b"GIMP"
    assert plugin_of(brush) == "GBR"
    assert plugin_of(brush[:20] + b"GIMQ") is plugin_of(brush[:7] + b"\1" + brush[8:]) is None
    assert plugin_of(bytes(2048) + b"PCD_") == "PCD" and plugin_of(bytes(2047) + b"PCD_") is None
    area = (bytes(7) + b"\4").ljust(256, b"\0")
    assert plugin_of(area) == "MCIDAS" and plugin_of(area[:255]) is None


def test_an_xbm_is_c_that_defines_a_width_and_bits():
    text = b"#define it_width 16\n#define it_height 1\nstatic char it_bits[] = {0, 0};\n"
    assert plugin_of(text) == plugin_of(b"\n\n " + text) == "XBM"
    assert plugin_of(text.replace(b"_width", b"_wide")) is plugin_of(text.replace(b"_bits", b"_x")) is None
    assert plugin_of(b"/" + text) is plugin_of(text[1:]) is None


@pytest.mark.parametrize("kind", [1, 3, -11, -12, -21, -22])
def test_a_spider_file_may_have_either_order_of_bytes(kind):
    data = spider(word5=kind)
    swapped = b"".join(data[at : at + 4][::-1] for at in range(0, 108, 4)) + data[108:]
    assert plugin_of(data) == plugin_of(swapped) == "SPIDER"
    for other in (kind - 0.5, 0, 2, 4, -1, -10, -20):
        assert plugin_of(spider(word5=other)) is None
    assert plugin_of(spider(word2=0)) is plugin_of(spider(word12=0)) is plugin_of(spider(word13=0, word22=0)) is None


def isobmff(major, *compatible):
    return struct.pack(">I", 16 + 4 * len(compatible)) + b"ftyp" + major + bytes(4) + b"".join(compatible) + bytes(99)


def test_the_brands_of_a_file_tell_heic_from_avif():
    """A HEIF brand beside one of AVIF is AVIF; what lies behind the box's length is no brand."""
    assert plugin_of(isobmff(b"mif1", b"heic")) == "HEIF" and is_heif(isobmff(b"mif1", b"heic"))
    assert plugin_of(isobmff(b"mif1", b"miaf", b"avif")) == plugin_of(isobmff(b"msf1", b"avis")) == "AVIF"
    assert not is_heif(isobmff(b"mif1", b"avif")) and not is_heif(isobmff(b"isom", b"heic"))
    assert plugin_of(isobmff(b"mp42", b"avif")) is None
    short = isobmff(b"mif1", b"heic", b"avif")
    assert plugin_of(b"\0\0\0\x14" + short[4:]) == "HEIF"
    assert plugin_of(isobmff(b"mif1", b"xxav", b"ifxx")) == "HEIF"
    assert not is_heif(b"\0\0\0\x18free" + isobmff(b"mif1")[8:])
    for brand in (b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"MiHE", b"MiHB"):
        assert is_heif(isobmff(brand))


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"\xff\x0a" + bytes(9), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(9), "JPEG XL"),
        (b"\0\0\0\x14ftypjxl " + bytes(9), "JPEG XL"),
        (b"\0\0\0\x18ftypcrx " + bytes(9), "raw file"),
        (b"FUJIFILMCCD-RAW 0201", "raw file"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(9), "PostScript"),
        (b"\xd7\xcd\xc6\x9a" + bytes(9), "metafile"),
        (b"\1\0\0\0" + bytes(36) + b" EMF", "metafile"),
        (b"%PDF-1.7", "PDF"),
        (bytes(1019) + b"%PDF-", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><SVG/>", "SVG"),
        (b"\xff\xfe" + "<svg/>".encode("utf-16-le"), "SVG"),
        (b"\xfe\xff" + "<svg/>".encode("utf-16-be"), "SVG"),
        (b" <!DOCTYPE html><html></html>", "web page"),
        (b"<HTML></HTML>", "web page"),
        (b"v/1\x01" + bytes(9), "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance"),
        (b"P7\nWIDTH 1", "PAM"),
        (b"PK\3\4" + bytes(9), "ZIP"),
        (b"\x1f\x8b\x08" + bytes(9), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"MThd\0\0\0\6", "MIDI"),
    ],
)
def test_what_no_decoder_reads_is_called_by_its_name(head, word):
    assert plugin_of(head) is None
    assert word in (unreadable_kind(head) or "")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"nothing",
        bytes(1020) + b"%PDF-",  # only its first kilobyte may be filled
        b"\1\0\0\0" + bytes(37) + b" EMF",
        b"\2\0\0\0" + bytes(36) + b" EMF",
        b"<xml/>",
        b"a <svg/>",
        b"a <html>",
    ],
)
def test_what_is_not_known_gets_no_name(head):
    assert unreadable_kind(head) is None


@pytest.mark.parametrize("count", [1, 5, 40])
def test_a_jpeg_may_begin_behind_fill_bytes_of_its_own_first_byte(count):
    magic = b"\xff\xd8\xff\xe0" + bytes(99)
    assert start_of_image(b"\xff" * count + magic) == count
    assert start_of_image(b"\xef\xbb\xbf" + magic) == 3
    assert start_of_image(b"a" * count + magic) == start_of_image(b"\n" * count + b"text") == 0
