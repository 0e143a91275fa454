"""The orientation that EXIF, XMP and texts of a PNG ask for, and what says nothing of it."""

import io
import struct

import pytest
from PIL import Image, PngImagePlugin

from processors import load_image
from processors.decode.image.metadata import orientation_of

SHORT, LONG, BYTE, ASCII = 3, 4, 1, 2


def exif(*tags, order="<", begin=8, prefix=b"Exif\0\0"):
    """EXIF of tags (tag, type, value), each of which fits into its entry."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, begin)
    entries = b""
    for tag, kind, value in tags:
        packed = struct.pack(order + {BYTE: "B", SHORT: "H", LONG: "I"}[kind], value).ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, 1) + packed
    return prefix + head.ljust(begin, b"\xaa") + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


OTHERS = ((0x0100, LONG, 7), (0x010F, SHORT, 5), (0x011A, LONG, 3))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [BYTE, SHORT, LONG])
@pytest.mark.parametrize("begin", [8, 26])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_the_orientation_is_found_among_the_tags_of_a_directory(order, kind, begin, before):
    for value in range(1, 9):
        tags = (*OTHERS[:before], (0x0112, kind, value), (0x0213, SHORT, 2))
        for prefix in (b"Exif\0\0", b""):
            assert orientation_of({"exif": exif(*tags, order=order, begin=begin, prefix=prefix)}) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        exif(),
        exif(*OTHERS),
        exif((0x0112, SHORT, 0)),
        exif((0x0112, SHORT, 9)),
        exif((0x0112, LONG, 0x10006)),
        exif((0x0112, SHORT, 6)).replace(b"II*", b"XX*"),
        exif((0x0112, SHORT, 6))[:20],
        exif((0x0111, SHORT, 6)),
        exif((0x0112, SHORT, 6)).replace(b"\x12\x01", b"\x12\x02"),
    ],
)
def test_what_says_nothing_leaves_an_image_as_it_is(data):
    assert orientation_of({"exif": data}) == 1
    # And what says it elsewhere is believed.
    assert orientation_of({"exif": data, "xmp": b'<d tiff:Orientation="3"/>'}) == 3


def test_a_tag_behind_those_that_a_directory_counts_is_none_of_its_own():
    data = exif(*OTHERS, (0x0112, SHORT, 6))
    assert orientation_of({"exif": data.replace(struct.pack("<H", 4) + b"\0\1", struct.pack("<H", 3) + b"\0\1")}) == 1


@pytest.mark.parametrize("key", ["XML:com.adobe.xmp", "xmp"])
def test_xmp_tells_the_orientation_as_an_attribute_or_an_element(key):
    for value in range(1, 9):
        for text in (f'<d tiff:Orientation="{value}"/>', f"<tiff:Orientation>{value}</tiff:Orientation>"):
            assert orientation_of({key: text}) == orientation_of({key: text.encode()}) == value
    for text in ('<d tiff:Orientation="0"/>', '<d tiff:Orientation="9"/>', "<d exif:Orientation='6'/>", ""):
        assert orientation_of({key: text}) == 1
    assert orientation_of({key: 6}) == orientation_of({}) == 1


def test_exif_goes_before_xmp():
    told = {"exif": exif((0x0112, SHORT, 6)), "xmp": b'<d tiff:Orientation="3"/>'}
    assert orientation_of(told) == 6


def raw_profile(data):
    """As ImageMagick writes a profile into a text of a PNG: its name, its length, and lines of digits."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\nexif\n{:8d}\n{}\n".format(len(data), "\n".join(lines))


def test_the_orientation_in_the_text_that_imagemagick_writes_is_read():
    profile = raw_profile(exif(*OTHERS, (0x0112, SHORT, 6)))
    assert orientation_of({"Raw profile type exif": profile}) == 6
    # The EXIF of the file itself goes before it.
    both = {"Raw profile type exif": profile, "exif": exif((0x0112, SHORT, 8))}
    assert orientation_of(both) == 8
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", profile)
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16), "red").save(buffer, "PNG", pnginfo=info)
    assert load_image(buffer.getvalue()).shape == (32, 16, 3)


@pytest.mark.parametrize("profile", ["", "\nexif\n 4\n", "\nexif\n 4\nxyz", "\nexif\n 3\n494", b"\nexif\n 2\n4949", 5])
def test_a_damaged_text_says_nothing(profile):
    assert orientation_of({"Raw profile type exif": profile}) == 1
