"""Animated pictures block by block: their first bytes, where a file of each may end, and how long its frames stay."""

import io
import struct
import zlib

import pytest
from PIL import Image

from processors import Access, InputError, Limits
from processors.decode.image.animation import animation_format, frame_edges, with_alpha


def encoded(form, count=3, mode="RGB", duration=40, **options):
    pictures = [Image.new(mode, (16, 8), (80 * number, 9, 9)) for number in range(count)]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": pictures[1:], "duration": duration} if count > 1 else {}
    pictures[0].save(buffer, form, **more, **options)
    return buffer.getvalue()


def edges(data, form, **limits):
    times, size = frame_edges(io.BytesIO(data), form, "it", Access(Limits(**limits)))
    return times.tolist(), size


def refused(data, form, **limits):
    with pytest.raises(InputError) as refusal:
        edges(data, form, **limits)
    return refusal.value.code


def ftyp(major, *compatible, size=None):
    length = 16 + 4 * len(compatible) if size is None else size
    return struct.pack(">I", length) + b"ftyp" + major + bytes(4) + b"".join(compatible) + bytes(99)


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"GIF87a", "GIF"),
        (b"GIF89a" + bytes(99), "GIF"),
        (b"GIF88a" + bytes(99), None),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"),
        (b"\x89PNG\r\n\x1a" + bytes(99), None),
        (b"RIFF\0\0\0\0WEBP" + bytes(99), "WEBP"),
        (b"RIFF\0\0\0\0WAVE" + bytes(99), None),
        (b"RIFX\0\0\0\0WEBP" + bytes(99), None),
        (ftyp(b"avis"), "AVIF"),
        (ftyp(b"avif"), "AVIF"),
        (ftyp(b"msf1", b"miaf", b"avis"), "AVIF"),
        (ftyp(b"mif1", b"avif", b"miaf"), "AVIF"),
        (ftyp(b"isom", b"mp42"), None),
        (ftyp(b"mif1", b"avif", size=16), None),  # behind the box
        (ftyp(b"mif1", b"xxav", b"ifxx"), None),
        (b"\0\0\0\x18free" + ftyp(b"avis")[8:], None),
        (b"", None),
    ],
)
def test_an_animation_is_known_by_its_first_bytes(head, form):
    stream = io.BytesIO(head)
    stream.seek(3)
    assert animation_format(stream) == form and stream.tell() == 0


@pytest.mark.parametrize(
    ("form", "options"), [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100})]
)
def test_frames_come_on_and_go_as_long_after_one_another_as_they_say(form, options):
    data = encoded(form, duration=[40, 120, 70], **options)
    times, size = edges(data, form)
    assert times == pytest.approx([0, 0.04, 0.16, 0.23]) and size == (16, 8)
    if form != "AVIF":  # whose single frames say how long they stay
        assert edges(encoded(form, count=1, **options), form)[0] == pytest.approx([0, 0.1])
    assert edges(data, form, video_frames=3)[1] == (16, 8)
    assert refused(data, form, video_frames=2) == "video_too_large"


def gif_blocks():
    """An animated GIF in pieces behind each of which it may end: header and palette, extensions, frames, trailer."""
    blocks = [b"GIF89a" + struct.pack("<HHBBB", 2, 1, 0x80, 0, 0) + bytes([0, 0, 0, 255, 0, 0])]
    blocks.append(b"!\xfe\x03abc\x02de\0")
    for palette in (b"", bytes(4 * 3)):
        blocks.append(b"!\xf9\x04\0\x05\0\0\0")
        flags = 0x81 if palette else 0
        blocks.append(b"," + struct.pack("<HHHHB", 0, 0, 2, 1, flags) + palette + b"\x02\x02\x44\x0a\0")
    return [*blocks, b";"]


def test_a_gif_ends_behind_a_block_and_nowhere_else():
    """A trailer that is missing alone is common, and loses nothing; nor do files that end behind a frame."""
    data, ends = b"".join(gif_blocks()), []
    for block in gif_blocks():
        ends.append((ends or [0])[-1] + len(block))
    assert edges(data, "GIF")[0] == pytest.approx([0, 0.05, 0.1])
    for end in range(13, len(data)):
        if end not in ends:
            assert refused(data[:end], "GIF") == "video_truncated", end
    assert edges(data[: ends[-2]], "GIF")[0] == pytest.approx([0, 0.05, 0.1])
    assert edges(data[: ends[3]], "GIF")[0] == pytest.approx([0, 0.05])
    assert edges(data + b"anything", "GIF")[0] == edges(data[:-1] + b"anything", "GIF")[0] == edges(data, "GIF")[0]


def test_a_png_ends_with_its_last_chunk():
    data = encoded("PNG")
    for end in [*range(8, len(data), 7), len(data) - 4, len(data) - 1]:
        assert refused(data[:end], "PNG") == "video_truncated", end
    text = struct.pack(">I", 3) + b"tEXta\0b" + struct.pack(">I", zlib.crc32(b"tEXta\0b"))
    assert edges(data + b"anything", "PNG") == edges(data, "PNG") == edges(data[:-12] + text + data[-12:], "PNG")


def test_a_webp_ends_where_its_size_says():
    data = encoded("WEBP", lossless=True)
    assert refused(data[:-1], "WEBP") == "video_truncated"
    assert edges(data + b"\0\0", "WEBP") == edges(data, "WEBP")


def test_an_animated_webp_is_said_to_be_see_through_and_no_other_is_touched():
    """RFC 9649: of the flags in front of the canvas, 0x10 is alpha and 0x02 is animation."""
    data = encoded("WEBP", lossless=True)
    assert data[12:16] == b"VP8X" and data[20] & 0x02
    plain = bytearray(data)
    plain[20] &= ~0x10
    stream = io.BytesIO(bytes(plain))
    stream.seek(5)
    made = with_alpha(stream)
    assert made.read() == bytes(plain[:20]) + bytes([plain[20] | 0x10]) + bytes(plain[21:])
    plain_one = bytearray(plain)
    plain_one[20] &= ~0x02
    for other in (plain_one, data[:20], data[:12] + b"VP8L" + data[16:], data[:12] + b"VP8 " + data[16:], b""):
        stream = io.BytesIO(bytes(other))
        stream.seek(0, 2)
        assert with_alpha(stream) is stream and stream.tell() == 0
