"""Containers that hold audio or video: whether there is a video track in them, by walking their structure."""

from typing import Literal

from processors.io.byte_window import ByteWindow

Medium = Literal["audio", "video"]

_MOST_ELEMENTS = 4096
_MOST_TRACKS = 256
_AUDIO_BRANDS = {b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "}
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _TRACK_TYPE = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x83
_ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
_ASF_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
_ASF_EXTENDED = bytes.fromhex("cba5e61472c632438399a96952065b5a")
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")


def sniff_iso(window: ByteWindow) -> Medium | Literal["image"] | None:
    """Tell what an MP4, MOV, M4A, 3GP or HEIF holds; by its brand where it holds no movie header."""
    brand = window.read(8, 4) if window.read(4, 4) == b"ftyp" else b""
    position = 0
    for _ in range(_MOST_ELEMENTS):
        kind, body, end = _box(window, position)
        if kind is None:
            break
        if kind == b"moov":
            return _sniff_movie(window, body, end)
        if kind == b"meta" and window.read(body + 8, 16)[0:4] == b"hdlr" and window.read(body + 20, 4) == b"pict":
            return "image"
        position = end
    return "audio" if brand in _AUDIO_BRANDS else "video"


def _box(window: ByteWindow, position: int) -> tuple[bytes | None, int, int]:
    """The kind of a box, where its body begins, and where it ends."""
    head = window.read(position, 16)
    if len(head) < 8:
        return None, 0, 0
    size, body = int.from_bytes(head[:4], "big"), position + 8
    if size == 1:
        if len(head) < 16:
            return None, 0, 0
        size, body = int.from_bytes(head[8:16], "big"), position + 16
    end = window.size if size == 0 else position + size
    return (head[4:8], body, end) if end >= body else (None, 0, 0)


def _children(window: ByteWindow, begin: int, end: int) -> list[tuple[bytes, int, int]]:
    boxes, position = [], begin
    while position < min(end, window.size) and len(boxes) < _MOST_TRACKS:
        kind, body, position = _box(window, position)
        if kind is None:
            break
        boxes.append((kind, body, position))
    return boxes


def _sniff_movie(window: ByteWindow, begin: int, end: int) -> Medium:
    handlers, chapters = {}, set()
    for number, (kind, body, box_end) in enumerate(_children(window, begin, end)):
        if kind == b"cmov":
            return "video"
        if kind != b"trak":
            continue
        track, handler = number + (1 << 32), b""
        for inner, at, inner_end in _children(window, body, box_end):
            if inner == b"tkhd":
                track = window.number(at + (20 if window.read(at, 1) == b"\x01" else 12), 4) or track
            elif inner == b"mdia":
                for part, place, _ in _children(window, at, inner_end):
                    handler = window.read(place + 8, 4) if part == b"hdlr" else handler
            elif inner == b"tref":
                for part, place, part_end in _children(window, at, inner_end):
                    listed = window.read(place, min(part_end - place, 256)) if part == b"chap" else b""
                    chapters |= {int.from_bytes(listed[n : n + 4], "big") for n in range(0, len(listed), 4)}
        handlers[track] = handler
    # The pictures of chapters are a track of their own, which the track that they belong to names.
    moving = any(handler == b"vide" and track not in chapters for track, handler in handlers.items())
    return "video" if moving else "audio"


def sniff_matroska(window: ByteWindow) -> Medium:
    """Tell whether a Matroska or WebM file has a video track; a cover is an attachment and none."""
    position, end = 0, window.size
    for _ in range(_MOST_ELEMENTS):
        element, body, after = _element(window, position)
        if element is None or position >= end:
            break
        if element == _SEGMENT:
            position = body
            continue
        if element == _TRACKS:
            return "video" if _has_video_entry(window, body, after) else "audio"
        if element == _CLUSTER and after > window.size:
            break
        position = after
    return "video"


def _has_video_entry(window: ByteWindow, begin: int, end: int) -> bool:
    position = begin
    for _ in range(_MOST_TRACKS):
        element, body, after = _element(window, position)
        if element is None or position >= end:
            return False
        inner = body
        while element == _TRACK and inner < after:
            field, place, inner_end = _element(window, inner)
            if field is None:
                break
            if field == _TRACK_TYPE and window.number(place, inner_end - place) == 1:
                return True
            inner = inner_end
        position = after
    return False


def _element(window: ByteWindow, position: int) -> tuple[int | None, int, int]:
    """The id of an EBML element, where its body begins, and where it ends."""
    head = window.read(position, 12)
    if len(head) < 2 or not head[0]:
        return None, 0, 0
    id_length = 9 - head[0].bit_length()
    if id_length > 4 or len(head) <= id_length or not head[id_length]:
        return None, 0, 0
    size_length = 9 - head[id_length].bit_length()
    size = int.from_bytes(head[id_length : id_length + size_length], "big") & ((1 << 7 * size_length) - 1)
    body = position + id_length + size_length
    end = window.size if size == (1 << 7 * size_length) - 1 else body + size
    return int.from_bytes(head[:id_length], "big"), body, end


def sniff_asf(window: ByteWindow) -> Medium:
    """Tell whether the header of a WMA, WMV or ASF file describes a video stream."""
    size = int.from_bytes(window.read(16, 8), "little")
    waiting, objects = [(30, min(size, window.size))], 0
    while waiting and objects < _MOST_ELEMENTS:
        position, end = waiting.pop()
        while position + 24 <= end and objects < _MOST_ELEMENTS:
            objects += 1
            kind, length = window.read(position, 16), int.from_bytes(window.read(position + 16, 8), "little")
            if length < 24:
                break
            if kind == _ASF_STREAM and window.read(position + 24, 16) == _ASF_VIDEO:
                return "video"
            if kind == _ASF_EXTENSION:
                waiting.append((position + 46, min(position + length, end)))
            if kind == _ASF_EXTENDED and _ASF_STREAM in (inner := window.read(position, min(length, 1 << 16))):
                at = inner.index(_ASF_STREAM)
                if inner[at + 24 : at + 40] == _ASF_VIDEO:
                    return "video"
            position += length
    return "audio"


def sniff_avi(window: ByteWindow) -> Medium:
    """Tell whether the stream headers of an AVI file name a video stream."""
    position, seen, objects = 12, set(), 0
    while objects < _MOST_ELEMENTS and position < window.size:
        objects += 1
        head = window.read(position, 12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] == b"LIST" and head[8:12] in (b"hdrl", b"strl"):
            position += 12
            continue
        if head[:4] == b"strh":
            seen.add(head[8:12])
        if len(head) < 8 or (head[:4] == b"LIST" and head[8:12] == b"movi"):
            break
        position += 8 + length + (length & 1)
    return "audio" if seen and not seen & {b"vids", b"iavs"} else "video"


def sniff_real(window: ByteWindow) -> Medium:
    """Tell whether a RealMedia file describes a stream of video."""
    position, kinds = 0, set()
    for _ in range(_MOST_TRACKS):
        head = window.read(position, 10)
        length = int.from_bytes(head[4:8], "big")
        if len(head) < 10 or length < 10 or head[:4] == b"DATA":
            break
        if head[:4] == b"MDPR":
            text = window.read(position, min(length, 512))
            kinds |= {kind for kind in (b"audio/", b"video/") if kind in text}
        position += length
    return "audio" if kinds == {b"audio/"} else "video"
