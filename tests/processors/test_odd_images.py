"""Odd and bad images by name, each with what it is declared to become: colours at places, or a code."""

import array
import io
import struct
import sys
import threading
import time
import tracemalloc
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from processors import Access, Deadline, ImageConfig, ImageProcessor, InputError, Limits, load_image
from processors.decode.image import arrays as image_arrays
from processors.decode.image import colours as image_colours
from processors.decode.image import structure as image_structure
from processors.image import with_pixel_limits

RED, LIME, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def smooth(width=96, height=64, seed=0):
    small = np.random.RandomState(seed).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def chunk(kind, data, crc=None):
    value = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", value)


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def png(rows, depth, colour, extra=b"", size=None, interlace=0):
    """A PNG of raw rows, each without its filter byte."""
    width, height = size or (len(rows[0]) * 8 // (depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]), len(rows))
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return SIGNATURE + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + END


def tiff(tags, data, order="<", big=False):
    """A TIFF of one strip; tags are (tag, type, value or values), type 3 short, 4 long."""
    mark = b"II" if order == "<" else b"MM"
    entries, after = [], b""
    count = len(tags) + 2
    where = 8 + 2 + 12 * count + 4
    extra = []
    for tag, kind, value in tags:
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'L'}", *values)
        if len(packed) <= 4:
            entries.append((tag, struct.pack(f"{order}HHL", tag, kind, len(values)) + packed.ljust(4, b"\0")))
        else:
            extra.append(packed)
            place = where + sum(map(len, extra[:-1]))
            entries.append((tag, struct.pack(f"{order}HHLL", tag, kind, len(values), place)))
    after = b"".join(extra)
    entries.append((273, struct.pack(f"{order}HHLL", 273, 4, 1, where + len(after))))
    entries.append((279, struct.pack(f"{order}HHLL", 279, 4, 1, len(data))))
    directory = b"".join(entry for _, entry in sorted(entries))
    head = mark + struct.pack(f"{order}HL", 42, 8)
    return head + struct.pack(f"{order}H", count) + directory + bytes(4) + after + data


def grey_tiff(bits, photometric, data, size=(4, 1), order="<", more=()):
    tags = [
        (256, 4, size[0]),
        (257, 4, size[1]),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (277, 3, 1),
        (278, 4, size[1]),
        *more,
    ]
    return tiff(tags, data, order)


def bmp(pixels, bits=32, compression=0, header=40, masks=b"", size=(4, 4), palette=b""):
    head = struct.pack("<IiiHHIIiiII", header, *size, 1, bits, compression, len(pixels), 0, 0, 0, 0) + masks
    head = head.ljust(header, b"\0") if header > 40 else head
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def tga(pixels, kind=2, bits=32, size=(4, 4), flags=8):
    return struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, *size, bits, flags) + pixels


def icon(*payloads, kind=1, sizes=None):
    """An ICO or CUR of payloads, PNG or DIB."""
    place, directory, body = 6 + 16 * len(payloads), b"", b""
    for number, payload in enumerate(payloads):
        width, height = sizes[number] if sizes else (16, 16)
        directory += struct.pack("<BBBBHHII", width % 256, height % 256, 0, 0, 1, 32, len(payload), place + len(body))
        body += payload
    return struct.pack("<HHH", 0, kind, len(payloads)) + directory + body


def dib(colour, alpha=255, side=16, mask=0):
    pixels = bytes([*colour[::-1], alpha]) * side**2
    return (
        struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, 32, 0, 0, 0, 0, 0, 0) + pixels + bytes([mask]) * (4 * side)
    )


def gif(screen=(8, 8), frame=(0, 0, 8, 8), after=b"", transparent=None):
    """A GIF of a two-colour palette (lime, red), the frame all red, uncompressed codes."""
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    count = frame[2] * frame[3]
    bits = "".join(f"{code:03b}"[::-1] for number in range(count) for code in ([4, 1] if number % 2 == 0 else [1]))
    bits += f"{5:03b}"[::-1]
    data = bytes(int(bits[at : at + 8].ljust(8, "0")[::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255))
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(LIME + RED)
    return head + control + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02" + blocks + b"\0" + after + b";"


def oriented(form, value):
    exif = Image.Exif()
    exif[0x0112] = value
    image = Image.new("RGB", (32, 16), "blue")
    image.paste("red", (0, 0, 16, 16))
    return encoded(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))


def with_xmp(form, value=6):
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="{value}"/></x:xmpmeta>'
    image = Image.new("RGB", (32, 16), "red")
    if form == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        return encoded(image, form, pnginfo=info)
    return encoded(image, form, xmp=xmp.encode())


def frames(form, **options):
    """Red, then lime, then blue."""
    images = [Image.new("RGB", (24, 24), colour) for colour in (RED, LIME, BLUE)]
    return encoded(images[0], form, save_all=True, append_images=images[1:], **options)


def hidden_default():
    """An animated PNG whose first image is none of its frames: programs that know no animation show this one."""
    data = frames("PNG", default_image=True)
    return data


def claim(form, width, height):
    """A small file whose header claims another size."""
    data = bytearray(encoded(smooth(16, 16), form, **({"progressive": True} if form == "PROGRESSIVE" else {})))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


JPEG = encoded(smooth(), "JPEG", quality=90)
PROGRESSIVE = encoded(smooth(), "JPEG", quality=90, progressive=True)
GREY_JPEG = encoded(smooth().convert("L"), "JPEG", quality=90)
INK_JPEG = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
PNG = encoded(smooth())
WEBP, LOSSLESS = encoded(smooth(), "WEBP"), encoded(smooth(), "WEBP", lossless=True)
HEAD16 = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
ROWS = [b"\xff\0\0" * 4] * 4
BOMB_TEXT = zlib.compress(bytes(30_000_000))
LAYER = np.zeros((4, 4, 4), np.uint8)
LAYER[..., 0] = 255


class Refusing:
    """An object whose own way to its numbers raises."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


class Interface:
    def __init__(self, values):
        self.values = values
        self.__array_interface__ = values.__array_interface__


class Shared:
    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


FLAT = np.full((4, 6, 3), 9, np.uint8)
NINE = (9, 9, 9)

# Name: (what, the colour at (1, 1), or at places). Within two levels, as JPEG and LAB round.
READ = {
    # PNG: depths, clear colours, order of chunks
    "png grey 1": (png([b"\x40"] * 4, 1, 0, size=(4, 4)), WHITE),
    "png grey 2": (png([b"\x1b"] * 4, 2, 0), {(0, 0): BLACK, (0, 1): (85,) * 3, (0, 3): WHITE}),
    "png grey 4": (png([b"\x0f"] * 2, 4, 0), {(0, 0): BLACK, (0, 1): WHITE}),
    "png grey 16": (png([b"\x80\x00" * 4] * 4, 16, 0), (128,) * 3),
    "png grey alpha 8": (png([b"\x64\xff\x64\x00"] * 2, 8, 4), {(0, 0): (100,) * 3, (0, 1): WHITE}),
    "png grey alpha 16": (png([b"\x80\0\xff\xff\x80\0\0\0"] * 2, 16, 4), {(0, 0): (128,) * 3, (0, 1): WHITE}),
    "png rgb 16": (png([b"\xff\xff\0\0\x80\0" * 4] * 4, 16, 2), (255, 0, 128)),
    "png rgba 16": (png([b"\xff\xff\0\0\0\0\x80\0" * 2] * 2, 16, 6), (255, 127, 127)),
    "png palette 2": (png([b"\x1b"] * 2, 2, 3, chunk(b"PLTE", bytes(RED + LIME + BLUE + WHITE))), {(0, 1): LIME}),
    "png palette, clear in parts": (
        png([b"\x1b"] * 2, 2, 3, chunk(b"PLTE", bytes(RED + LIME + BLUE + BLACK)) + chunk(b"tRNS", b"\0\x80")),
        {(0, 0): WHITE, (0, 1): (127, 255, 127), (0, 2): BLUE},
    ),
    "png clear grey 1": (
        png([b"\x40"] * 4, 1, 0, chunk(b"tRNS", b"\0\0"), size=(4, 4)),
        {(0, 0): WHITE, (0, 1): WHITE},
    ),
    "png clear grey 2": (png([b"\x1b"] * 4, 2, 0, chunk(b"tRNS", b"\0\1")), {(0, 1): WHITE, (0, 0): BLACK}),
    "png clear grey 4": (png([b"\x12"] * 4, 4, 0, chunk(b"tRNS", b"\0\2")), {(0, 1): WHITE, (0, 0): (17,) * 3}),
    "png clear grey 8": (png([b"\x12\x34"] * 4, 8, 0, chunk(b"tRNS", b"\0\x34")), {(0, 1): WHITE, (0, 0): (18,) * 3}),
    "png clear grey 16": (
        png([b"\x12\x34\x12\x35"] * 4, 16, 0, chunk(b"tRNS", b"\x12\x34")),
        {(0, 0): WHITE, (0, 1): (18,) * 3},
    ),
    "png clear rgb 8": (png(ROWS, 8, 2, chunk(b"tRNS", b"\0\xff\0\0\0\0")), WHITE),
    "png clear rgb 16": (png([b"\xff\xff\0\0\x80\0" * 4] * 4, 16, 2, chunk(b"tRNS", b"\xff\xff\0\0\x80\0")), WHITE),
    "png interlaced": (png([b"\xff\0\0"], 8, 2, interlace=1), {(0, 0): RED}),
    "png profile bomb": (png(ROWS, 8, 2, chunk(b"iCCP", b"p\0\0" + BOMB_TEXT)), RED),
    "png text bomb": (png(ROWS, 8, 2, chunk(b"zTXt", b"p\0\0" + BOMB_TEXT)), RED),
    "png long text": (png(ROWS, 8, 2, chunk(b"tEXt", b"prompt\0" + b"a" * 3_000_000)), RED),
    "png bad crc of a text": (png(ROWS, 8, 2, chunk(b"tEXt", b"a\0b", 7)), RED),
    "png bad crc of a clear colour": (png(ROWS, 8, 2, chunk(b"tRNS", b"\0\xff\0\0\0\0", 7)), RED),
    "png bad gamma": (png(ROWS, 8, 2, chunk(b"gAMA", b"")), RED),
    "png without end": (png(ROWS, 8, 2)[:-12], RED),
    "png with half an end": (png(ROWS, 8, 2)[:-6], RED),
    "png and garbage": (png(ROWS, 8, 2) + b"garbage" * 99, RED),
    "png in many chunks": (
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
        + b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(b"".join(b"\0" + row for row in ROWS)))
        + END,
        RED,
    ),
    "png empty chunks": (png(ROWS, 8, 2, chunk(b"IDAT", b"") * 3), RED),
    "apng": (frames("PNG"), RED),
    "apng with another default": (hidden_default(), RED),
    # JPEG
    "jpeg without end": (JPEG[:-2], None),
    "jpeg progressive without end": (PROGRESSIVE[:-2], None),
    "jpeg and zeros": (JPEG + bytes(999), None),
    "jpeg and a video": (JPEG + b"\0\0\0\x18ftypmp42" + bytes(99), None),
    "jpeg and a cut jpeg": (JPEG + JPEG[: len(JPEG) // 2], None),
    "jpeg after fill bytes": (b"\xff\xff" + JPEG, None),
    "jpeg after a line": (b"\r\n" + JPEG, None),
    "jpeg with fill bytes inside": (JPEG[:2] + b"\xff\xff\xff" + JPEG[2:], None),
    "jpeg neutral grey": (encoded(Image.new("RGB", (64, 64), (128,) * 3), "JPEG"), (128,) * 3),
    "jpeg neutral grey without end": (encoded(Image.new("RGB", (64, 64), (128,) * 3), "JPEG")[:-2], (128,) * 3),
    "jpeg grey": (GREY_JPEG, None),
    "jpeg inks": (INK_JPEG, RED),
    "jpeg restarts": (encoded(smooth(), "JPEG", restart_marker_blocks=2), None),
    "jpeg one pixel": (encoded(Image.new("RGB", (1, 1), RED), "JPEG", quality=100), {(0, 0): RED}),
    "mpo": (
        encoded(
            Image.new("RGB", (16, 16), RED),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (16, 16), BLUE)],
            quality=100,
        ),
        RED,
    ),
    # Orientation
    "exif of png": (oriented("PNG", 6), {"size": (32, 16), (0, 0): RED, (31, 0): BLUE}),
    "exif of webp": (oriented("WEBP", 6), {"size": (32, 16), (0, 0): RED, (31, 0): BLUE}),
    "exif of tiff": (oriented("TIFF", 6), {"size": (32, 16), (0, 0): RED, (31, 0): BLUE}),
    "exif of avif": (oriented("AVIF", 6), {"size": (32, 16)}),
    "exif out of range": (oriented("JPEG", 9), {"size": (16, 32)}),
    "xmp of png": (with_xmp("PNG"), {"size": (32, 16)}),
    "xmp of jpeg": (with_xmp("JPEG"), {"size": (32, 16)}),
    "xmp of webp": (with_xmp("WEBP"), {"size": (32, 16)}),
    "exif damaged": (encoded(Image.new("RGB", (32, 16), RED), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), RED),
    # Animations: the first frame, composed
    "webp animation": (frames("WEBP", lossless=True), RED),
    "gif animation": (frames("GIF"), RED),
    "avif animation": (frames("AVIF", quality=100), RED),
    "tiff pages": (frames("TIFF"), RED),
    "gif small frame": (gif((8, 8), (2, 2, 4, 4)), {"size": (8, 8), (3, 3): RED}),
    "gif clear": (gif(transparent=1), WHITE),
    "gif frame beyond its screen": (gif((4, 4), (2, 2, 4, 4)), {"size": (6, 6), (5, 5): RED}),
    "gif without trailer": (gif()[:-1], RED),
    "gif and garbage": (gif() + b"garbage", RED),
    # TIFF
    "tiff white is zero 1": (grey_tiff(1, 0, b"\x80"), {(0, 0): BLACK, (0, 1): WHITE}),
    "tiff white is zero 2": (grey_tiff(2, 0, b"\x1b"), {(0, 0): WHITE, (0, 3): BLACK}),
    "tiff white is zero 4": (grey_tiff(4, 0, b"\x0f\x0f"), {(0, 0): WHITE, (0, 1): BLACK}),
    "tiff white is zero 8": (grey_tiff(8, 0, b"\0\x64\xff\xff"), {(0, 0): WHITE, (0, 1): (155,) * 3, (0, 2): BLACK}),
    "tiff white is zero 16": (grey_tiff(16, 0, struct.pack("<4H", 0, 65_535, 257, 0)), {(0, 0): WHITE, (0, 1): BLACK}),
    "tiff white is zero 16, big-endian": (
        grey_tiff(16, 0, struct.pack(">4H", 0, 65_535, 25_700, 0), order=">"),
        {(0, 0): WHITE, (0, 1): BLACK, (0, 2): (155,) * 3},
    ),
    "tiff grey 2": (grey_tiff(2, 1, b"\x1b"), {(0, 0): BLACK, (0, 3): WHITE}),
    "tiff grey 12": (grey_tiff(12, 1, b"\xff\xf8\x00\x00\x00\x00"), {(0, 0): WHITE, (0, 1): (128,) * 3, (0, 2): BLACK}),
    "tiff white is zero 12": (grey_tiff(12, 0, b"\xff\xf8\x00\x00\x00\x00"), {(0, 0): BLACK, (0, 2): WHITE}),
    "tiff grey 16 big-endian": (grey_tiff(16, 1, b"\x80\0" * 4, order=">"), {(0, 0): (128,) * 3}),
    "tiff planes": (
        tiff(
            [
                (256, 4, 2),
                (257, 4, 1),
                (258, 3, (8, 8, 8)),
                (259, 3, 1),
                (262, 3, 2),
                (277, 3, 3),
                (278, 4, 1),
                (284, 3, 1),
            ],
            b"\xff\0\0\0\xff\0",
        ),
        {(0, 0): RED, (0, 1): LIME},
    ),
    "tiff lab": (encoded(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF"), WHITE),
    "tiff inks": (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), RED),
    "tiff jpeg": (
        encoded(Image.new("RGB", (16, 16), (200, 10, 10)), "TIFF", compression="jpeg", quality=100),
        (200, 10, 10),
    ),
    "tiff lzw": (encoded(Image.new("RGB", (16, 16), RED), "TIFF", compression="tiff_lzw"), RED),
    "tiff group 4": (encoded(Image.new("1", (16, 16), 1), "TIFF", compression="group4"), WHITE),
    "tiff packbits": (encoded(Image.new("L", (16, 16), 100), "TIFF", compression="packbits"), (100,) * 3),
    "tiff clear": (encoded(Image.fromarray(LAYER), "TIFF"), WHITE),
    "tiff big": (encoded(Image.new("RGB", (8, 8), RED), "TIFF", big_tiff=True), RED),
    "tiff int 32": (encoded(Image.fromarray(np.full((4, 4), 32_768, np.int32)), "TIFF"), (128,) * 3),
    # BMP, ICO, TGA
    "bmp unused alpha": (bmp(bytes([30, 200, 10, 0]) * 16), (10, 200, 30)),
    "bmp unused alpha in fields": (
        bmp(bytes([30, 200, 10, 0]) * 16, 32, 3, 124, struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (10, 200, 30),
    ),
    "bmp used alpha": (
        bmp(
            bytes([30, 200, 10, 0]) * 15 + bytes([30, 200, 10, 255]),
            32,
            3,
            124,
            struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        ),
        {(0, 0): WHITE, (0, 3): (10, 200, 30)},
    ),
    "bmp top-down": (
        bmp(bytes([0, 0, 255, 0]) * 8 + bytes([255, 0, 0, 0]) * 8, size=(4, -4)),
        {(0, 0): RED, (3, 0): BLUE},
    ),
    "bmp 5 bits": (bmp(struct.pack("<H", 0x7C00) * 16, 16), RED),
    "bmp run-length": (
        bmp(b"\x04\x01\0\0" * 4 + b"\0\1", 8, 1, palette=bytes(4) + b"\0\0\xff\0" + bytes(254 * 4)),
        RED,
    ),
    "bmp as a clipboard holds it": (encoded(Image.new("RGB", (8, 8), RED), "DIB"), RED),
    "ico unused alpha": (icon(dib(RED, 0)), RED),
    "ico alpha": (icon(dib(RED, 255)), RED),
    "ico largest": (
        icon(dib(RED), dib(BLUE, side=32), dib(LIME, side=8), sizes=[(16, 16), (32, 32), (8, 8)]),
        {"size": (32, 32), (1, 1): BLUE},
    ),
    "ico of 256": (
        icon(dib(RED), encoded(Image.new("RGB", (256, 256), BLUE)), sizes=[(16, 16), (0, 0)]),
        {"size": (256, 256), (1, 1): BLUE},
    ),
    "ico png with garbage between": (icon(encoded(Image.new("RGB", (16, 16), RED)) + b"garbage"), RED),
    "cur": (icon(dib(RED), kind=2), RED),
    "cur largest": (
        icon(dib(RED), dib(BLUE, side=32), kind=2, sizes=[(16, 16), (32, 32)]),
        {"size": (32, 32), (1, 1): BLUE},
    ),
    "icns": (encoded(Image.new("RGBA", (16, 16), (255, 0, 0, 255)), "ICNS"), RED),
    "tga unused alpha": (tga(bytes([30, 200, 10, 0]) * 16), (10, 200, 30)),
    "tga run-length": (encoded(Image.new("RGB", (16, 16), RED), "TGA", compression="tga_rle"), RED),
    "tga grey": (tga(bytes([77]) * 16, 3, 8, flags=0), (77,) * 3),
    # Others that Pillow opens
    "pgm 16": (b"P5\n2 2\n65535\n" + b"\x80\0" * 4, (128,) * 3),
    "pgm of 1000 levels": (b"P5\n2 2\n1000\n" + struct.pack(">H", 500) * 4, (128,) * 3),
    "ppm 16": (b"P6\n2 2\n65535\n" + b"\xff\xff\0\0\0\0" * 4, RED),
    "ppm plain": (b"P3\n# remark\n2 2 255\n" + b"255 0 0 " * 4, RED),
    "pbm": (b"P4\n8 2\n\x0f\x0f", {(0, 0): WHITE, (0, 4): BLACK}),
    "pbm plain": (b"P1\n2 2\n1 0 0 1\n", {(0, 0): BLACK, (0, 1): WHITE}),
    "ppm after a byte order mark": (b"\xef\xbb\xbfP6\n2 2\n255\n" + bytes(RED) * 4, RED),
    "pcx": (encoded(Image.new("RGB", (16, 16), RED), "PCX"), RED),
    "sgi": (encoded(Image.new("RGB", (16, 16), RED), "SGI"), RED),
    "qoi": (encoded(Image.new("RGB", (16, 16), RED), "QOI"), RED),
    "dds": (encoded(Image.new("RGB", (16, 16), RED), "DDS"), RED),
    "blp": (encoded(Image.new("P", (16, 16), 0), "BLP"), None),
    "msp": (encoded(Image.new("1", (16, 16), 1), "MSP"), WHITE),
    "xbm": (encoded(Image.new("1", (16, 16), 1), "XBM"), WHITE),
    "xpm": (b'/* XPM */\nstatic char *a[] = {\n"2 2 1 1",\n"a c #ff0000",\n"aa",\n"aa"\n};\n', RED),
    "jpeg 2000": (encoded(Image.new("RGB", (16, 16), RED), "JPEG2000"), RED),
    "jpeg 2000 code stream": (encoded(Image.new("RGB", (16, 16), RED), "JPEG2000", no_jp2=True), RED),
    "jpeg 2000 grey 16": (encoded(Image.fromarray(np.full((16, 16), 32_768, np.uint16)), "JPEG2000"), (128,) * 3),
    "psd": (
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, 8, 3) + bytes(12) + b"\0\0" + b"\xff" * 4 + bytes(8),
        RED,
    ),
    "sun": (struct.pack(">8I", 0x59A66A95, 2, 2, 24, 12, 1, 0, 0) + b"\0\0\xff" * 4, RED),
    # Modes and arrays
    "hsv": (Image.new("HSV", (4, 4), (0, 255, 255)), RED),
    "ycbcr": (Image.new("RGB", (4, 4), RED).convert("YCbCr"), RED),
    "lab": (Image.new("LAB", (4, 4), (0, 128, 128)), BLACK),
    "premultiplied": (Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert("RGBa"), WHITE),
    "palette with alpha": (Image.new("RGBA", (4, 4), (255, 0, 0, 0)).convert("PA"), WHITE),
    "one bit": (Image.new("1", (4, 4), 1), WHITE),
    "memoryview": (memoryview(FLAT), NINE),
    "array interface": (Interface(FLAT), NINE),
    "dlpack": (Shared(FLAT), NINE),
    "negative strides": (FLAT[::-1, ::-1], NINE),
    "columns first": (np.asfortranarray(FLAT), NINE),
    "moved channels": (np.moveaxis(np.full((3, 4, 6), 9, np.uint8), 0, -1), NINE),
    "big-endian levels": (np.full((4, 4), 32_768, ">u2"), (128,) * 3),
    "one pixel many times": (np.broadcast_to(np.array(NINE, np.uint8), (50, 60, 3)), NINE),
}

REFUSED = {
    # Damaged
    "png bad crc": (PNG[:-20] + bytes([PNG[-20] ^ 1]) + PNG[-19:], "image_corrupt"),
    "png bad crc of a palette": (png([b"\x1b"], 2, 3, chunk(b"PLTE", bytes(12), 7)), "image_corrupt"),
    "png bad crc of its header": (
        png(ROWS, 8, 2).replace(b"\x08\x02\0\0\0", b"\x08\x02\0\0\0", 1)[:29] + b"\0\0\0\0" + png(ROWS, 8, 2)[33:],
        "image_corrupt",
    ),
    "png cut in its pixels": (PNG[: len(PNG) // 2], "image_corrupt"),
    "png short of rows": (png(ROWS[:2], 8, 2, size=(4, 4)), "image_corrupt"),
    "png without pixels": (SIGNATURE + chunk(b"IHDR", HEAD16) + END, "image_corrupt"),
    "png header alone": (PNG[:20], "image_corrupt"),
    "png magic alone": (PNG[:8], "image_corrupt"),
    "png chunk without end": (SIGNATURE + chunk(b"IHDR", HEAD16) + b"\xff\xff\xff\xffIDAT", "image_corrupt"),
    "png of no width": (png(ROWS, 8, 2, size=(0, 4)), "image_empty"),
    "jpeg cut": (JPEG[: len(JPEG) // 2], "image_corrupt"),
    "jpeg cut and ended": (JPEG[: len(JPEG) // 2] + b"\xff\xd9", "image_corrupt"),
    "jpeg cut late and ended": (JPEG[: int(len(JPEG) * 0.97)] + b"\xff\xd9", "image_corrupt"),
    "jpeg cut and ended before another": (JPEG[: len(JPEG) // 2] + b"\xff\xd9" + JPEG, "image_corrupt"),
    "jpeg of 12 bits": (JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"), "image_corrupt"),
    "jpeg grey, cut and ended": (GREY_JPEG[: len(GREY_JPEG) // 2] + b"\xff\xd9", "image_corrupt"),
    "jpeg restarts, cut and ended": (
        encoded(smooth(), "JPEG", restart_marker_blocks=2)[:900] + b"\xff\xd9",
        "image_corrupt",
    ),
    "jpeg progressive, cut": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "image_corrupt"),
    "jpeg progressive, scans missing": (PROGRESSIVE[: PROGRESSIVE.rfind(b"\xff\xda")] + b"\xff\xd9", "image_corrupt"),
    "jpeg progressive, too many scans": (
        PROGRESSIVE[:-2] + PROGRESSIVE[PROGRESSIVE.rfind(b"\xff\xda") : -2] * 600 + b"\xff\xd9",
        "image_corrupt",
    ),
    "jpeg without a scan": (JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9", "image_corrupt"),
    "jpeg start alone": (b"\xff\xd8\xff", "image_corrupt"),
    "webp cut": (WEBP[: len(WEBP) - 10], "image_corrupt"),
    "webp lossless cut": (LOSSLESS[: len(LOSSLESS) // 2], "image_corrupt"),
    "webp cut, its size made to fit": (
        b"RIFF" + struct.pack("<I", len(WEBP) // 2 - 8) + WEBP[8 : len(WEBP) // 2],
        "image_corrupt",
    ),
    "webp of no chunk": (b"RIFF\x04\0\0\0WEBP", "image_corrupt"),
    "gif cut": (gif()[:30], "image_corrupt"),
    "gif header alone": (gif()[:13], "image_corrupt"),
    "bmp cut": (bmp(bytes(64))[:80], "image_corrupt"),
    "bmp run-length cut": (bmp(b"\x04\x01", 8, 1, palette=bytes(1024)), "image_corrupt"),
    "tiff cut": (encoded(smooth(), "TIFF")[:9000], "image_corrupt"),
    "tiff lzw cut": (encoded(smooth(), "TIFF", compression="tiff_lzw")[:5000], "image_corrupt"),
    "tiff of too few strips": (
        grey_tiff(8, 1, bytes(400), (20, 20)).replace(
            struct.pack("<HHLL", 278, 4, 1, 20), struct.pack("<HHLL", 278, 4, 1, 10)
        ),
        "image_corrupt",
    ),
    "tiff of too few planes": (
        tiff(
            [
                (256, 4, 2),
                (257, 4, 1),
                (258, 3, (8, 8, 8)),
                (259, 3, 1),
                (262, 3, 2),
                (277, 3, 3),
                (278, 4, 1),
                (284, 3, 2),
            ],
            b"\xff\0\0\0\xff\0",
        ),
        "image_corrupt",
    ),
    "tiff of 60,000 tags": (b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + bytes(720_000), "image_corrupt"),
    "tiff directory beyond its end": (b"II*\0\xff\xff\xff\x7f" + bytes(99), "image_corrupt"),
    "avif cut": (encoded(smooth(), "AVIF")[:-50], "image_corrupt"),
    "jpeg 2000 without tiles": (encoded(smooth(), "JPEG2000")[:150], "image_corrupt"),
    "ico of nothing": (icon(b"x" * 20), "image_corrupt"),
    "ico png cut": (icon(PNG[: len(PNG) // 2]), "image_corrupt"),
    "tga cut": (tga(b"\x80", 10), "image_corrupt"),
    "ppm cut": (b"P6\n20 20\n255\n" + bytes(30), "image_corrupt"),
    "ppm of no number": (b"P6\nx y\n255\n" + bytes(30), "image_corrupt"),
    # Not to be told or not to be read
    "tiff floats": (encoded(Image.new("F", (4, 4)), "TIFF"), "image_dtype"),
    "pfm": (b"Pf\n2 2\n-1.0\n" + bytes(16), "image_dtype"),
    "spider": (encoded(Image.new("F", (16, 16)), "SPIDER"), "image_dtype"),
    "tiff int 32 beyond 16 bits": (encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), "image_range"),
    "raw file": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "image_unknown_format"),
    "digital negative": (
        tiff([(254, 3, 1), (256, 4, 4), (257, 4, 1), (258, 3, 8), (262, 3, 1), (50_706, 4, 1)], bytes(4)),
        "image_unknown_format",
    ),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unknown_format"),
    "compressed fits": (b"SIMPLE  =                    T" + b"ZCMPTYPE" + bytes(3000), "image_unknown_format"),
    # Bombs
    "png bomb": (encoded(Image.new("1", (9000, 9000))), "image_too_large"),
    "png claim": (
        SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0)),
        "image_too_large",
    ),
    "png small claim": (
        SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 6000, 6000, 8, 6, 0, 0, 0)),
        "image_too_large",
    ),
    "jpeg claim": (claim("JPEG", 65_500, 65_500), "image_too_large"),
    "jpeg small claim": (claim("JPEG", 9000, 9000), "image_too_large"),
    "webp bomb": (encoded(Image.new("RGB", (5000, 5000)), "WEBP", lossless=True, method=0), "image_too_large"),
    "webp canvas": (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6, "image_too_large"),
    "gif screen": (gif((65_535, 65_535)), "image_too_large"),
    "gif frame": (b"GIF89a\x08\0\x08\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;", "image_too_large"),
    "bmp claim": (bmp(b"", 24, size=(10_000, 10_000)), "image_too_large"),
    "bmp run-length claim": (bmp(b"\0\1", 8, 1, size=(10_000, 10_000), palette=bytes(1024)), "image_too_large"),
    "tiff claim": (grey_tiff(8, 1, b"", (60_000, 60_000)), "image_too_large"),
    "tiff tile claim": (grey_tiff(8, 1, b"", (16, 16), more=[(322, 4, 60_000), (323, 4, 60_000)]), "image_too_large"),
    "jpeg 2000 claim": (
        encoded(Image.new("RGB", (16, 16)), "JPEG2000", no_jp2=True).replace(
            struct.pack(">II", 16, 16), struct.pack(">II", 90_000, 90_000), 1
        ),
        "image_too_large",
    ),
    "ico png claim": (
        icon(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 6, 0, 0, 0))),
        "image_too_large",
    ),
    "ico dib claim": (icon(struct.pack("<IiiHHIIiiII", 40, 9000, 18_000, 1, 32, 0, 0, 0, 0, 0, 0)), "image_too_large"),
    "icns png claim": (
        b"icns"
        + struct.pack(">I", 60)
        + b"ic07"
        + struct.pack(">I", 52)
        + SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 6, 0, 0, 0))
        + bytes(11),
        "image_too_large",
    ),
    "tga claim": (tga(b"\xff\0\0\0\0", 10, size=(9000, 9000)), "image_too_large"),
    "qoi claim": (b"qoif" + struct.pack(">IIBB", 9000, 9000, 4, 0) + b"\xfd" * 9, "image_too_large"),
    "psd claim": (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9000, 9000, 8, 3) + bytes(62), "image_too_large"),
    "ppm claim": (b"P6 9000 9000 255\n", "image_too_large"),
    # Arrays
    "one pixel ten billion times": (np.broadcast_to(np.uint8(0), (10**5, 10**5)), "image_too_large"),
    "raising array": (Refusing(RuntimeError("at 0x7f00dead")), "array_unreadable"),
    "array that is too deep": (Refusing(RecursionError()), "array_unreadable"),
    "array without memory": (Refusing(MemoryError()), "image_too_large"),
    "objects": (np.array([[None] * 4] * 4), "image_dtype"),
    "booleans": (np.zeros((4, 4), bool), "image_dtype"),
    "int 32": (np.zeros((4, 4, 3), np.int32), "image_dtype"),
    "floats": (np.zeros((4, 4, 3)), "image_dtype"),
    "complex": (np.zeros((4, 4), complex), "image_dtype"),
    "words": (np.array([["a"] * 4] * 4), "image_dtype"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), "image_shape"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "image_shape"),
    "one number": (np.uint8(3), "image_shape"),
    "array of the standard library": (array.array("B", bytes(16)), "image_shape"),
    "dictionary": ({"image": 1}, "image_unknown_format"),
    "a number": (3, "image_unknown_format"),
    "a function": (len, "image_unknown_format"),
}


@pytest.mark.parametrize("name", READ)
def test_odd_images_are_read(name):
    source, want = READ[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = load_image(source)
    assert made.dtype == np.uint8 and made.shape[2] == 3
    if want is None:
        form = {"jpeg grey": GREY_JPEG}.get(name, PROGRESSIVE if "progressive" in name else JPEG)
        if name == "jpeg restarts" or name == "blp":
            form = source
        np.testing.assert_array_equal(made, np.asarray(Image.open(io.BytesIO(form)).convert("RGB")))
        return
    places = dict(want) if isinstance(want, dict) else {(1, 1): want}
    if "size" in places:
        assert made.shape[:2] == places.pop("size")
    for place, colour in places.items():
        assert np.abs(made[place].astype(int) - colour).max() <= 2, (place, made[place])


@pytest.mark.parametrize("name", REFUSED)
def test_bad_images_are_refused(name):
    source, code = REFUSED[name]
    bomb = code == "image_too_large"
    if bomb:
        tracemalloc.start()
    with pytest.raises(InputError) as refusal:
        load_image(source)
    if bomb:
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
        tracemalloc.stop()
    assert refusal.value.code == code, refusal.value
    text = str(refusal.value)
    assert len(text) <= 500 and "\n" not in text and "0x" not in text


def test_there_are_only_so_many_chunks(monkeypatch):
    monkeypatch.setattr(image_structure, "_MOST_CHUNKS", 1000)
    with pytest.raises(InputError) as refusal:
        load_image(png(ROWS, 8, 2, chunk(b"teXt", b"") * 1000))
    assert refusal.value.code == "image_corrupt"


def test_every_cut_of_every_format_is_refused():
    """A tenth at a time; what is last in a file and no pixel (an end mark, a footer) may be missing."""
    forms = "PNG JPEG PROGRESSIVE WEBP GIF BMP TIFF AVIF JPEG2000 PPM ICO PCX SGI TGA QOI DDS"
    for form in forms.split():
        data = PROGRESSIVE if form == "PROGRESSIVE" else encoded(smooth(), form)
        for tenth in range(1, 10):
            with pytest.raises(InputError):
                load_image(data[: len(data) * tenth // 10])


@pytest.mark.parametrize(
    "name",
    [
        "png cut in its pixels",
        "jpeg cut",
        "jpeg cut and ended",
        "webp cut",
        "gif cut",
        "bmp cut",
        "tiff cut",
        "tiff lzw cut",
        "tga cut",
        "png bad crc",
        "ppm cut",
    ],
)
def test_a_setting_of_the_whole_process_lets_nothing_cut_through(name, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError):
        load_image(REFUSED[name][0])
    assert load_image(JPEG).shape == load_image(PNG).shape == load_image(WEBP).shape == (64, 96, 3)
    assert load_image(gif()).shape == (8, 8, 3) and load_image(tga(bytes(64))).shape == (4, 4, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("most", [100, 10_000, None])
def test_pillows_own_limit_neither_warns_nor_changes(form, most, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    if form == "WEBP" and most == 100:
        most = 4000  # what Pillow refuses it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    data = encoded(smooth(), form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(data).shape == (64, 96, 3)
    assert most == Image.MAX_IMAGE_PIXELS


def test_a_png_may_lack_its_end():
    np.testing.assert_array_equal(load_image(PNG[:-12]), load_image(PNG))
    with pytest.raises(InputError):
        load_image(PNG[:-13])  # and none of its pixels


@pytest.mark.parametrize("data", [JPEG, GREY_JPEG], ids=["colour", "grey"])
def test_an_end_mark_makes_no_half_jpeg_whole(data):
    for share in (0.5, 0.8):
        with pytest.raises(InputError) as refusal:
            load_image(data[: int(len(data) * share)] + b"\xff\xd9")
        assert refusal.value.code == "image_corrupt"


@pytest.mark.parametrize("frame", [(1, 0, 7, 8), (0, 1, 8, 7), (0, 0, 7, 8), (0, 0, 8, 7), (0, 0, 8, 8)])
def test_what_a_frame_of_a_gif_does_not_cover_is_white(frame):
    left, top, width, height = frame
    want = np.full((8, 8, 3), 255, np.uint8)
    want[top : top + height, left : left + width] = RED
    np.testing.assert_array_equal(load_image(gif((8, 8), frame)), want)


def test_the_orientation_in_a_long_text_of_a_png_is_read():
    """Editing programs write histories of hundreds of kilobytes into XMP."""
    info = PngImagePlugin.PngInfo()
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d>{" " * 900_000}</d><d tiff:Orientation="6"/></x:xmpmeta>'
    info.add_itxt("XML:com.adobe.xmp", xmp)
    assert load_image(encoded(Image.new("RGB", (32, 16), "red"), pnginfo=info)).shape == (32, 16, 3)


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF", "JPEG", "WEBP", "AVIF"])
def test_one_image_in_many_threads(form, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(frames(form) if form in ("GIF", "TIFF", "WEBP", "AVIF") else encoded(smooth(400, 300), form))
    want = load_image(path)
    for _ in range(3):
        image, made, start = Image.open(path), [], threading.Barrier(16)

        def read(image=image, made=made, start=start):
            start.wait()
            try:
                made.append(load_image(image))
            except BaseException as error:  # shown by the comparison below
                made.append(error)

        threads = [threading.Thread(target=read) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        image.close()
        assert len(made) == 16
        for pixels in made:
            np.testing.assert_array_equal(pixels, want)


def test_one_image_many_times_in_a_list(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    made = ImageProcessor()([Image.open(path)] * 8)
    assert len(made.grid_thw) == 8 and (made.pixels.reshape(8, -1) == made.pixels.reshape(8, -1)[0]).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP"])
def test_a_closed_image_is_called_closed(form, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(encoded(smooth(), form))
    with Image.open(path) as image:
        pass
    gone = Image.open(path)
    gone.load()
    gone.close()
    for closed in (image, gone):
        with pytest.raises(InputError) as refusal:
            load_image(closed)
        assert refusal.value.code == "image_closed" and "closed" in str(refusal.value)
    with Image.open(path) as loaded:
        loaded.load()
    assert load_image(loaded).shape == (64, 96, 3)
    file = io.BytesIO(path.read_bytes())
    lazy = Image.open(file)
    file.close()
    with pytest.raises(InputError) as refusal:
        load_image(lazy)
    assert refusal.value.code == "image_closed"


class Bare:
    """As much of a file as Pillow needs; whether it is closed it does not tell."""

    def __init__(self, data):
        self._file = io.BytesIO(data)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


class Broken(Image.Image):
    """A picture of no file, which cannot be loaded."""

    def load(self):
        raise OSError("broken")


def test_a_damaged_image_is_not_called_closed():
    broken = Broken()
    broken._size, broken._mode = (64, 64), "RGB"
    with pytest.raises(InputError) as refusal:
        load_image(broken)
    assert refusal.value.code == "image_corrupt"
    files: list[Any] = [Bare(JPEG[: len(JPEG) // 2]), io.BytesIO(JPEG[: len(JPEG) // 2]), Bare(JPEG)]
    for file in files[:2]:
        with pytest.raises(InputError) as refusal:
            load_image(Image.open(file))
        assert refusal.value.code == "image_corrupt"
    assert load_image(Image.open(files[2])).shape == (64, 96, 3)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_an_open_image_the_frame_that_it_shows(form):
    image = Image.open(io.BytesIO(frames(form, **({"lossless": True} if form == "WEBP" else {}))))
    for number, colour in ((2, BLUE), (0, RED), (1, LIME)):
        image.seek(number)
        assert load_image(image)[5, 5].tolist() == list(colour) and image.tell() == number


class Panic(BaseException):
    """Like what a library written in Rust raises."""


Panic.__name__ = "PanicException"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError(),
        struct.error("x"),
        OverflowError(),
        Panic(),
        SyntaxError("x"),
        AssertionError(),
        EOFError(),
        KeyError("x"),
        zlib.error("x"),
        UserWarning("at 0x7f00dead00"),
        NotImplementedError(),
    ],
)
@pytest.mark.parametrize("place", ["open", "load"])
def test_whatever_a_decoder_raises_becomes_one_error(error, place, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "_open" if place == "open" else "load", fail)
    with pytest.raises(InputError) as refusal:
        load_image(PNG)
    assert refusal.value.code == ("image_too_large" if isinstance(error, MemoryError) else "image_corrupt")
    assert "0x" not in str(refusal.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_ends_it(error, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(error):
        load_image(PNG)


def test_a_deadline_ends_a_slow_decoder():
    cancelled = Deadline()
    cancelled.cancel()
    for source in (PNG, smooth(), FLAT):
        with pytest.raises(InputError) as refusal:
            load_image(source, access=Access(deadline=cancelled))
        assert refusal.value.code == "cancelled"
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (300, 300, 3)).astype(np.uint8))
    with pytest.raises(InputError) as refusal:
        load_image(encoded(noise, "QOI"), access=Access(deadline=Deadline(0.05)))
    assert refusal.value.code == "deadline"


def test_slow_decoders_get_small_images():
    with pytest.raises(InputError, match="PNG") as refusal:
        load_image(b"P3\n4000 3000\n255\n" + b"1 " * 100_000)
    assert refusal.value.code == "image_too_large"


@pytest.mark.parametrize(
    ("limits", "source"),
    [
        ({"image_pixels": 6143}, PNG),
        ({"image_pixels": 6143}, smooth()),
        ({"image_pixels": 23}, FLAT),
        ({"free_bytes": 1000, "image_expansion": 2}, encoded(Image.new("RGB", (50, 50)))),
        ({"resized_pixels": 6000}, PNG),
        ({"media_tokens": 5}, PNG),
    ],
)
def test_limits_are_those_of_the_call(limits, source):
    with pytest.raises(InputError) as refusal:
        ImageProcessor()(source, access=Access(Limits(**limits)))
    assert refusal.value.code == "image_too_large"
    ImageProcessor()(source)


def test_the_limit_of_encoded_bytes(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    for source in (path, PNG, io.BytesIO(PNG)):
        with pytest.raises(InputError) as refusal:
            load_image(source, access=Access(Limits(image_bytes=len(PNG) - 1)))
        assert refusal.value.code == "source_too_large"
        load_image(source, access=Access(Limits(image_bytes=len(PNG))))


def test_a_message_cannot_ask_for_more_than_the_limit():
    dot = encoded(Image.new("RGB", (1, 1)))
    with pytest.raises(InputError) as refusal:
        ImageProcessor()(dot, min_pixels=40_000_000, max_pixels=50_000_000)
    assert refusal.value.code == "image_too_large"
    assert len(ImageProcessor()(dot, max_pixels=1 << 60).grid_thw) == 1


@pytest.mark.parametrize(
    "value", ["5", float("nan"), float("inf"), True, 2**70, -1, 0, 1.5, [5], np.float32("nan"), -(2**70)]
)
def test_pixel_limits_are_whole_numbers(value):
    for options in ((value, None), (None, value)):
        with pytest.raises(InputError) as refusal:
            with_pixel_limits(ImageConfig(), *options)
        assert refusal.value.code == "pixel_limits" and len(str(refusal.value)) < 200
    config = with_pixel_limits(ImageConfig(), np.int64(4096), 8192.0)
    assert (config.min_pixels, config.max_pixels) == (4096, 8192) and type(config.max_pixels) is int


def test_strips_give_what_the_whole_gives(monkeypatch):
    rng = np.random.RandomState(0)
    layers = [Image.fromarray(rng.randint(0, 256, (90, 70, 4)).astype(np.uint8))]
    layers += [layers[0].convert("LA"), Image.fromarray(rng.randint(0, 65_536, (90, 70)).astype(np.uint16))]
    want = [load_image(layer) for layer in layers]
    paper = Image.new("RGBA", (70, 90), "white")
    paper.alpha_composite(layers[0])
    np.testing.assert_array_equal(want[0], np.asarray(paper.convert("RGB")))
    monkeypatch.setattr(image_colours, "_STRIP_PIXELS", 70 * 13)
    monkeypatch.setattr(image_arrays, "_STRIP_LEVELS", 70 * 7)
    for layer, pixels in zip(layers, want, strict=True):
        np.testing.assert_array_equal(load_image(layer), pixels)
    deep = rng.randint(0, 65_536, (90, 70, 3)).astype(np.uint16)
    np.testing.assert_array_equal(load_image(deep), np.rint(deep / 257).astype(np.uint8))
    turned = np.asarray(layers[0])[::-1, :, :3]
    np.testing.assert_array_equal(load_image(turned), turned)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    image = smooth(64, 48)
    buffer = io.BytesIO()
    heif.from_pillow(image).save(buffer, quality=95)
    before = dict(Image.OPEN)
    made = load_image(buffer.getvalue())
    assert before == Image.OPEN  # nothing of the whole process is changed
    assert np.abs(made.astype(int) - np.asarray(image)).mean() < 6
    for data in (buffer.getvalue()[:-200], buffer.getvalue()[:100]):
        with pytest.raises(InputError) as refusal:
            load_image(data)
        assert refusal.value.code == "image_corrupt"
    with pytest.raises(InputError) as refusal:
        load_image(buffer.getvalue(), access=Access(Limits(image_pixels=100)))
    assert refusal.value.code == "image_too_large"


def test_a_jpeg_too_small_for_its_blocks_is_refused_before_it_is_decoded(monkeypatch):
    def fail(*args, **options):
        raise AssertionError("decoded")

    data = claim("JPEG", 4000, 5000)
    monkeypatch.setattr(Image, "OPEN", {"JPEG": (fail, None)})
    with pytest.raises(InputError) as refusal:
        load_image(data)
    assert refusal.value.code == "image_corrupt"
    monkeypatch.undo()
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        for mode in ("RGB", "L", "CMYK"):
            plain = encoded(Image.new(mode, (1500, 1100)), "JPEG", optimize=True, **options)
            assert load_image(plain).shape == (1100, 1500, 3)


def test_a_blank_scan_of_one_bit_is_no_bomb():
    page = Image.new("1", (4960, 7016), 1)
    assert load_image(encoded(page, "TIFF", compression="group4")).shape == (7016, 4960, 3)


def peak_memory():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) << 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from /proc")
def test_bombs_take_no_memory():
    for name, (source, code) in REFUSED.items():
        if code != "image_too_large":
            continue
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        before, began = peak_memory(), time.thread_time()
        with pytest.raises(InputError):
            load_image(source)
        assert peak_memory() - before < 1 << 25, name
        assert time.thread_time() - began < 0.5, name


@pytest.mark.parametrize("missing", [0, 1, 150])
def test_a_large_image_with_a_black_end_is_counted(missing):
    noise = np.random.RandomState(0).randint(0, 256, (300, 300, 3)).astype(np.uint8)
    noise[140:] = 0
    data = png([row.tobytes() for row in noise[: 300 - missing]], 8, 2, size=(300, 300))
    assert len(data) > 1 << 16
    if not missing:
        np.testing.assert_array_equal(load_image(data), noise)
        return
    with pytest.raises(InputError) as refusal:
        load_image(data)
    assert refusal.value.code == "image_corrupt"
