"""AVI files of uncompressed frames and samples, byte by byte: video files without an encoder, the same everywhere.

RIFF and AVI as in Microsoft's "AVI RIFF File Reference"; one chunk of 24-bit rows, bottom row first, a frame, and the
samples that belong to it after each.
"""

import struct
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int16, UInt8


def write_avi(
    frames: UInt8[np.ndarray, "frames height width 3"], fps: int, samples: Int16[np.ndarray, "samples"], rate: int
) -> bytes:
    """A video file with a mono audio track.

    Args:
        frames: RGB; rows are padded to whole words, as the format wants them.
        fps: frames a second.
        samples: of the audio track; spread over the frames, what is left after the last.
        rate: samples a second.
    """
    count, height, width, _ = frames.shape
    row = -(-3 * width // 4) * 4
    size = row * height
    blocks = np.zeros((count, height, row), np.uint8)
    blocks[:, :, : 3 * width] = frames[:, ::-1, :, ::-1].reshape(count, height, -1)
    cuts = [rate * i // fps for i in range(1, count)]
    pieces = np.split(samples.astype("<i2"), cuts)
    chunks = []
    for block, piece in zip(blocks, pieces, strict=True):
        chunks += [(b"00db", block.tobytes()), (b"01wb", piece.tobytes())]

    video_format = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 0, 0, 0, 0)
    audio_format = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    video = _stream(b"vids", b"DIB ", fps, 1, count, size, 0, (width, height), video_format)
    audio = _stream(b"auds", bytes(4), 2 * rate, 2, len(samples), 2 * rate, 2, (0, 0), audio_format)
    main = struct.pack("<14I", 1_000_000 // fps, size * fps, 0, 0x10, count, 0, 2, size, width, height, 0, 0, 0, 0)
    header = _list(b"hdrl", [_chunk(b"avih", main), video, audio])
    index, at = [], 4
    for name, data in chunks:
        index.append(struct.pack("<4sIII", name, 0x10, at, len(data)))
        at += 8 + len(data) + len(data) % 2
    movie = _list(b"movi", [_chunk(name, data) for name, data in chunks])
    return _chunk(b"RIFF", b"AVI " + header + movie + _chunk(b"idx1", b"".join(index)))


def _stream(
    kind: bytes, codec: bytes, rate: int, scale: int, length: int, buffer: int, sample: int, sides: tuple, form: bytes
) -> bytes:
    fields = (kind, codec, 0, 0, 0, 0, scale, rate, 0, length, buffer, 0xFFFFFFFF, sample, 0, 0, *sides)
    return _list(b"strl", [_chunk(b"strh", struct.pack("<4s4sIHHIIIIIIIIhhhh", *fields)), _chunk(b"strf", form)])


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _list(name: bytes, chunks: Iterable[bytes]) -> bytes:
    return _chunk(b"LIST", name + b"".join(chunks))
