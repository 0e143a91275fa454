"""What kind of medium some bytes are, by their first bytes and never by a file's name."""

from io import BufferedIOBase
from typing import Literal

import numpy as np
from PIL import Image

from processors.access import DEFAULT_ACCESS, Access
from processors.errors import InputError
from processors.sources import describe, is_source, open_source

Kind = Literal["image", "audio", "video"]

_HEAD = 4096
_IMAGE_MAGIC = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\x00\x00\x01\x00", b"P1\n", b"P2\n", b"P3\n", b"P4\n",
    b"P5\n", b"P6\n", b"P4 ", b"P5 ", b"P6 ", b"\xff\x0a", b"\x00\x00\x00\x0cJXL ",
)  # fmt: skip
_AUDIO_MAGIC = (b"fLaC", b"ID3", b"FORM", b".snd", b"caff", b"wvpk", b"#!AMR", b"MAC ", b"TTA1", b"riff")
_VIDEO_MAGIC = (
    b"FLV\x01",
    b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3",
    b"\x00\x00\x00\x01",
    b"YUV4MPEG2",
    b"DKIF",
    b".RMF",
)
_IMAGE_BRANDS = {b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"}
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"F4A "}
_ASF = bytes.fromhex("3026b2758e66cf11")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def sniff(source: object, *, access: Access = DEFAULT_ACCESS) -> Kind:
    """Tells an image, a sound and a video apart.

    Encoded media go by their content: containers that can hold either sound or moving pictures are looked into for a
    video track. Decoded media go by their shape: a PIL image, or an array [height, width] of bytes or [height, width,
    1, 3 or 4], is an image; [frames, height, width, channels] or a list of images is a video; [samples] or [channels,
    samples] is audio.

    Args:
        source: whatever `load_image`, `load_audio` or `load_video` takes.
        access: limits, source policy and deadline.

    Raises:
        InputError: `media_unknown`, or the codes of `open_source`.
    """
    if isinstance(source, Image.Image):
        return "image"
    if isinstance(source, list | tuple):
        if source and all(isinstance(item, Image.Image) or getattr(item, "ndim", 0) == 3 for item in source):
            return "video"
    elif is_source(source):
        with open_source(source, access) as stream:
            if kind := sniff_stream(stream):
                return kind
    elif kind := _sniff_array(source):
        return kind
    raise InputError("media_unknown", f"{describe(source)}: not an image, a sound or a video of a known kind")


def sniff_stream(stream: BufferedIOBase) -> Kind | None:
    """The kind of an open, seekable stream, or None; the stream is left at its start."""
    head = stream.read(_HEAD)
    try:
        return _sniff_head(head, stream)
    finally:
        stream.seek(0)


def is_plain_text(head: bytes) -> bool:
    """Whether these first bytes are text. A playlist is: FFmpeg would follow the paths and URLs that it lists."""
    return not any(byte < 9 or 13 < byte < 32 or byte > 126 for byte in head)


def _sniff_head(head: bytes, stream: BufferedIOBase) -> Kind | None:
    if head[:4] in {b"RIFF", b"RF64", b"RIFX"}:
        forms: dict[bytes, Kind] = {b"WEBP": "image", b"AVI ": "video", b"WAVE": "audio"}
        return forms.get(head[8:12])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _IMAGE_BRANDS:
            return "image"
        return "audio" if brand in _AUDIO_BRANDS or not _iso_has_video(stream) else "video"
    if head[4:8] in {b"moov", b"mdat", b"wide", b"free"}:  # QuickTime files from before `ftyp`
        return "video" if _iso_has_video(stream) else "audio"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video" if _matroska_has_video(head, stream) else "audio"
    if head[:4] == b"OggS":
        return "video" if b"\x80theora" in head or b"OVP80" in head else "audio"
    if head[:8] == _ASF:
        return "video" if _ASF_VIDEO in head else "audio"
    if head[:1] == b"G" and head[188:189] == b"G":
        return "video"
    if head[4:5] == b"G" and head[196:197] == b"G":  # Blu-ray's stamped transport stream
        return "video"
    if head.startswith(_IMAGE_MAGIC):
        return "image"
    if head.startswith(_AUDIO_MAGIC):
        return "audio"
    if head.startswith(_VIDEO_MAGIC):
        return "video"
    # MPEG audio and AAC frames start with a sync word and no magic.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08:
        return "audio"
    return None


def _iso_has_video(stream: BufferedIOBase) -> bool:
    """Walks the top boxes to the movie header, wherever it lies, and looks for a track whose handler is `vide`."""
    position = 0
    while True:
        stream.seek(position)
        box = stream.read(16)
        if len(box) < 8:
            return False
        size = int.from_bytes(box[:4], "big")
        if size == 1 and len(box) == 16:
            size = int.from_bytes(box[8:16], "big")
        if box[4:8] == b"moov":
            stream.seek(position)
            movie = stream.read(min(size or 1 << 26, 1 << 26))
            return any(part[8:12] == b"vide" for part in movie.split(b"hdlr")[1:])
        if size < 8:
            return False
        position += size


def _matroska_has_video(head: bytes, stream: BufferedIOBase) -> bool:
    stream.seek(0)
    header = stream.read(1 << 20)
    # CodecID elements of video tracks: id 0x86, a one-byte length, then "V_...".
    return any(part[1:3] == b"V_" and part[:1] >= b"\x84" for part in header.split(b"\x86")[1:])


def _sniff_array(source: object) -> Kind | None:
    shape = getattr(source, "shape", None)
    if shape is None:
        return None
    dtype = np.dtype(getattr(source, "dtype", object))
    if len(shape) == 4:
        return "video"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    if len(shape) == 2 and dtype in (np.uint8, np.uint16) and min(shape) > 8:
        return "image"
    return "audio" if len(shape) in (1, 2) else None
