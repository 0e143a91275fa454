"""Image files looked into before they are decoded: sizes that are claimed, and the least that a whole file may hold."""

import io
import struct
import zlib

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


@pytest.mark.parametrize("missing", [322, 323])
def test_a_tile_is_checked_where_only_one_of_its_sides_is_told(missing):
    (told,) = {322, 323} - {missing}
    sizes = claimed(tiff(*SQUARE, (told, 4, 1 << 20), (273, 4, 8), (279, 4, 8)), "TIFF")
    assert sizes == [(16, 16, 3), (1 << 20, 1, 3) if told == 322 else (1, 1 << 20, 3)]


def with_count(data, tag, count):
    """A TIFF whose tag, of type 4, says that it has so many values."""
    at = data.index(struct.pack("<HH", tag, 4)) + 4
    return data[:at] + struct.pack("<L", count) + data[at + 4 :]


@pytest.mark.parametrize(
    ("height", "rows", "samples", "planar", "strips"),
    [
        (16, 8, 1, 1, 2),
        (17, 8, 1, 1, 3),
        (17, 8, 3, 1, 3),  # the samples of a pixel beside one another
        (17, 8, 3, 2, 9),  # and in planes
        (17, 0, 1, 1, 1),
        (17, None, 1, 1, 1),
    ],
)
def test_a_tiff_lists_as_many_strips_as_its_rows_need(height, rows, samples, planar, strips):
    """TIFF 6.0: strips of RowsPerStrip rows, in one plane each where PlanarConfiguration is 2."""
    tags = [(256, 4, 16), (257, 4, height), (258, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, samples), (284, 3, planar)]
    data = tiff(*tags, *([] if rows is None else [(278, 4, rows)]))
    assert not is_damaged(with_count(data, 273, strips), "TIFF")
    assert is_damaged(with_count(data, 273, strips - 1), "TIFF")


@pytest.mark.parametrize(
    ("bits", "samples", "pixel_bytes"), [(1, 1, 1), (8, 1, 3), (1, 3, 3), (16, 3, 3), (8, 4, 4), (8, 9, 4)]
)
def test_a_tiff_counts_as_the_channels_that_it_becomes(bits, samples, pixel_bytes):
    data = tiff((256, 4, 30), (257, 4, 20), (258, 3, bits), (262, 3, 1), (273, 4, 8), (277, 3, samples))
    assert claimed(data, "TIFF") == [(30, 20, pixel_bytes)]


@pytest.mark.parametrize("samples", [1, 3])
def test_a_tiff_of_floats_is_called_so_whatever_its_channels(samples):
    bits = 32
    tags = ((256, 4, 2), (257, 4, 1), (258, 3, bits), (262, 3, samples), (273, 4, 8), (277, 3, samples), (339, 3, 3))
    with pytest.raises(InputError) as refusal:
        load_image(tiff(*tags) + bytes(99))
    assert refusal.value.code == "image_dtype"


@pytest.mark.parametrize(("tag", "raw"), [((254, 4, 1), True), ((254, 4, 0), False), ((254, 4, 2), False)])
def test_a_tiff_that_begins_with_a_preview_beside_other_directories_is_a_raw_file(tag, raw):
    data = tiff(tag, *SQUARE, (273, 4, 8), (330, 4, 8))
    if not raw:
        assert claimed(data, "TIFF") == [(16, 16, 3)]
        return
    with pytest.raises(InputError) as refusal:
        load_image(data)
    assert refusal.value.code == "image_unknown_format"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (((256, 255), 1), ((256, 256), 1)),  # a side of 256 is written as 0
        (((255, 256), 1), ((256, 256), 1)),
        (((256, 200), 1), ((255, 201), 1)),
        (((200, 256), 1), ((201, 255), 1)),
        (((16, 17), 1), ((18, 16), 1)),
        (((16, 16), 8), ((16, 16), 32)),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_larger_picture_is_an_icons_and_of_two_as_large_the_deeper(first, second, order):
    payloads = [(first, encoded(Image.new("RGB", (16, 16), RED))), (second, encoded(Image.new("RGB", (16, 16), BLUE)))]
    place, directory, body = 6 + 2 * 16, b"", b""
    for ((width, height), bits), payload in payloads[::order]:
        entry = struct.pack("<BBBBHHII", width % 256, height % 256, 0, 0, 1, bits, len(payload), place + len(body))
        directory, body = directory + entry, body + payload
    assert load_image(struct.pack("<HHH", 0, 1, 2) + directory + body)[5, 5].tolist() == list(BLUE)


def test_the_place_that_a_cursor_points_with_is_no_depth():
    payloads = [encoded(Image.new("RGB", (16, 16), colour)) for colour in (RED, BLUE)]
    directory, place = b"", 6 + 2 * 16
    for number, payload in enumerate(payloads):
        directory += struct.pack("<BBBBHHII", 16, 16, 0, 0, 4 * number, 9 * number, len(payload), place)
        place += len(payload)
    assert load_image(struct.pack("<HHH", 0, 2, 2) + directory + b"".join(payloads))[5, 5].tolist() == list(RED)


def one_icon(payload, *, length=None, more=b""):
    """An ICO of one payload, whose entry stands before others that are given."""
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(payload) if length is None else length, 22 + len(more))
    return struct.pack("<HHH", 0, 1, 1 + len(more) // 16) + entry + more + payload


@pytest.mark.parametrize("height", [40, -40])
def test_the_bitmap_of_an_icon_is_half_as_high_as_its_header_says(height):
    """The mask of what is clear stands behind the colours, as high as they are."""
    head = struct.pack("<IiiHHIIiiII", 40, 30, height, 1, 32, 0, 0, 0, 0, 0, 0)
    assert claimed(one_icon(head), "ICO") == [(30, 20, 4)]
    assert is_damaged(one_icon(head[:39]), "ICO")


def test_an_entry_of_an_icon_without_data_is_passed_over():
    empty = struct.pack("<BBBBHHII", 255, 255, 0, 0, 1, 32, 0, 22)
    payload = encoded(Image.new("RGB", (16, 16), RED))
    assert load_image(one_icon(payload, more=empty))[5, 5].tolist() == list(RED)
    assert is_damaged(one_icon(payload, length=0), "ICO")


@pytest.mark.parametrize("marker", [0xC2, 0xC6])
def test_a_progressive_jpeg_has_one_bit_for_each_block(marker):
    """ITU T.81, G: a first scan of DC alone, whose shortest code is one bit; its difference may have been none."""
    blocks, sampling = 100 * 50 + 2 * 50 * 25, (0x22, 0x11, 0x11)
    least = -(-blocks // 8)
    assert not is_damaged(jpeg(marker, 800, 400, sampling, least), "JPEG")
    assert is_damaged(jpeg(marker, 800, 400, sampling, least - 1), "JPEG") == (marker == 0xC2)


@pytest.mark.parametrize("marker", [0xC3, 0xC9, 0xCB])
def test_a_jpeg_of_arithmetic_codes_may_have_less_than_a_bit_for_a_block(marker):
    assert not is_damaged(jpeg(marker, 800, 400, (0x11,), 64), "JPEG")


@pytest.mark.parametrize("marker", range(0xC0, 0xD0))
def test_the_frames_of_a_jpeg_are_known_by_their_markers(marker):
    """ITU T.81, table B.1: C4, C8 and CC are tables, an extension and conditions; the others are frames."""
    data = jpeg(marker, 16, 8, (0x11, 0x11, 0x11, 0x11), 500)
    if marker in (0xC4, 0xC8, 0xCC):
        assert is_damaged(data, "JPEG")
        return
    assert claimed(data, "JPEG") == [(16, 8, 4)]
    assert claimed(jpeg(marker, 16, 8, (0x11,), 500), "JPEG") == [(16, 8, 3)]


@pytest.mark.parametrize("marker", [0x01, *range(0xD0, 0xD9)])
def test_markers_without_a_length_may_stand_before_the_frame_of_a_jpeg(marker):
    data = jpeg(0xC0, 16, 8, (0x11,), 500)
    assert claimed(data[:2] + bytes([0xFF, marker]) + data[2:], "JPEG") == [(16, 8, 3)]


def test_a_jpeg_that_ends_before_its_scan_or_whose_segment_is_shorter_than_its_length_is_damage():
    data = jpeg(0xC0, 16, 8, (0x11,), 500)
    comment = b"\xff\xfe" + struct.pack(">H", 2)
    assert claimed(data[:2] + comment + data[2:], "JPEG")
    for bad in (b"\xff\xd9\0\0", b"\xff\xfe\0\1", b"\xff\xfe\0\0", b"\xfe\xfe\0\2"):
        assert is_damaged(data[:2] + bad + data[2:], "JPEG")


def progressive(scans, components=1):
    """A progressive JPEG of scans (components, first, last, bits), each without data."""
    sampling = b"".join(bytes([number + 1, 0x11, 0]) for number in range(components))
    frame = struct.pack(">BHHB", 8, 8, 8, components) + sampling
    data = b"\xff\xd8\xff\xc2" + struct.pack(">H", 2 + len(frame)) + frame
    for chosen, first, last, bits in scans:
        header = bytes([len(chosen)]) + b"".join(bytes([number, 0]) for number in chosen) + bytes([first, last, bits])
        data += b"\xff\xda" + struct.pack(">H", 2 + len(header)) + header + b"\0" * 9
    return data + b"\xff\xd9"


@pytest.mark.parametrize(
    ("scans", "damaged"),
    [
        ([((1,), 0, 0, 0), ((1,), 1, 63, 0)], False),
        ([((1,), 0, 0, 1), ((1,), 0, 0, 0x10), ((1,), 1, 63, 2), ((1,), 1, 63, 0x21), ((1,), 1, 63, 0x10)], False),
        ([((1,), 0, 0, 0), ((1,), 1, 5, 0), ((1,), 6, 63, 0)], False),
        ([((1,), 0, 0, 0)], True),
        ([((1,), 1, 63, 0)], True),
        ([((1,), 0, 0, 0), ((1,), 2, 63, 0)], True),
        ([((1,), 0, 0, 0), ((1,), 1, 62, 0)], True),
        ([((1,), 0, 0, 1), ((1,), 1, 63, 0)], True),
        ([((1,), 0, 0, 0), ((1,), 1, 63, 2), ((1,), 1, 63, 0x21)], True),
        ([((1,), 0, 0, 0), ((1,), 1, 5, 0), ((1,), 6, 63, 1)], True),
        ([((1, 2), 0, 0, 0), ((1,), 1, 63, 0), ((2,), 1, 63, 0)], False),
        ([((1, 2), 0, 0, 0), ((1,), 1, 63, 0)], True),
        ([((1, 2, 3, 4), 0, 0, 0), *(((number,), 1, 63, 0) for number in (1, 2, 3, 4))], False),
        ([((), 0, 0, 0)], True),
        ([((1, 2, 3, 4, 5), 0, 0, 0), *(((number,), 1, 63, 0) for number in (1, 2, 3, 4, 5))], True),
    ],
)
def test_the_scans_of_a_progressive_jpeg_give_every_bit_of_every_coefficient(scans, damaged):
    """ITU T.81, G.1: bands of 64 coefficients, each first without its low bits and then refined bit by bit."""
    assert is_damaged(progressive(scans, max((len(chosen) for chosen, *_ in scans), default=1)), "JPEG") == damaged


def webp(kind, chunk):
    body = b"WEBP" + kind + struct.pack("<I", len(chunk)) + chunk.ljust(10, b"\0")
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(("width", "height"), [(1, 1), (200, 300), (300, 200), (16_383, 16_382)])
def test_a_webp_claims_the_size_of_its_first_chunk(width, height):
    """RFC 9649: of the canvas 24 bits, less one; lossless 14 bits, less one; lossy 14 bits below two of scaling."""
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    assert claimed(webp(b"VP8X", canvas), "WEBP") == [(width, height, 4)]
    lossless = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14 | 1 << 28)
    assert claimed(webp(b"VP8L", lossless), "WEBP") == [(width, height, 4)]
    for scale in (0, 1, 2, 3):
        lossy = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width | scale << 14, height | scale << 14)
        assert claimed(webp(b"VP8 ", lossy), "WEBP") == [(width, height, 3)]
    assert is_damaged(webp(b"ALPH", canvas), "WEBP")


def test_a_webp_canvas_may_be_wider_than_16_bits():
    canvas = b"\0\0\0\0" + (99_999).to_bytes(3, "little") + (70_000).to_bytes(3, "little")
    assert claimed(webp(b"VP8X", canvas), "WEBP") == [(100_000, 70_001, 4)]


def test_a_gif_without_a_frame_is_as_large_as_its_screen():
    head = b"GIF89a" + struct.pack("<HHBBB", 10, 20, 0, 0, 0)
    assert claimed(head + b";", "GIF") == claimed(head, "GIF") == [(10, 20, 3)]
    frame = b"," + struct.pack("<HHHHB", 0, 0, 30, 15, 0)
    assert claimed(head + b"\0\0" + frame, "GIF") == [(30, 20, 3)]  # zeros between blocks
    assert claimed(head + frame[:9], "GIF") == [(10, 20, 3)]
    assert is_damaged(head[:12], "GIF")


def siz(right, bottom, left=0, top=0, tile=(1 << 30, 1 << 30), channels=3):
    """The beginning of a JPEG 2000 code stream (ITU T.800, A.5.1)."""
    fields = struct.pack(">6I", right, bottom, left, top, *tile) + struct.pack(">2I", 0, 0)
    parts = struct.pack(">H", channels) + b"\x07\1\1" * channels
    return b"\xff\x4f\xff\x51" + struct.pack(">HH", 38 + 3 * channels, 0) + fields + parts


def test_a_jpeg_2000_is_what_its_grid_holds_behind_its_corner():
    assert claimed(siz(140, 130, 100, 90), "JPEG2000") == [(40, 40, 3)]
    assert claimed(siz(140, 130, 0, 90), "JPEG2000") == [(140, 40, 3)]
    channels = (1, 2, 3, 4, 5, 257)
    assert [claimed(siz(8, 9, channels=count), "JPEG2000")[0][2] for count in channels] == [3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("tile", "damaged"), [((0, 9), True), ((9, 0), True), ((1, 1), True), ((2, 1), False), ((1, 3), False)]
)
def test_a_jpeg_2000_has_no_more_tiles_than_16_bits_number(tile, damaged):
    assert is_damaged(siz(400, 300, tile=tile), "JPEG2000") == damaged  # 120,000 pixels


def png(width, height, depth, colour, data, extra=b"", interlaced=0, tail=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + chunks + (tail or chunk(b"IEND", b""))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("depth", "colour", "pixel_bytes"),
    [(1, 0, 1), (2, 0, 3), (8, 0, 3), (16, 0, 3), (8, 2, 3), (1, 3, 3), (8, 3, 3), (8, 4, 3), (16, 4, 3), (8, 6, 4)],
)
def test_a_png_counts_as_the_channels_that_it_becomes(depth, colour, pixel_bytes):
    assert claimed(png(30, 20, depth, colour, b""), "PNG") == [(30, 20, pixel_bytes)]


# Which pass of Adam7 a pixel of each square of eight belongs to (PNG, 8.2).
ADAM7 = [
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "77777777",
]


def interlaced_bytes(width, height, bits):
    """How many bytes the rows of all passes have, each with the byte of its filter."""
    total = 0
    for number in "1234567":
        rows = [sum(ADAM7[y % 8][x % 8] == number for x in range(width)) for y in range(height)]
        total += sum(1 + -(-columns * bits // 8) for columns in rows if columns)
    return total


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (3, 2), (4, 5), (5, 4), (5, 1), (1, 5), (9, 8), (8, 9)])
@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (1, 0), (16, 6), (8, 4), (4, 0)])
def test_an_interlaced_png_has_every_byte_of_its_passes(width, height, depth, colour):
    need = interlaced_bytes(width, height, depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour])
    assert load_image(png(width, height, depth, colour, bytes(need), interlaced=1)).shape == (height, width, 3)
    with pytest.raises(InputError) as refusal:
        load_image(png(width, height, depth, colour, bytes(need - 1), interlaced=1))
    assert refusal.value.code == "image_corrupt"


@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (1, 0), (16, 6), (8, 4), (2, 0), (8, 0), (16, 2)])
def test_a_black_png_has_every_byte_of_its_rows(depth, colour):
    need = 5 * (1 + -(-7 * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8))
    assert load_image(png(7, 5, depth, colour, bytes(need))).shape == (5, 7, 3)
    with pytest.raises(InputError) as refusal:
        load_image(png(7, 5, depth, colour, bytes(need - 1)))
    assert refusal.value.code == "image_corrupt"


def test_what_is_cut_behind_the_pixels_of_a_png_is_left_out():
    rows = (b"\0" + bytes(RED) * 4) * 4
    text = struct.pack(">I", 1000) + b"tEXtabc"
    assert load_image(png(4, 4, 8, 2, rows, tail=text))[1, 1].tolist() == list(RED)
    for cut in (struct.pack(">I", 1000) + b"IDATabc", struct.pack(">I", 1000) + b"PLTEabc"):
        assert is_damaged(png(4, 4, 8, 2, rows, tail=cut), "PNG")
    assert is_damaged(b"\x89PNG\r\n\x1a\n" + text, "PNG")
