"""Streams of packets: transport and program streams, FLV, Ogg, and frames of audio or video without a container."""

from typing import Literal

from processors.io.byte_window import ByteWindow

Medium = Literal["audio", "video"]

_HEAD = 1 << 16
_MOST_PACKETS = 2000
_LOOKED_AT = 1 << 20
_PACKET_SIZES = (188, 192, 204)
_SYNCS = 5
# Stream types of a program map table.
_VIDEO_TYPES = {0x01, 0x02, 0x10, 0x1B, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x27, 0x31, 0x33, 0x42, 0xD1,
                0xD2, 0xD4, 0xDB, 0xEA}  # fmt: skip
_AUDIO_TYPES = {0x03, 0x04, 0x0F, 0x11, 0x1C, 0x2D, 0x2E, *range(0x80, 0x89), 0xA1, 0xA2, 0xC1, 0xC2, 0xCF}
_VIDEO_REGISTRATIONS = {b"AV01", b"VC-1", b"HEVC", b"AVSV", b"drac", b"VVC "}
_OGG_VIDEO = (b"\x80theora", b"BBCD\x00", b"OVP80", b"\x80daala", b"\x01video", b"KW-DIRAC")
_OGG_AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"fLaC", b"Speex  ", b"PCM     ", b"CELT    ", b"\x01audio")
_LAYER_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
_BIT_RATES = {
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_WORDS = (64, 64, 80, 80, 96, 96, 112, 112, 128, 128, 160, 160, 192, 192, 224, 224, 256, 256, 320, 320, 384, 384,
              448, 448, 512, 512, 640, 640, 768, 768, 896, 896, 1024, 1024, 1152, 1152, 1280, 1280)  # fmt: skip


def sniff_ogg(window: ByteWindow) -> Medium:
    """Tell whether one of the streams that begin together at the start of an Ogg file is video."""
    position, audio = 0, False
    for _ in range(_MOST_PACKETS):
        head = window.read(position, 27)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        lengths = window.read(position + 27, head[26])
        body = position + 27 + head[26]
        if not head[5] & 2 and audio:
            break
        if head[5] & 2:
            start = window.read(body, 16)
            if start.startswith(_OGG_VIDEO):
                return "video"
            audio = audio or start.startswith(_OGG_AUDIO)
        position = body + sum(lengths)
    return "audio"


def sniff_flv(window: ByteWindow) -> Medium:
    """Tell whether the first tags of an FLV file hold video: live streams set the flags of its header at will."""
    position = (window.number(5, 4) or 9) + 4
    kinds = set()
    for _ in range(_MOST_PACKETS):
        head = window.read(position, 11)
        if len(head) < 11 or position > _LOOKED_AT:
            break
        kinds.add(head[0] & 0x1F)
        if 9 in kinds:
            return "video"
        position += 15 + int.from_bytes(head[1:4], "big")
    flags = window.number(4, 1) or 0
    return "audio" if 8 in kinds or (flags & 4 and not flags & 1) else "video"


def sniff_program_stream(window: ByteWindow) -> Medium:
    """Tell whether an MPEG program stream holds packets of video."""
    position, audio = 0, False
    for _ in range(_MOST_PACKETS):
        head = window.read(position, 14)
        if len(head) < 6 or head[:3] != b"\x00\x00\x01" or position > _LOOKED_AT:
            break
        code = head[3]
        if code == 0xBA:
            second = head[4] & 0xC0 == 0x40
            position += 14 + (head[13] & 7 if len(head) > 13 else 0) if second else 12
            continue
        if 0xE0 <= code <= 0xEF or code == 0xFD:
            return "video"
        audio = audio or 0xC0 <= code <= 0xDF or code == 0xBD
        if code == 0xB9:
            break
        position += 6 + int.from_bytes(head[4:6], "big")
    return "audio" if audio else "video"


def transport_packets(window: ByteWindow) -> tuple[int, int] | None:
    """Return where the first packet of a transport stream begins and how far apart they are, or None.

    A sync byte is a letter like any other: it has to stand at the start of five packets in turn, or of all of a shorter
    file.
    """
    head = window.read(0, _HEAD)
    for size in _PACKET_SIZES:
        for start in range(min(8 * size, max(0, len(head) - size))):
            if head[start] != 0x47:
                continue
            there = (len(head) - start + size - 1) // size
            if there >= 2 and all(head[start + n * size] == 0x47 for n in range(min(_SYNCS, there))):
                if there < _SYNCS and start:
                    continue
                return start, size
    return None


def sniff_transport_stream(window: ByteWindow, start: int, size: int) -> Medium:
    """Tell whether the tables of a transport stream name video, or else its packets carry it."""
    maps: set[int] = set()
    kinds: set[str] = set()
    data = window.read(0, _LOOKED_AT)
    for at in range(start, len(data) - 187, size):
        packet = data[at : at + 188]
        if packet[0] != 0x47 or not packet[1] & 0x40:
            continue
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        body = 5 + packet[4] if packet[3] & 0x20 else 4
        payload = packet[body:] if packet[3] & 0x10 else b""
        if pid == 0 or pid in maps:
            section = payload[1 + payload[0] :] if payload else b""
            length = int.from_bytes(section[1:3], "big") & 0xFFF
            end = min(3 + length - 4, len(section))
            if pid == 0 and section[:1] == b"\x00":
                maps |= {int.from_bytes(section[n + 2 : n + 4], "big") & 0x1FFF for n in range(8, end - 3, 4)
                         if section[n : n + 2] != b"\x00\x00"}  # fmt: skip
            elif section[:1] == b"\x02":
                kinds |= _mapped_kinds(section, end)
        elif payload[:3] == b"\x00\x00\x01":
            code = payload[3:4] or b"\x00"
            kinds |= {"video packets"} if 0xE0 <= code[0] <= 0xEF else set()
            kinds |= {"audio packets"} if 0xC0 <= code[0] <= 0xDF else set()
        if "video" in kinds:
            return "video"
    if "audio" in kinds:
        return "audio"
    return "audio" if "audio packets" in kinds and "video packets" not in kinds else "video"


def _mapped_kinds(section: bytes, end: int) -> set[str]:
    """What a section of a program map table names."""
    kinds: set[str] = set()
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while at + 5 <= end:
        descriptors = section[at + 5 : at + 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)]
        if section[at] in _VIDEO_TYPES:
            kinds.add("video")
        elif section[at] in _AUDIO_TYPES:
            kinds.add("audio")
        elif section[at] == 0x06:
            private = descriptors[2:6] if descriptors[:1] == b"\x05" else b""
            known_audio = private in (b"Opus", b"AC-3", b"EAC3", b"DTS1") or descriptors[:1] in (
                b"\x6a",
                b"\x7a",
                b"\x7b",
            )
            kinds |= {"video"} if private in _VIDEO_REGISTRATIONS else {"audio"} if known_audio else set()
        at += 5 + len(descriptors)
    return kinds


def is_elementary_video(head: bytes) -> bool:
    """Return whether a file begins as MPEG video, H.264 or H.265 without a container does."""
    head = head[:64].lstrip(b"\x00")
    if head[:1] != b"\x01" or len(head) < 3:
        return False
    code = head[1]
    h264 = code & 0x80 == 0 and code & 0x1F in (6, 7, 9)
    h265 = code & 0x80 == 0 and code >> 1 in (32, 33, 34, 35, 39) and head[2] == 1
    return code in (0xB3, 0xB0, 0xB5) or h264 or h265


def has_audio_frames(window: ByteWindow) -> bool:
    """Return whether frames of MPEG audio, AAC, AC-3 or DTS follow one another, after zeros or little else.

    One sync word proves nothing: the next frame has to begin where the one before ends, three times or to the end.
    """
    for start, reach in ((0, _HEAD), (_zeros(window), _HEAD)):
        data = window.read(start, reach)
        if start and not data:
            continue
        for at in range(min(len(data) - 4, 4096)):
            if data[at] in (0xFF, 0x0B, 0x7F) and _frames(data, at, window.size - start):
                return True
    return False


def _zeros(window: ByteWindow) -> int:
    """How many zeros a file begins with, as far as it is looked into."""
    position = 0
    while position < _LOOKED_AT:
        block = window.read(position, 1 << 14)
        rest = block.lstrip(b"\x00")
        if rest or not block:
            return position + len(block) - len(rest)
        position += len(block)
    return position


def _frames(data: bytes, at: int, size: int) -> bool:
    first, wanted = at, 3 if not at else 4
    for count in range(1, wanted + 1):
        length = _frame_length(data[at : at + 8])
        if length is None:
            return False
        at += length
        # Tags may stand behind the last frame, and the last frame may be cut short.
        if at + 8 > size or data[at : at + 3] == b"TAG" or data[at : at + 8] == b"APETAGEX":
            return count >= 2 or not first
    return True


def _frame_length(head: bytes) -> int | None:
    """How many bytes a frame of audio has, by its header; None: this is none."""
    if len(head) < 8:
        return None
    if head[:4] == b"\x7f\xfe\x80\x01":
        return (int.from_bytes(head[5:8], "big") >> 4 & 0x3FFF) + 1
    if head[:2] == b"\x0b\x77":
        if head[5] >> 3 > 10:  # E-AC-3
            return 2 * ((int.from_bytes(head[2:4], "big") & 0x7FF) + 1)
        rate, code = head[4] >> 6, head[4] & 0x3F
        if rate == 3 or code >= len(_AC3_WORDS):
            return None
        words = _AC3_WORDS[code]
        return 2 * (words if rate == 0 else 3 * words // 2 if rate == 2 else words // 2 * 96_000 // 44_100 + (code & 1))
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return length if length > 7 and head[2] >> 2 & 15 < 13 else None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    place, column, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or not layer or place in (0, 15) or column == 3:
        return None
    rate, bits = _LAYER_RATES[version][column], 1000 * _BIT_RATES[version == 3, layer][place]
    if layer == 3:
        return 4 * (12 * bits // rate + padding)
    return (144 if layer == 2 or version == 3 else 72) * bits // rate + padding
