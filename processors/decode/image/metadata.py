"""Orientation from EXIF and XMP, read with bounds and without a word about what is damaged beside it."""

import re
from collections.abc import Mapping
from typing import Any

_ORIENTATION = 0x0112
_MOST_TAGS = 4096
_UNITS = {1: 1, 3: 2, 4: 4}
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_MOST_XMP = 1 << 20


def orientation_of(info: Mapping[Any, Any]) -> int:
    """Return the orientation, 1 to 8, that an image's metadata asks for; 1 where they do not say, or are damaged.

    Args:
        info: what Pillow read beside the pixels.
    """
    exif = info.get("exif")
    profile = info.get("Raw profile type exif")
    if exif is None and isinstance(profile, str):
        try:
            exif = bytes.fromhex("".join(profile[: 2 * _MOST_XMP].split("\n")[3:]))
        except ValueError:
            exif = None
    if isinstance(exif, bytes) and (told := _exif_orientation(exif)):
        return told
    for key in ("XML:com.adobe.xmp", "xmp"):
        text = info.get(key)
        data = text[:_MOST_XMP].encode("utf-8", "replace") if isinstance(text, str) else text
        if isinstance(data, bytes) and (match := _XMP.search(data[:_MOST_XMP])):
            return int(match[1])
    return 1


def _exif_orientation(exif: bytes) -> int | None:
    exif = exif.removeprefix(b"Exif\x00\x00")
    order = _order(exif)
    if order is None:
        return None
    begin = _number(exif, 4, 4, order)
    for at in range(begin + 2, begin + 2 + 12 * min(_number(exif, begin, 2, order), _MOST_TAGS), 12):
        if _number(exif, at, 2, order) == _ORIENTATION:
            kind = _number(exif, at + 2, 2, order)
            value = _number(exif, at + 8, _UNITS.get(kind, 2), order)
            return value if 1 <= value <= 8 else None
    return None


def _order(exif: bytes) -> str | None:
    return {b"II": "little", b"MM": "big"}.get(exif[:2])


def _number(data: bytes, at: int, count: int, order: str) -> int:
    return int.from_bytes(data[at : at + count], "little" if order == "little" else "big")
