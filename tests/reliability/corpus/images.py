"""Pictures: whole ones of every format that is read, odd ones that people have, damaged ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from processors import ImageProcessor, load_image, sniff
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo

CASES = Table("image")
CORRUPT = Refused("image_corrupt", "image_unknown_format", "image_truncated", "image_empty", "image_too_large")


def sized(width: int, height: int) -> Value:
    return Value(lambda pixels: pixels.shape == (height, width, 3) and pixels.dtype == np.uint8, f"{width} x {height}")


def colour(rgb: tuple[int, int, int], at: tuple[int, int] = (5, 5), tolerance: int = 2) -> Value:
    return Value(lambda pixels: np.abs(pixels[at].astype(int) - rgb).max() <= tolerance, f"with {rgb} at {at}")


# --- every format, mode and depth -------------------------------------------------------------------------------------
for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA", "PCX", "SGI", "DIB"):
    CASES.add(f"whole {form}", lambda f=form: media.image_bytes(media.picture(48, 48), f), load_image, sized(48, 48))
for mode in ("1", "L", "P", "LA", "RGBA", "I;16"):
    CASES.add(
        f"PNG of mode {mode}",
        lambda m=mode: media.image_bytes(
            Image.fromarray(np.full((20, 30), 900, np.uint16)) if m == "I;16" else media.picture(30, 20, m)
        ),
        load_image,
        sized(30, 20),
    )
for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"):
    CASES.add(
        f"TIFF of mode {mode}",
        lambda m=mode: media.image_bytes(
            media.picture(30, 20).convert("RGB").convert(m) if m != "LAB" else Image.new("LAB", (30, 20)), "TIFF"
        ),
        load_image,
        sized(30, 20),
    )
for packing in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
    CASES.add(
        f"TIFF packed as {packing}",
        lambda p=packing: media.image_bytes(media.picture(30, 20), "TIFF", compression=p),
        load_image,
        sized(30, 20),
    )
for depth in (1, 2, 4, 8, 16):
    CASES.add(f"grey PNG of {depth} bits", lambda d=depth: media.png(30, 20, d, 0), load_image, colour((0, 0, 0)))
CASES.add("progressive JPEG", lambda: media.image_bytes(form="JPEG", progressive=True), load_image, sized(64, 48))
CASES.add("CMYK JPEG", lambda: media.image_bytes(media.picture(mode="CMYK"), "JPEG"), load_image, sized(64, 48))
CASES.add("interlaced GIF", lambda: media.image_bytes(form="GIF", interlace=True), load_image, sized(64, 48))
CASES.add(
    "lossless WebP",
    lambda: media.image_bytes(form="WEBP", lossless=True),
    load_image,
    colour(tuple(np.asarray(media.picture())[5, 5].tolist()), tolerance=0),
)
for orientation in range(1, 9):

    def turned(o=orientation) -> bytes:
        tags = Image.Exif()
        tags[0x0112] = o
        return media.image_bytes(form="JPEG", exif=tags)

    CASES.add(
        f"EXIF orientation {orientation}", turned, load_image, sized(*((64, 48) if orientation < 5 else (48, 64)))
    )


def white_is_zero(bits: int = 8) -> bytes:
    """A grey TIFF whose 0 is white, by hand."""
    width = height = 16
    data = bytes(width * height * bits // 8)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 0),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + ifd


for bits in (1, 4, 8, 16):
    CASES.add(
        f"TIFF of {bits} bits whose zero is white", lambda b=bits: white_is_zero(b), load_image, colour((255,) * 3)
    )
CASES.add("BMP of 32 bits with an unused alpha", media.bmp_with_unused_alpha, load_image, colour((10, 200, 30)))
CASES.add("GIF with G at byte 188", media.gif_with_palette_of_g, sniff, Value(lambda kind: kind == "image"))
CASES.add(
    "GIF with G at byte 188, encoded",
    media.gif_with_palette_of_g,
    lambda data: demo().encode(data).kind,
    Value(lambda kind: kind == "image"),
)
CASES.add(
    "see-through PNG is laid on white",
    lambda: media.image_bytes(Image.new("RGBA", (20, 20))),
    load_image,
    colour((255, 255, 255)),
)
CASES.add(
    "see-through palette",
    lambda: media.image_bytes(Image.new("P", (20, 20)), "GIF", transparency=0),
    load_image,
    colour((255, 255, 255)),
)
CASES.add("see-through grey", lambda: media.image_bytes(Image.new("LA", (20, 20))), load_image, colour((255, 255, 255)))
for form in ("GIF", "PNG", "WEBP", "AVIF"):
    CASES.add(
        f"first frame of an animated {form}",
        lambda f=form: media.animation(f),
        load_image,
        colour((0, 90, 30), tolerance=8),
    )
    CASES.add(
        f"first frame of a see-through animated {form}",
        lambda f=form: media.animation(f, clear=True),
        load_image,
        colour((255, 255, 255), (30, 30)),
    )
CASES.add("what trails a PNG is passed over", lambda: media.image_bytes() + b"rubbish" * 50, load_image, sized(64, 48))
CASES.add(
    "what trails a JPEG is passed over", lambda: media.image_bytes(form="JPEG") + bytes(99), load_image, sized(64, 48)
)
CASES.add(
    "one pixel", lambda: media.image_bytes(Image.new("RGB", (1, 1), "red")), load_image, colour((255, 0, 0), (0, 0))
)
CASES.add(
    "16-bit levels by value",
    lambda: media.image_bytes(Image.fromarray(np.full((9, 9), 65535, np.uint16))),
    load_image,
    colour((255,) * 3),
)
CASES.add("ICC profile that is rubbish", lambda: media.image_bytes(icc_profile=b"rubbish"), load_image, sized(64, 48))
CASES.add(
    "EXIF that is rubbish", lambda: media.image_bytes(form="JPEG", exif=b"Exif\0\0rubbish"), load_image, sized(64, 48)
)


def lazy() -> Image.Image:
    return Image.open(io.BytesIO(media.image_bytes(media.picture(60, 60))))


def closed() -> Image.Image:
    with Image.open(io.BytesIO(media.image_bytes())) as image:
        pass
    return image


CASES.add(
    "one lazily opened picture eight times",
    lazy,
    lambda image: demo().encode([image] * 8),
    Value(lambda found: len(found) == 8 and all(np.array_equal(found[0].tokens, one.tokens) for one in found)),
)
CASES.add(
    "a closed picture is not called damaged",
    closed,
    load_image,
    Refused("image_closed", "image_unreadable", "source_closed", "image_empty", "source_unreadable"),
)

# --- damage -----------------------------------------------------------------------------------------------------------
for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"):
    for share in (0.02, 0.5, 0.9):
        CASES.add(
            f"{form} cut at {share}",
            lambda f=form, s=share: media.cut(media.image_bytes(media.picture(128, 128), f), s),
            load_image,
            CORRUPT,
        )
    CASES.add(
        f"{form} with damage in its data",
        lambda f=form: media.damaged(media.image_bytes(media.picture(128, 128), f)),
        load_image,
        Either(Value(), CORRUPT),
    )
CASES.add(
    "JPEG with a hole of zeros",
    lambda: media.zeroed(media.image_bytes(Image.fromarray(media.noise((96, 96, 3))), "JPEG")),
    load_image,
    # Zeros are codes too: such a file says nowhere that it is damaged.
    Either(sized(96, 96), CORRUPT),
)
CASES.add("WebP whose RIFF promises more", lambda: media.image_bytes(form="WEBP")[:-40], load_image, CORRUPT)
CASES.add(
    "PNG with a wrong checksum",
    lambda: media.image_bytes()[:-20] + bytes(4) + media.image_bytes()[-16:],
    load_image,
    Either(sized(64, 48), CORRUPT),
)
CASES.add("PNG without data", lambda: media.png(20, 20, data=zlib.compress(b"")), load_image, CORRUPT)
CASES.add("PNG with half its rows", lambda: media.png(20, 20, data=zlib.compress(bytes(10 * 61))), load_image, CORRUPT)
CASES.add("PNG of no width", lambda: media.png(0, 20), load_image, CORRUPT)
CASES.add("PNG of no height", lambda: media.png(20, 0), load_image, CORRUPT)
CASES.add("PNG of 2^31 width", lambda: media.png(2**31 - 1, 1, data=b""), load_image, CORRUPT)
CASES.add(
    "PNG of a colour type that does not exist",
    lambda: media.image_bytes()[:25] + b"\7" + media.image_bytes()[26:],
    load_image,
    CORRUPT,
)
CASES.add("GIF header alone", b"GIF89a\x10\0\x10\0\0\0\0", load_image, CORRUPT)
CASES.add("JPEG header alone", b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", load_image, CORRUPT)
CASES.add("TIFF whose first directory is itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", load_image, CORRUPT)
CASES.add("TIFF of a directory beyond the file", b"II*\0\xff\xff\xff\x7f", load_image, CORRUPT)
CASES.add("PPM of words", b"P6 wide high 255\n", load_image, CORRUPT)
CASES.add("EPS is no picture that is read", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", load_image, CORRUPT)
CASES.add("SVG is no picture that is read", b'<svg xmlns="http://www.w3.org/2000/svg"/>', load_image, CORRUPT)
CASES.add("HTML in a picture's place", b"<!DOCTYPE html><html><body>404</body></html>", load_image, CORRUPT)
CASES.add(
    "floats in a TIFF",
    lambda: media.image_bytes(Image.new("F", (9, 9), 0.5), "TIFF"),
    load_image,
    Refused("image_dtype"),
)
CASES.add(
    "levels beyond 16 bits",
    lambda: media.image_bytes(Image.new("I", (9, 9), 70000), "TIFF"),
    load_image,
    Refused("image_range"),
)
for width, height in ((2001, 10), (10, 2001), (1, 201)):
    CASES.add(
        f"{width} x {height} is too long",
        lambda w=width, h=height: media.image_bytes(Image.new("RGB", (w, h))),
        ImageProcessor(),
        Refused("aspect_ratio"),
    )
CASES.add("2000 x 10 is not", lambda: media.image_bytes(Image.new("RGB", (2000, 10))), ImageProcessor(), Value())

# --- options ----------------------------------------------------------------------------------------------------------
LIMITS = Refused("pixel_limits", "bad_option", "image_too_large", "too_many_tokens")
for low, high in ((0, 5), (-1, 5), (10, 5), (4 * 10**7, 5 * 10**7), (1, 0), (2**70, 2**71)):
    CASES.add(
        f"min_pixels {low}, max_pixels {high}",
        lambda a=low, b=high: (media.png(1, 1), a, b),
        lambda given: ImageProcessor()(given[0], min_pixels=given[1], max_pixels=given[2]),
        LIMITS,
    )
for value in ("5", 5.5, float("nan"), True, [5], None.__class__):
    CASES.add(
        f"max_pixels of {value!r:.20}",
        lambda v=value: v,
        lambda given: ImageProcessor()(media.png(9, 9), max_pixels=given),
        LIMITS,
    )
CASES.add("an empty list of pictures", [], ImageProcessor(), Refused("image_missing"))
CASES.add(
    "the same patches alone and beside others",
    lambda: [media.image_bytes(media.picture(70 + n, 50)) for n in range(3)],
    lambda given: (ImageProcessor()(given), [ImageProcessor()(one) for one in given]),
    Value(lambda found: np.array_equal(found[0].pixels, np.concatenate([one.pixels for one in found[1]]))),
)
