"""Small media made on the spot: whole, odd, lying or damaged; the same bytes in every run."""

import io
import json
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "samples"


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Bytes by chance."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def picture(width: int = 64, height: int = 48, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth picture in several colours."""
    small = Image.fromarray(noise((4, 4, 3), seed))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def image_bytes(image: Image.Image | None = None, form: str = "PNG", **options: Any) -> bytes:
    """A picture in a file format."""
    out = io.BytesIO()
    (picture() if image is None else image).save(out, form, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, data: bytes | None = None, extra: bytes = b""
) -> bytes:
    """A PNG with any header; without data, zeros of the size that the header says."""
    if data is None:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        row = bytes(1 + (width * channels * depth + 7) // 8)
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def animation(form: str, count: int = 4, size: int = 32, duration: int = 100, clear: bool = False) -> bytes:
    """Frames that get lighter, or a red square that moves over nothing."""
    frames = []
    for number in range(count):
        if clear:
            frame = Image.new("RGBA", (size, size))
            frame.paste((255, 0, 0, 255), (2 * number, 0, 2 * number + 8, 8))
        else:
            frame = Image.new("RGB", (size, size), (40 * number % 256, 90, 30))
        frames.append(frame)
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": duration}
    if form == "GIF":
        options["disposal"] = 2
    if form == "WEBP":
        options["lossless"] = True
    return image_bytes(frames[0], form, **options)


def tone(seconds: float = 1.0, rate: int = 16_000, hertz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """A sine in float32."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def hiss(seconds: float, rate: int = 16_000, level: float = 0.3) -> np.ndarray:
    """White noise in float32."""
    return (level * np.random.default_rng(0).standard_normal(int(seconds * rate))).clip(-1, 1).astype(np.float32)


def audio_bytes(samples: np.ndarray, rate: int = 16_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    """Samples in a format of libsndfile."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=subtype)
    return out.getvalue()


def wav(
    samples: np.ndarray | bytes,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    code: int = 1,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
) -> bytes:
    """A WAV whose header may lie; float samples become 16-bit ones."""
    if isinstance(samples, np.ndarray):
        samples = (samples * 32767).astype("<i2").tobytes() if samples.dtype.kind == "f" else samples.tobytes()
    block = channels * max(bits // 8, 1)
    fields = (code, channels, rate & 0xFFFFFFFF, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    body = b"WAVE" + before + b"fmt " + struct.pack("<IHHIIHH", 16, *fields)
    body += b"data" + struct.pack("<I", len(samples) if data_size is None else data_size) + samples
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def audio_track(
    samples: np.ndarray,
    rate: int,
    codec: str,
    container: str,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    stream_options: dict[str, str] | None = None,
) -> bytes:
    """Mono samples in a container of FFmpeg."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options or {}) as file:
        track: Any = file.add_stream(codec, rate=rate, options=stream_options or {})
        track.layout = "mono"
        if bit_rate:
            track.bit_rate = bit_rate
        _mux_samples(file, track, samples, rate)
    return out.getvalue()


def _mux_samples(file: Any, track: Any, samples: np.ndarray, rate: int, start: float = 0.0) -> None:
    import av

    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    fifo = av.AudioFifo()
    for piece in av.AudioResampler(format=track.format.name, layout="mono", rate=rate).resample(frame):
        fifo.write(piece)
    at, size = round(start * rate), track.frame_size or 1024
    while (piece := fifo.read(size, partial=True)) is not None:
        piece.pts, piece.time_base = at, Fraction(1, rate)
        at += piece.samples
        file.mux(track.encode(piece))
    file.mux(track.encode(None))


def mp3(
    samples: np.ndarray, rate: int, tags: bool = False, bit_rate: int | None = 64_000, quality: int | None = None
) -> bytes:
    """An MP3, without the header of Xing and without tags as a pipe leaves it."""
    plain = {} if tags else {"write_xing": "0", "id3v2_version": "0"}
    variable = {"global_quality": str(118 * quality), "flags": "+qscale"} if quality is not None else {}
    return audio_track(samples, rate, "libmp3lame", "mp3", None if variable else bit_rate, plain, variable)


def id3(size: int) -> bytes:
    """An ID3v2.3 tag with a cover of so many bytes."""
    cover = b"\0image/jpeg\0\3\0" + b"\x55" * size
    frame = b"APIC" + len(cover).to_bytes(4, "big") + b"\0\0" + cover
    return b"ID3\3\0\0" + bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0)) + frame


def ape(size: int) -> bytes:
    """An APEv2 tag as it stands behind a file."""
    text = b"x" * size
    first, last = (
        b"APETAGEX" + struct.pack("<4I", 2000, size + 32, 1, flags) + bytes(8) for flags in (0xA0000000, 0x80000000)
    )
    return first + text + last


def flac_of_unknown_length(samples: np.ndarray, rate: int) -> bytes:
    """A FLAC as an encoder leaves it that writes to a pipe: no count of samples, no checksum."""
    data = bytearray(audio_bytes(samples, rate, "FLAC"))
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    return bytes(data)


def video(
    levels: Sequence[int],
    rate: int = 25,
    codec: str = "libx264",
    container: str = "mp4",
    *,
    width: int = 64,
    height: int = 64,
    times: Sequence[float] | None = None,
    samples: np.ndarray | None = None,
    offset: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A grey clip of one level a frame; `times` in seconds for an uneven rate, `samples` at 48 kHz for its audio."""
    import av

    out = io.BytesIO()
    if options is None:
        options = {"crf": "4", "preset": "ultrafast"} if codec == "libx264" else {}
    if codec == "libx265":
        options = {**options, "x265-params": "log-level=none"}
    # Some containers know one rate and no times.
    unit = Fraction(1, 1000) if container not in ("avi", "mpeg", "h264", "ogg") else Fraction(1, rate)
    with av.open(out, "w", format=container) as file:
        track: Any = file.add_stream(codec, rate=rate, options=options)
        track.width, track.height = width, height
        track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        track.codec_context.time_base = track.time_base = unit
        voice = None
        if samples is not None:
            voice = file.add_stream("aac", rate=48_000)
            voice.layout = "mono"  # type: ignore[union-attr]
        for number, level in enumerate(levels):
            pixels = np.full((height, width, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            seconds = offset + (number / rate if times is None else times[number])
            frame.pts, frame.time_base = round(seconds / unit), unit
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
        if voice is not None and samples is not None:
            _mux_samples(file, voice, samples, 48_000, offset)
    return out.getvalue()


@lru_cache(maxsize=64)
def clip(count: int = 12, container: str = "mp4", codec: str = "libx264", audio: bool = False, side: int = 64) -> bytes:
    """A short clip that gets lighter, 10 frames a second; built once."""
    sound = tone(count / 10, 48_000) if audio else None
    levels = [20 + 15 * n % 220 for n in range(count)]
    return video(levels, 10, codec, container, width=side, height=side, samples=sound)


def motion_jpeg_with_exif(container: str, count: int = 10) -> bytes:
    """Motion JPEG as cameras write it, EXIF in every frame."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        track: Any = file.add_stream("mjpeg", rate=10)
        track.width = track.height = 64
        track.pix_fmt = "yuvj420p"
        for number in range(count):
            tags = Image.Exif()
            tags[0x010F] = "A maker"
            frame = image_bytes(Image.new("RGB", (64, 64), (20 * number, 100, 50)), "JPEG", exif=tags, quality=95)
            packet = av.Packet(frame)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = track, number, number, True
            packet.time_base = Fraction(1, 10)
            file.mux(packet)
    return out.getvalue()


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of MP4."""
    data = b"".join(parts)
    return struct.pack(">I", len(data) + 8) + kind + data


def bmp_with_unused_alpha(side: int = 40) -> bytes:
    """32 bits a pixel, of which the fourth byte is 0 everywhere, with a V5 header."""
    head = struct.pack("<IiiHHIIiiII", 124, side, side, 1, 32, 3, side * side * 4, 2835, 2835, 0, 0)
    head = (head + struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs").ljust(124, b"\0")
    start = b"BM" + struct.pack("<IHHI", 138 + side * side * 4, 0, 0, 138)
    return start + head + bytes([30, 200, 10, 0]) * side**2


def gif_with_palette_of_g() -> bytes:
    """A GIF with "G" at byte 188, where a transport stream has its second packet."""
    palette = [0] * 768
    palette[188 - 13] = 0x47
    image = Image.fromarray((np.arange(4096) % 256).astype(np.uint8).reshape(64, 64)).convert("P")
    image.putpalette(palette)
    return image_bytes(image, "GIF", optimize=False)


def cut(data: bytes, share: float) -> bytes:
    """The first part of a file."""
    return data[: int(len(data) * share)]


def damaged(data: bytes, start: float = 0.4, length: int = 64, seed: int = 1) -> bytes:
    """A file with bytes by chance somewhere in it."""
    at = int(len(data) * start)
    return data[:at] + noise((length,), seed).tobytes() + data[at + length :]


def zeroed(data: bytes, start: float = 0.4, end: float = 0.6) -> bytes:
    """A file with a hole of zeros in it, as a broken download leaves it."""
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


def safetensors_file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header: a dict, or the bytes of one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data
