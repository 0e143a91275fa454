"""Odd and bad audio files, made on the fly: what pipes, broken writers, `cat` and strangers leave behind."""

import io
import struct

import numpy as np
import pytest
import soundfile

RATE = 16_000


def tone(seconds=1.0, rate=RATE, pitch=440.0, level=0.3):
    return (level * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds=1.0, rate=RATE, level=0.3, seed=0):
    random = np.random.default_rng(seed)
    return (level * random.standard_normal(round(seconds * rate))).clip(-1, 1).astype(np.float32)


def written(samples, rate=RATE, form="WAV", subtype=None, endian=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype, endian=endian)
    return buffer.getvalue()


def encoded(samples, rate, codec, container, bit_rate=None, options=None, codec_options=None, layout="mono"):
    """Mono samples through FFmpeg."""
    av = pytest.importorskip("av")
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=codec_options or {})
        stream.layout = layout
        if bit_rate:
            stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        fifo = av.AudioFifo()
        for piece in av.AudioResampler(format=stream.format.name, layout=layout, rate=rate).resample(frame):
            fifo.write(piece)
        size = stream.frame_size or 1024
        while (piece := fifo.read(size, partial=True)) is not None:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return target.getvalue()


# --- MPEG audio ------------------------------------------------------------------------------------------------------


def piped_mp3(samples, rate=44_100, bit_rate=64_000, vbr=False):
    """An MP3 as a pipe leaves it: no header frame, no tag."""
    options = {"compression_level": "7"} | ({"global_quality": "236", "flags": "+qscale"} if vbr else {})
    bit_rate = None if vbr else bit_rate
    return encoded(samples, rate, "libmp3lame", "mp3", bit_rate, {"write_xing": "0", "id3v2_version": "0"}, options)


def mp3(samples, rate=44_100, bit_rate=64_000):
    """An MP3 with a Xing header and an ID3v2 tag."""
    return encoded(samples, rate, "libmp3lame", "mp3", bit_rate)


def id3(size, filling=b"\xff\xfb\x90\x64"):
    """An ID3v2.3 tag with a picture whose bytes look like MPEG frames."""
    picture = b"\0image/jpeg\0\3\0" + (filling * size)[:size]
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    return b"ID3\3\0\0" + bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0)) + frame


def ape(size):
    ends = [b"APETAGEX" + struct.pack("<4I", 2000, size + 32, 1, flags) + bytes(8) for flags in (0xA0000000, 1 << 31)]
    return ends[0] + b"\xff\xfb\x90\x64" * (size // 4) + ends[1]


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
LYRICS = b"LYRICSBEGININD00002" + b"LYR00500" + b"\xff\xfb\x90\x64" * 125 + b"000527LYRICS200"


def free_format(frames=40):
    """Layer I frames of silence at a free bit rate."""
    header = (0xFFFF00C4).to_bytes(4, "big")  # MPEG-1, layer I, no checksum, free, 44.1 kHz, mono
    return (header + bytes(196)) * frames


# --- RIFF and its relatives ------------------------------------------------------------------------------------------


def wav(pcm, size=None, outer=None, rate=RATE, channels=1, bits=16, tag=1, before=b"", behind=b"", kind=b"RIFF"):
    """A WAV whose header may lie."""
    order = ">" if kind == b"RIFX" else "<"
    width = channels * bits // 8
    form = struct.pack(order + "HHIIHH", tag, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
    size = len(pcm) if size is None else size
    body = b"WAVE" + before + b"fmt " + struct.pack(order + "I", 16) + form
    body += b"data" + struct.pack(order + "I", size) + pcm + behind
    return kind + struct.pack(order + "I", len(body) if outer is None else outer) + body


def chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def rf64(pcm, data_size, kind=b"RF64"):
    form = struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, 2, 16)
    body = b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, data_size, 0, 0)) + chunk(b"fmt ", form)
    return kind + b"\xff" * 4 + body + b"data" + b"\xff" * 4 + pcm


def patched(data, at, value):
    return data[:at] + value + data[at + len(value) :]


# --- Ogg -------------------------------------------------------------------------------------------------------------


def checksum(page):
    """Ogg's CRC, a bit at a time."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if value >> 31 else value << 1
    return value


def pages(data):
    """The pages of an Ogg file."""
    made = []
    while data:
        count = data[26]
        size = 27 + count + sum(data[27 : 27 + count])
        made.append(data[:size])
        data = data[size:]
    return made


def repaged(page, **fields):
    """A page with other flags, granule, serial or sequence number, and the checksum that fits."""
    places = {"flags": (5, "B"), "granule": (6, "<q"), "serial": (14, "<I"), "sequence": (18, "<I")}
    page = bytearray(page)
    for name, value in fields.items():
        struct.pack_into(places[name][1], page, places[name][0], value)
    struct.pack_into("<I", page, 22, checksum(bytes(page)))
    return bytes(page)


# --- FLAC ------------------------------------------------------------------------------------------------------------


def with_total(data, total, md5=bytes(16)):
    """A FLAC whose header promises so many samples."""
    info = bytearray(data[8:42])
    info[13:18] = (int.from_bytes(info[13:18], "big") >> 36 << 36 | total).to_bytes(5, "big")
    return data[:8] + bytes(info[:18]) + md5 + data[42:]


def flac_silence(frames, rate_bits=b"\x03\xe8", counted=True):
    """A FLAC of constant blocks of 65,535 samples at 1 kHz: a dozen bytes each."""
    crc16 = _crc16()
    body = b""
    for number in range(frames):
        coded = chr(number).encode() if number < 128 else bytes([0xC0 | number >> 6, 0x80 | number & 63])
        header = b"\xff\xf8\x7d\x08" + coded + b"\xff\xfe" + rate_bits
        frame = header + bytes([_crc8(header)]) + b"\x00\x00\x00"
        body += frame + crc16(frame).to_bytes(2, "big")
    total = frames * 65_535 if counted else 0
    info = b"\xff\xff\xff\xff" + bytes(6) + (1000 << 44 | 15 << 36 | total).to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\x00\x00\x22" + info + body


def _crc8(data):
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 7) & 0xFF if value & 0x80 else value << 1
    return value


def _crc16():
    def crc(data):
        value = 0
        for byte in data:
            value ^= byte << 8
            for _ in range(8):
                value = (value << 1 ^ 0x8005) & 0xFFFF if value & 0x8000 else value << 1
        return value

    return crc
