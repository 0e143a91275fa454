"""Small inputs that claim gigabytes: refused before memory is taken."""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from processors import AudioProcessor, ImageProcessor, VideoProcessor, load_audio, load_image, load_video
from tests.reliability import media
from tests.reliability.corpus.table import Refused, Table, demo, user

CASES = Table("bomb")
LARGE = Refused(
    "image_too_large", "pixel_limits", "image_expansion", "image_corrupt", "image_unknown_format", "source_too_large"
)
LONG = Refused(
    "audio_too_long",
    "audio_empty",
    "audio_too_large",
    "audio_rate",
    "audio_corrupt",
    "audio_truncated",
    "audio_shape",
    "audio_unknown_format",
    "audio_expansion",
    "source_too_large",
)
VIDEO = Refused("video_*", "image_too_large", "pixel_limits")
TOKENS = Refused(
    "pixel_limits",
    "image_too_large",
    "bad_option",
    "too_many_tokens",
    "too_long",
    "media_tokens",
    "video_*",
    "prompt_too_long",
    "too_many_*",
    "audio_too_long",
)


@cache
def flat_png(width: int, height: int, colour: int = 6) -> bytes:
    """A PNG of zeros whose data are made without its pixels: one block of deflate again and again."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row, total = bytes(1 << 20), (1 + width * channels) * height
    data = b"".join(packer.compress(row[: min(len(row), total - at)]) for at in range(0, total, len(row)))
    return media.png(width, height, 8, colour, data + packer.flush())


@cache
def gif(width: int, height: int) -> bytes:
    """A GIF whose screen is much larger than its picture."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\2\2D\1\0;"


@cache
def webp(width: int, height: int) -> bytes:
    return media.image_bytes(Image.new("RGB", (width, height)), "WEBP", lossless=True)


def lying_webp(width: int, height: int) -> bytes:
    """A small lossless WebP that says it is large."""
    data = bytearray(media.image_bytes(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


@cache
def bmp(width: int, height: int) -> bytes:
    """A BMP of run lengths: a few bytes a row."""
    data = b"".join(b"\xff\1" * (width // 255) + b"\0\0" for _ in range(min(height, 500))) + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024) + head + bytes(1024) + data


def tiff(width: int, height: int) -> bytes:
    """A TIFF of one short strip that says it is large."""
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 32773),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 40),
    ]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 48) + b"\x81\0" * 20 + ifd


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(media.image_bytes(media.picture(16, 16), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


for name, build in {
    "PNG of 81 million pixels": lambda: flat_png(9_000, 9_000),
    "grey PNG of 81 million pixels": lambda: flat_png(9_000, 9_000, 0),
    "PNG of 2^31 by 2^31": lambda: media.png(2**31 - 1, 2**31 - 1, data=b"x"),
    "PNG of 65,535 by 1,300": lambda: flat_png(65_535, 1_300),
    "GIF of 9,000 by 9,000": lambda: gif(9_000, 9_000),
    "GIF of 65,535 by 65,535": lambda: gif(65_535, 65_535),
    "WebP of 9,000 by 9,000": lambda: webp(9_000, 9_000),
    "WebP that says 16,383": lambda: lying_webp(16_383, 16_383),
    "BMP of 9,000 by 9,000": lambda: bmp(9_000, 9_000),
    "TIFF of 9,000 by 9,000": lambda: tiff(9_000, 9_000),
    "JPEG of 9,000 by 9,000": lambda: jpeg(9_000, 9_000),
    "JPEG of 65,500 by 65,500": lambda: jpeg(65_500, 65_500),
    "PPM of 10^5 by 10^5": lambda: b"P6 100000 100000 255\n",
    "JPEG 2000 that says 2^31": lambda: jpeg2000(2**31 - 1, 2**31 - 1),
    "ICO that says 256 and holds 9,000": lambda: ico(flat_png(9_000, 9_000)),
}.items():
    CASES.add(name, build, load_image, LARGE)


def jpeg2000(width: int, height: int) -> bytes:
    data = bytearray(media.image_bytes(media.picture(32, 32), "JPEG2000"))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", height, width)
    at = data.index(b"\xff\x51") + 6
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def ico(data: bytes) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(data), 22) + data


CASES.add(
    "one pixel to 40 million",
    lambda: media.png(1, 1),
    lambda data: ImageProcessor()(data, min_pixels=4 * 10**7, max_pixels=5 * 10**7),
    TOKENS,
)
CASES.add(
    "one pixel to 10^12 in a message",
    lambda: user({"type": "image", "image": media.png(1, 1), "min_pixels": 10**12, "max_pixels": 2 * 10**12}),
    lambda messages: demo().prepare(messages),
    TOKENS,
)


@cache
def silence(form: str, seconds: int, rate: int = 1_000) -> bytes:
    out = io.BytesIO()
    import soundfile

    with soundfile.SoundFile(out, "w", rate, 1, "PCM_16", format=form) as file:
        for _ in range(seconds):
            file.write(np.zeros(rate, np.int16))
    return out.getvalue()


CASES.add("FLAC of 20,000 s of silence", lambda: silence("FLAC", 20_000), load_audio, LONG)
CASES.add("FLAC of 20,000 s of silence to mel", lambda: silence("FLAC", 20_000), AudioProcessor(), LONG)
CASES.add("WAV of a rate of 1 Hz", lambda: media.wav(bytes(40_000), rate=1), load_audio, LONG)
CASES.add("WAV of 65,535 channels", lambda: media.wav(bytes(400_000), channels=65_535), load_audio, LONG)
CASES.add(
    "a recording of 20,000 s in a message",
    lambda: user({"type": "audio", "audio": silence("FLAC", 20_000)}),
    lambda messages: demo().prepare(messages),
    LONG,
)


@cache
def still_video(side: int, count: int, container: str = "mp4", codec: str = "libx264") -> bytes:
    return media.video([90] * count, 25, codec, container, width=side, height=side, options={})


CASES.add("video of 7,000 by 7,000", lambda: still_video(7_000, 1, "matroska", "mjpeg"), load_video, VIDEO)
CASES.add(
    "clip of 10^9 frames asked of 10",
    lambda: media.clip(),
    lambda data: VideoProcessor()(data, num_frames=10**9),
    VIDEO,
)
CASES.add(
    "clip to 10^9 pixels a frame",
    lambda: media.clip(),
    lambda data: VideoProcessor()(data, min_pixels=10**9, max_pixels=2 * 10**9),
    VIDEO,
)
CASES.add(
    "5,000 frames in a message",
    lambda: user({"type": "video", "video": np.broadcast_to(np.uint8(9), (5_000, 64, 64, 3)), "fps": 1}),
    lambda messages: demo().prepare(messages),
    TOKENS,
)
