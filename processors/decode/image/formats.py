"""Image formats: which of Pillow's plugins reads some bytes, and what those that none reads are."""

import struct
from collections.abc import Callable

_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"MiHE", b"MiHB"}
_SPACE = b" \t\r\n\x00\xff\xef\xbb\xbf"
"""What programs leave before an image: white space, zeros, fill bytes, a byte order mark."""
_MOST_SPACE = 64

# First bytes that name a format; those that are short or common are tested further below.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"icns", "ICNS"),
    (b"8BPS", "PSD"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x59\xa6\x6a\x95", "SUN"),
    (b"\xb1\x68\xde\x3a", "DCX"),
    (b"/* XPM */", "XPM"),
    (b"DanM", "MSP"),
    (b"LinS", "MSP"),
    (b"\x80\xe8\x00\x00", "PIXAR"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"FTEX", "FTEX"),
    (b"P7 332", "XVTHUMB"),
    (b"SIMPLE  =", "FITS"),
    (b"Image type: ", "IM"),
)

# What people hand over for an image, and no plugin reads in this process.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "JPEG XL: convert it to PNG or JPEG first"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL: convert it to PNG or JPEG first"),
    (b"%!PS", "PostScript: render it to an image first"),
    (b"\xc5\xd0\xd3\xc6", "PostScript: render it to an image first"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile: render it to an image first"),
    (b"v/1\x01", "OpenEXR, whose levels are floats: convert it to 8-bit or 16-bit levels first"),
    (b"#?RADIANCE", "Radiance HDR, whose levels are floats: convert it to 8-bit or 16-bit levels first"),
    (b"#?RGBE", "Radiance HDR, whose levels are floats: convert it to 8-bit or 16-bit levels first"),
    (b"P7\n", "a PAM image: convert it to PNG or PNM first"),
    (b"gimp xcf", "a GIMP project: export it as PNG first"),
    (b"AT&TFORM", "DjVu: render it to an image first"),
    (b"II\xbc\x01", "JPEG XR: convert it to PNG or JPEG first"),
    (b"BPG\xfb", "BPG: convert it to PNG or JPEG first"),
    (b"FLIF", "FLIF: convert it to PNG or JPEG first"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file: develop it to JPEG, PNG or TIFF first"),
    (b"IIU\x00", "a camera's raw file: develop it to JPEG, PNG or TIFF first"),
    (b"IIRO", "a camera's raw file: develop it to JPEG, PNG or TIFF first"),
    (b"IIRS", "a camera's raw file: develop it to JPEG, PNG or TIFF first"),
    (b"FOVb", "a camera's raw file: develop it to JPEG, PNG or TIFF first"),
    (b"PK\x03\x04", "a ZIP archive or an office document: unpack it or export an image first"),
    (b"\x1f\x8b", "compressed with gzip: decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    (b"MThd", "MIDI, notes without audio: render it to audio first"),
    (b"qoaf", "QOA audio: convert it to WAV or FLAC first"),
)
_RAW_FILE = "a camera's raw file: develop it to JPEG, PNG or TIFF first"


def start_of_image(head: bytes) -> int:
    """Return where an image of well-known magic begins behind a few bytes of white space or filling; else 0."""
    if plugin_of(head) is not None or head[:1] not in {bytes([byte]) for byte in _SPACE}:
        return 0
    start = len(head[:_MOST_SPACE]) - len(head[:_MOST_SPACE].lstrip(_SPACE))
    # The filling may have been of the same bytes as the first one of a JPEG.
    for begin in (start - 1, start):
        rest = head[max(0, begin) :]
        if any(rest.startswith(magic) for magic, _ in _MAGIC[:4]) or _is_pnm(rest):
            return max(0, begin)
    return 0


def plugin_of(head: bytes, size: int | None = None) -> str | None:
    """Return the name that Pillow gives to the format of a file, or None.

    Args:
        head: its first bytes, 4096 or all.
        size: of the whole file; that of the head by default.
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _iso_plugin(head)
    for name, test in _TESTS:
        if test(head, len(head) if size is None else size):
            return name
    return None


def unreadable_kind(head: bytes) -> str | None:
    """Return what a file is that no plugin reads, and what to do about it; None where that is not known."""
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return what
    if head[4:12] == b"ftypcrx ":
        return _RAW_FILE
    if head[4:12] == b"ftypjxl ":
        return "JPEG XL: convert it to PNG or JPEG first"
    if head[:4] == b"\x01\x00\x00\x00" and head[40:44] == b" EMF":
        return "a Windows metafile: render it to an image first"
    if b"%PDF-" in head[:1024]:
        return "a PDF: render its pages to images first"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        text = text.replace(b"\x00", b"")[2:]
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG: render it to an image first"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page: give the address of the file itself"
    return None


def is_heif(head: bytes) -> bool:
    """Return whether these first bytes are those of a HEIC picture, which Pillow reads through a plugin only."""
    return head[4:8] == b"ftyp" and _iso_plugin(head) == "HEIF"


def _iso_plugin(head: bytes) -> str | None:
    brand = head[8:12]
    listed = head[16 : max(16, min(int.from_bytes(head[:4], "big"), 512))]
    brands = {listed[at : at + 4] for at in range(0, len(listed) - 3, 4)}
    if brand in {b"avif", b"avis"} or (brand in _HEIF_BRANDS and brands & {b"avif", b"avis"}):
        return "AVIF"
    return "HEIF" if brand in _HEIF_BRANDS else None


def _is_pnm(head: bytes) -> bool:
    return head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3] in b" \t\r\n#" and len(head) > 6


def _is_bmp(head: bytes, size: int) -> bool:
    return head[:2] == b"BM" and len(head) >= 26 and int.from_bytes(head[14:18], "little") in _DIB_HEADERS


_DIB_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def _is_dib(head: bytes, size: int) -> bool:
    if len(head) < 40 or int.from_bytes(head[:4], "little") not in _DIB_HEADERS[2:]:
        return False
    width, height, planes, bits, compression = struct.unpack_from("<iiHHI", head, 4)
    plausible = 0 < width < 1 << 24 and 0 < abs(height) < 1 << 24
    return plausible and planes == 1 and bits in (1, 4, 8, 16, 24, 32) and compression < 7


def _is_icon(head: bytes, size: int, kind: int) -> bool:
    if len(head) < 22 or head[:4] != bytes([0, 0, kind, 0]):
        return False
    count = int.from_bytes(head[4:6], "little")
    length, offset = struct.unpack_from("<II", head, 14)
    return count > 0 and length > 0 and 6 + 16 * count <= offset < max(size, offset + 1 if len(head) < 4096 else size)


def _is_targa(head: bytes, size: int) -> bool:
    if len(head) < 18 or head[1] > 1 or head[2] not in (1, 2, 3, 9, 10, 11):
        return False
    first, entries, entry_bits, _, _, width, height, bits, flags = struct.unpack_from("<HHBHHHHBB", head, 3)
    mapped = head[2] in (1, 9)
    if mapped != (head[1] == 1 and entries > 0 and entry_bits in (15, 16, 24, 32)) and not (head[1] and not mapped):
        return False
    if not head[1] and (first or entries or entry_bits):
        return False
    depths = (8,) if head[2] in (1, 9) else (8, 16) if head[2] in (3, 11) else (15, 16, 24, 32)
    if bits not in (*depths, 1) or flags & 0xC0 or not width or not height:
        return False
    return head[2] >= 9 or size >= 18 + width * height * bits // 8


def _is_pcx(head: bytes, size: int) -> bool:
    return len(head) >= 128 and head[0] == 10 and head[1] in (0, 2, 3, 5) and head[2] == 1 and head[3] in (1, 2, 4, 8)


def _is_sgi(head: bytes, size: int) -> bool:
    return len(head) >= 512 and head[:2] == b"\x01\xda" and head[2] in (0, 1) and head[3] in (1, 2)


def _is_flic(head: bytes, size: int) -> bool:
    return len(head) >= 128 and head[4:6] in {b"\x11\xaf", b"\x12\xaf"} and head[12:14] == b"\x08\x00"


def _is_xbm(head: bytes, size: int) -> bool:
    text = head.lstrip()
    return text.startswith(b"#define ") and b"_width" in text[:200] and b"_bits" in text


def _is_spider(head: bytes, size: int) -> bool:
    for order in "><":
        if len(head) < 108:
            return False
        values = (0.0, *struct.unpack_from(f"{order}27f", head))
        if not all(
            value == value and abs(value) < 1e9 and value == int(value)
            for value in (values[1], values[2], values[5], values[12], values[13], values[22], values[23])
        ):
            continue
        rows, kind, columns, records, length = values[2], values[5], values[12], values[13], values[22]
        if rows > 0 and columns > 0 and kind in (1, 3, -11, -12, -21, -22) and length == records * values[23] > 0:
            return True
    return False


_TESTS: tuple[tuple[str, Callable[[bytes, int], bool]], ...] = (
    ("BMP", _is_bmp),
    ("PPM", lambda head, size: _is_pnm(head)),
    ("ICO", lambda head, size: _is_icon(head, size, 1)),
    ("CUR", lambda head, size: _is_icon(head, size, 2)),
    ("XBM", _is_xbm),
    ("GBR", lambda head, size: head[20:24] == b"GIMP" and head[4:8] == b"\x00\x00\x00\x02"),
    ("FLI", _is_flic),
    ("PCD", lambda head, size: head[2048:2052] == b"PCD_"),
    ("SGI", _is_sgi),
    ("PCX", _is_pcx),
    ("DIB", _is_dib),
    ("MCIDAS", lambda head, size: head[:8] == b"\x00\x00\x00\x00\x00\x00\x00\x04" and len(head) >= 256),
    ("TGA", _is_targa),
    ("SPIDER", _is_spider),
)
