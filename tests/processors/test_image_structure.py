"""Image files looked into before they are decoded: sizes that are claimed, and the least that a whole file may hold."""

import io
import struct

import pytest
from PIL import Image

from processors import InputError, load_image
from processors.decode.image.examination import examine
from processors.decode.image.structure import Damaged

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def claimed(data, plugin):
    """The sizes that are checked, each width, height and bytes a pixel."""
    sizes = []
    examine(io.BytesIO(data), plugin, "it", lambda *size: sizes.append(size))
    return sizes


def is_damaged(data, plugin):
    try:
        claimed(data, plugin)
    except Damaged:
        return True
    return False


def jpeg(marker, width, height, sampling, size):
    """A JPEG of so many bytes: the header of its frame, that of one scan, and data."""
    frame = struct.pack(">BHHB", 8, height, width, len(sampling))
    frame += b"".join(bytes([number + 1, byte, 0]) for number, byte in enumerate(sampling))
    scan = bytes([len(sampling)]) + b"".join(bytes([number + 1, 0]) for number in range(len(sampling))) + b"\0\x3f\0"
    segments = [
        bytes([0xFF, kind]) + struct.pack(">H", 2 + len(body)) + body for kind, body in ((marker, frame), (0xDA, scan))
    ]
    data = b"\xff\xd8" + b"".join(segments)
    return data.ljust(size - 2, b"\0") + b"\xff\xd9"


@pytest.mark.parametrize("marker", [0xC0, 0xC1])
@pytest.mark.parametrize(
    ("width", "height", "sampling", "blocks"),
    [
        (800, 400, (0x11,), 100 * 50),
        (799, 393, (0x11,), 100 * 50),  # sides are rounded up to whole blocks
        (800, 400, (0x22,), 100 * 50),  # of one component the factors say nothing
        (800, 400, (0x11, 0x11, 0x11), 3 * 100 * 50),
        (800, 400, (0x22, 0x11, 0x11), 100 * 50 + 2 * 50 * 25),
        (800, 400, (0x21, 0x11, 0x11), 100 * 50 + 2 * 50 * 50),
        (800, 400, (0x11, 0x12), 50 * 50 // 2 * 2 + 100 * 50),
        (800, 392, (0x22, 0x11, 0x11, 0x22), 2 * 100 * 49 + 2 * 50 * 25),
    ],
)
def test_a_sequential_jpeg_has_two_bits_for_each_block_of_its_components(marker, width, height, sampling, blocks):
    """ITU T.81: blocks of 8 by 8 samples, a component's share by its factors (A.1.1), and codes for DC and the rest."""
    least = -(-2 * blocks // 8)
    assert not is_damaged(jpeg(marker, width, height, sampling, least), "JPEG")
    assert is_damaged(jpeg(marker, width, height, sampling, least - 1), "JPEG")


@pytest.mark.parametrize("sampling", [0x01, 0x10, 0x00])
def test_a_jpeg_component_without_samples_is_damage(sampling):
    assert is_damaged(jpeg(0xC0, 8, 8, (sampling,), 1000), "JPEG")


def test_a_webp_may_lack_the_byte_that_pads_it_and_no_more():
    """RIFF pads an odd chunk to an even size."""
    data = encoded(Image.new("RGB", (9, 9), RED), "WEBP")
    assert int.from_bytes(data[4:8], "little") + 8 == len(data)
    assert not is_damaged(data, "WEBP") and not is_damaged(data[:-1], "WEBP") and is_damaged(data[:-2], "WEBP")


@pytest.mark.parametrize("bits", range(8))
@pytest.mark.parametrize("blocks", [b"", b"!\xf9\x04\0\0\0\0\0", b"!\xfe\x03abc\x02de\0!\xf9\x04\0\0\0\0\0"])
def test_the_first_frame_of_a_gif_comes_after_its_palette_and_extensions(bits, blocks):
    """GIF89a, 18: the palette has 2 ** (bits + 1) colours of three bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", 10, 20, 0x80 | bits, 0, 0) + b"\x2c" * (3 << bits + 1)
    frame = b"," + struct.pack("<HHHHB", 4, 5, 3000, 4000, 0)
    assert claimed(head + blocks + frame, "GIF") == [(3004, 4005, 3)]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_jpeg_2000_is_as_large_as_its_code_stream_says(mode):
    data = encoded(Image.new(mode, (40, 30)), "JPEG2000", no_jp2=True)
    assert claimed(data, "JPEG2000") == [(40, 30, 4 if mode == "RGBA" else 3)]
    end = data.index(b"\xff\x4f\xff\x51") + 44  # of the fields that are read
    assert claimed(data[:end], "JPEG2000") and is_damaged(data[: end - 1], "JPEG2000")


def icns(*entries):
    body = b"".join(kind + struct.pack(">I", 8 + len(data)) + data for kind, data in entries)
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def test_an_icon_of_macos_is_looked_into_entry_by_entry():
    stream = encoded(Image.new("RGB", (128, 128), RED), "JPEG2000", no_jp2=True)
    boxed = encoded(Image.new("RGBA", (128, 128), RED), "JPEG2000")
    other = (b"info", b"a name\xff\x4f\xff\x51")  # ends like the beginning of a code stream
    assert claimed(icns((b"ic07", stream)), "ICNS") == [(128, 128, 3)]
    assert claimed(icns(other, (b"ic07", stream), other, (b"ic07", boxed)), "ICNS") == [(128, 128, 3), (128, 128, 4)]
    assert load_image(icns(other, (b"ic07", stream)))[5, 5].tolist() == list(RED)


def test_of_pictures_of_one_size_and_depth_the_first_is_an_icons():
    """Neither the planes nor the palette of an entry rank it."""
    payloads = [encoded(Image.new("RGB", (16, 16), colour)) for colour in (RED, BLUE)]
    place, directory = 6 + 2 * 16, b""
    for number, payload in enumerate(payloads):
        planes, colours = (0xFFFF, 255) if number else (1, 0)
        directory += struct.pack("<BBBBHHII", 16, 16, colours, 0, planes, 24, len(payload), place)
        place += len(payload)
    data = struct.pack("<HHH", 0, 1, 2) + directory + b"".join(payloads)
    assert load_image(data)[5, 5].tolist() == list(RED)


def tiff(*tags):
    """A little-endian TIFF of tags (tag, type, value), without pixels."""
    directory = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + directory + bytes(4)


SQUARE = ((256, 4, 16), (257, 4, 16), (258, 3, 8), (262, 3, 1), (277, 3, 1))


@pytest.mark.parametrize(("across", "down"), [(1 << 20, 32), (32, 1 << 20)])
def test_the_tiles_of_a_tiff_are_checked_by_both_their_sides(across, down):
    tiled = tiff(*SQUARE, (322, 4, across), (323, 4, down), (324, 4, 8), (325, 4, 8))
    assert claimed(tiled, "TIFF") == [(16, 16, 3), (across, down, 3)]
    with pytest.raises(InputError) as refusal:
        load_image(tiled)
    assert refusal.value.code == "image_too_large"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_tiff_lists_as_many_tiles_as_it_has(count):
    sides = ((322, 4, 16), (323, 4, 16))
    wide = ((256, 4, 33), *SQUARE[1:])  # three tiles
    data = tiff(*wide, *sides, (324, 4, 8), (325, 4, 8))
    at = data.index(struct.pack("<HH", 324, 4)) + 4
    assert is_damaged(data[:at] + struct.pack("<L", count) + data[at + 4 :], "TIFF") == (count < 3)
