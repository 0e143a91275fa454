"""What kind of medium some bytes are, by what they hold and never by a file's name."""

from collections.abc import Callable
from io import BufferedIOBase
from typing import Literal

import numpy as np
from PIL import Image

from processors.decode.image.arrays import view_array
from processors.decode.image.formats import is_heif as is_heif
from processors.decode.image.formats import plugin_of, start_of_image, unreadable_kind
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.byte_window import ByteWindow
from processors.io.sniff_containers import sniff_asf, sniff_avi, sniff_iso, sniff_matroska, sniff_real
from processors.io.sniff_streams import (
    has_audio_frames,
    is_elementary_video,
    sniff_flv,
    sniff_ogg,
    sniff_program_stream,
    sniff_transport_stream,
    transport_packets,
)
from processors.io.sources import describe, is_source, open_source

Kind = Literal["image", "audio", "video"]

_HEAD = 4096
_MOST_TAGS = 8
# Formats that no magic but a plausible header tells: tried when nothing else fits.
_WEAK_IMAGES = {"TGA", "SPIDER", "PCX", "DIB", "MCIDAS", "FLI", "PCD", "GBR"}
_AUDIO_MAGIC = (
    b"fLaC", b".snd", b"dns.", b"caff", b"wvpk", b"#!AMR", b"MAC ", b"TTA1", b"TTA2", b"MPCK", b"MP+", b"OFR ", b"DSD ",
    b"FRM8", b"riff\x2e\x91\xcf\x11", b"Creative Voice File", b"NIST_1A", b"PVF1\n", b"2BIT", b"SDS ", b".ra\xfd",
    b"RIFX", b"\x64\xa3\x01\x00", b"\x64\xa3\x02\x00", b"ADIF",
)  # fmt: skip
_VIDEO_MAGIC = (
    b"YUV4MPEG2", b"DKIF", b"nut/multimedia container\x00", b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",
    b"\x1f\x07\x00", b"\xb7\xd8\x00\x20\x37\x49\xda\x11", b"BBCD\x00",
)  # fmt: skip
_CONTAINERS: tuple[tuple[Callable[[bytes], bool], Callable[[ByteWindow], Kind | None]], ...] = (
    (lambda head: head[:4] == b"\x1aE\xdf\xa3", sniff_matroska),
    (lambda head: head[:4] == b"OggS", sniff_ogg),
    (lambda head: head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", sniff_asf),
    (lambda head: head[:4] == b"FLV\x01", sniff_flv),
    (lambda head: head[:4] == b".RMF", sniff_real),
    (lambda head: head[:4] == b"\x00\x00\x01\xba", sniff_program_stream),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", sniff_avi),
    (lambda head: head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}, sniff_iso),
)
_RIFF: dict[bytes, Kind] = {b"WAVE": "audio", b"CDXA": "video"}
_FORM = {b"AIFF", b"AIFC", b"8SVX", b"16SV", b"MAUD"}


def sniff(source: object, *, access: Access = DEFAULT_ACCESS) -> Kind:
    """Tell an image, audio and video apart.

    Encoded media go by their content: containers that can hold either audio or moving pictures are looked into for a
    video track. Decoded media go by their shape: a PIL image, or an array [height, width] of bytes or [height, width,
    1, 3 or 4], is an image; [frames, height, width, channels] or a list of images is a video; [samples] or [channels,
    samples] is audio.

    Args:
        source: whatever `load_image`, `load_audio` or `load_video` takes.
        access: limits, source policy and deadline.

    Raises:
        InputError: `media_unknown`, `array_unreadable`, or the codes of `open_source`.
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
            stream.seek(0)
            if what := unreadable_kind(stream.read(_HEAD)):
                raise InputError("media_unknown", f"{describe(source)} is {what}")
    elif kind := _sniff_array(source):
        return kind
    raise InputError("media_unknown", f"{describe(source)}: not an image, audio or a video of a known kind")


def sniff_stream(stream: BufferedIOBase) -> Kind | None:
    """Return the kind of an open, seekable stream, or None; the stream is left at its start."""
    try:
        window = ByteWindow(stream)
        start, tagged = _behind_tags(window)
        if start:
            window = ByteWindow(stream, start)
        # A tag stands before audio: where what follows is damaged, too.
        return _sniff_window(window) or ("audio" if tagged else None)
    finally:
        stream.seek(0)


def _behind_tags(window: ByteWindow) -> tuple[int, bool]:
    """Where a file goes on behind ID3 and APE tags, which stand before audio of any format; and whether it has any."""
    position = 0
    for number in range(_MOST_TAGS):
        head = window.read(position, 32)
        if head[:3] == b"ID3" and len(head) >= 10 and head[3] < 0xFF and not any(byte & 0x80 for byte in head[6:10]):
            length = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            position += 10 + length + (10 if head[5] & 0x10 else 0)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            position += 32 + int.from_bytes(head[12:16], "little")
        else:
            return position, number > 0
    return position, True


def _sniff_window(window: ByteWindow) -> Kind | None:
    head = window.read(0, _HEAD)
    plugin = plugin_of(head, window.size)
    if (plugin and plugin not in _WEAK_IMAGES) or start_of_image(head):
        return "image"
    if unreadable_kind(head):
        return None
    for test, walk in _CONTAINERS:
        if test(head):
            return walk(window)
    if head[:4] in {b"RIFF", b"RF64", b"BW64"}:
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM":
        return "audio" if head[8:12] in _FORM else None
    if head.startswith(_AUDIO_MAGIC):
        return "audio"
    if head.startswith(_VIDEO_MAGIC):
        return "video"
    if packets := transport_packets(window):
        return sniff_transport_stream(window, *packets)
    if is_elementary_video(head):
        return "video"
    if has_audio_frames(window):
        return "audio"
    return "image" if plugin else None


def _sniff_array(source: object) -> Kind | None:
    try:
        shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    except Exception:  # any object, and any property
        shape = dtype = None
    if not isinstance(shape, tuple) or not isinstance(dtype, np.dtype):
        array = view_array(source)
        if array is None:
            return None
        shape, dtype = array.shape, array.dtype
    if len(shape) == 4:
        return "video"
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    if len(shape) == 2 and dtype in (np.uint8, np.uint16) and min(shape) > 8:
        return "image"
    return "audio" if len(shape) in (1, 2) else None
