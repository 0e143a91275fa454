"""The one demuxer that a container is opened with, told by its own first bytes.

FFmpeg, left to choose, takes text for playlists, session descriptions and lists of files, and opens what they name.
Every demuxer here reads the bytes that it is handed and nothing else.
"""

from io import BufferedIOBase

_HEAD = 1 << 16
_SHORT = 4096

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"

# Where a magic number stands, the number, and the demuxer.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", MATROSKA),
    (0, b"OggS", "ogg"),
    (0, b"FLV\x01", "flv"),
    (0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "asf"),
    (0, b"DKIF", "ivf"),
    (0, b"YUV4MPEG2 ", "yuv4mpegpipe"),
    (0, b".RMF", "rm"),
    (0, b".ra\xfd", "rm"),
    (0, b"nut/multimedia container\0", "nut"),
    (0, bytes.fromhex("060e2b34020501010d0102"), "mxf"),
    (0, b"\x00\x00\x00\x00\x01\xbc", "gxf"),
    (0, bytes.fromhex("b7d800203749da11a64e0007e95ead8d"), "wtv"),
    (0, b"\x1f\x07\x00", "dv"),
    (0, b"NSVf", "nsv"),
    (0, b"SMK2", "smk"),
    (0, b"SMK4", "smk"),
    (0, b"BIKi", "bink"),
    (0, b"BIKb", "bink"),
    (0, b"KB2", "bink"),
    (4, b"\x11\xaf", "flic"),
    (4, b"\x12\xaf", "flic"),
    (0, b"AVPV", "pva"),
    (0, b"DHAV", "dhav"),
    (0, b"BBCD\x00", "dirac"),
    (0, b"\x12\x00\x0a", "obu"),
    (0, b"\xff\xd8\xff", "mjpeg"),
    (0, b"fLaC", "flac"),
    (0, b"caff", "caf"),
    (0, b".snd", "au"),
    (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (0, b"#!AMR", "amr"),
    (0, b"MAC ", "ape"),
    (0, b"TTA1", "tta"),
    (0, b"TTA2", "tta"),
    (0, b"wvpk", "wv"),
    (0, b"MPCK", "mpc8"),
    (0, b"MP+", "mpc"),
    (0, b"tBaK", "tak"),
    (0, b"DSD ", "dsf"),
    (0, b"FRM8", "iff"),
    (0, b"Creative Voice File\x1a", "voc"),
    (0, b"DTSHDHDR", "dtshd"),
    (0, b"\x7f\xfe\x80\x01", "dts"),
    (0, b"\xfe\x7f\x01\x80", "dts"),
    (0, b"\x1f\xff\xe8\x00", "dts"),
    (0, b"\xff\x1f\x00\xe8", "dts"),
    (4, b"\xf8\x72\x6f\xba", "truehd"),
    (4, b"\xf8\x72\x6f\xbb", "mlp"),
)
_RIFF = {b"AVI ": "avi", b"AVIX": "avi", b"AMV ": "avi", b"WAVE": "wav", b"QLCM": "qcp", b"XWMA": "xwma"}
_FORM = {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "iff", b"16SV": "iff"}
_BOXES = {
    b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"sidx", b"moof", b"uuid", b"emsg", b"prft",
}  # fmt: skip
_PACKET_SIZES = (188, 192, 204)
_SYNCS = 6


def container_format(stream: BufferedIOBase) -> str | None:
    """Return the name of the demuxer for a seekable stream, or None; the stream is left at its start."""
    stream.seek(0)
    head = stream.read(_HEAD)
    try:
        return _by_magic(head) or _transport(head) or _by_start_code(head) or _tagged(stream, head) or _late(head)
    finally:
        stream.seek(0)


def _by_magic(head: bytes) -> str | None:
    if head[:4] in {b"RIFF", b"RF64", b"BW64", b"RIFX"}:
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM":
        return _FORM.get(head[8:12])
    if head[4:8] in _BOXES:
        return MOV
    for place, magic, name in _MAGIC:
        if head.startswith(magic, place):
            return name
    if head[:2] == b"\x0b\x77" and len(head) > 5:
        return "ac3" if head[5] >> 3 <= 10 else "eac3"
    return None


def _by_start_code(head: bytes) -> str | None:
    """Elementary streams and program streams, which begin with 00 00 01."""
    zeros = len(head) - len(head.lstrip(b"\0"))
    if zeros < 2 or zeros > _SHORT or head[zeros : zeros + 1] != b"\x01" or len(head) < zeros + 3:
        return None
    code, following = head[zeros + 1], head[zeros + 2]
    if code in (0xBA, 0xBB):
        return "mpeg"
    if code == 0xB3:
        return "mpegvideo"
    if code in (0xB0, 0xB5) or (code <= 0x06 and b"\0\0\1" in head[zeros + 2 :] and _visual_object(head)):
        return "m4v"
    if code == 0x0F:
        return "vc1"
    if following == 1 and code in (0x40, 0x42, 0x44, 0x46, 0x4E):
        return "hevc"
    if code & 0x80 == 0 and code & 0x1F in (1, 5, 6, 7, 8, 9):
        return "h264"
    return None


def _visual_object(head: bytes) -> bool:
    return any(part[:1] and 0x20 <= part[0] <= 0x2F for part in head[:_SHORT].split(b"\0\0\1")[1:])


def _transport(head: bytes) -> str | None:
    """A transport stream repeats its sync byte at the length of a packet, wherever in a packet it was cut."""
    for size in _PACKET_SIZES:
        if len(head) >= _SYNCS * size:
            starts = range(min(_SHORT, len(head) - (_SYNCS - 1) * size))
        else:
            starts = range(0, 5, 4) if len(head) > size else range(0)
        for start in starts:
            places = head[start : start + _SYNCS * size : size]
            if len(places) > 1 and places.count(b"G") == len(places):
                return "mpegts"
    return None


def _tagged(stream: BufferedIOBase, head: bytes) -> str | None:
    """What follows ID3 tags and zeros; MPEG audio where it cannot be told, for it has no magic number."""
    start = 0
    while head[:3] == b"ID3" and len(head) >= 10:
        start += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        stream.seek(start)
        head = stream.read(_HEAD)
    zeros = len(head) - len(head.lstrip(b"\0"))
    name = _by_sync(head[zeros:])
    if start and name is None:
        name = next((found for magic, found in _AFTER_TAGS if head.startswith(magic)), None)
    if start and name is None:
        return "mp3" if any(_by_sync(head[place : place + 4]) == "mp3" for place in _syncs(head)) else None
    return name


_AFTER_TAGS = ((b"fLaC", "flac"), (b"TTA1", "tta"), (b"wvpk", "wv"), (b"MPCK", "mpc8"), (b"MP+", "mpc"))


def _by_sync(head: bytes) -> str | None:
    if len(head) < 4:
        return None
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    if head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x18 != 0x08 and head[1] & 0x06:
        plain = head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
        return "mp3" if plain else None
    if head[0] == 0x56 and head[1] & 0xE0 == 0xE0:
        return "loas"
    return None


def _syncs(head: bytes) -> list[int]:
    places, place = [], head.find(b"\xff")
    while place >= 0:
        places.append(place)
        place = head.find(b"\xff", place + 1)
    return places


def _late(head: bytes) -> str | None:
    """Formats that begin with a stretch of other bytes: the run-in of an MXF file, the rest of a cut-off frame."""
    if bytes.fromhex("060e2b34020501010d0102") in head:
        return "mxf"
    if is_text(head[:_SHORT]):
        return None
    # Two frame headers of equal parameters: a stream cut off at its front.
    for place in _syncs(head[: _SHORT * 2]):
        name = _by_sync(head[place : place + 4])
        after = _next_frame(head, place) if name else None
        if after and _by_sync(head[after : after + 4]) == name:
            return name
    return None


def _next_frame(head: bytes, place: int) -> int | None:
    """Where the frame after an ADTS or layer III header begins."""
    one, two, three = head[place + 1 : place + 4].ljust(3, b"\0")
    if one & 0xF6 == 0xF0:
        tail = head[place + 3 : place + 6].ljust(3, b"\0")
        return place + ((three & 3) << 11 | tail[1] << 3 | tail[2] >> 5)
    version, row = one >> 3 & 3, two >> 4
    if one >> 1 & 3 != 1 or version == 1:
        return None
    rate = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}[version][two >> 2 & 3]
    kilobits = (_KILOBITS if version == 3 else _LOW_KILOBITS)[row]
    return place + (144_000 if version == 3 else 72_000) * kilobits // rate + (two >> 1 & 1)


_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def is_text(head: bytes) -> bool:
    """Whether bytes are text in some encoding of one byte, or UTF-8: no control characters but white space."""
    return not any(byte < 9 or 13 < byte < 32 or byte == 127 for byte in head)
