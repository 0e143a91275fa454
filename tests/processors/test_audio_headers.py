"""AIFF, AU, CAF, 8SVX, IRCAM and Opus: their headers at the edges of the formats' rules."""

import io
import struct

import numpy as np
import pytest

from processors import InputError, load_audio
from processors.decode.audio.iff_chunks import iff_segments
from processors.decode.audio.legacy_formats import check_legacy
from processors.decode.audio.ogg_pages import _opus_samples
from processors.io.splice import splice
from tests.processors.odd_audio import RATE, tone, written

PCM = bytes(range(1, 201))


def chunk(kind, body, size=None):
    """A chunk of EA IFF 85: of an even length, which its size does not count."""
    return kind + struct.pack(">I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def walk(data):
    stream = io.BytesIO(data)
    segments = iff_segments(stream, "it", 0)
    assert segments is not None
    return splice(stream, segments[0].pieces).read()


def refusal_of(call, *arguments):
    with pytest.raises(InputError) as refusal:
        call(*arguments)
    return refusal.value.code


# ---------------------------------------------------------------------------------------------------------------- AIFF


def aiff(frames, pcm, depth=16, channels=1, kind=b"", size=None, behind=b""):
    common = struct.pack(">HIH", channels, frames, depth) + bytes.fromhex("400cfa00000000000000") + kind
    common += b"\x04name\0" if kind else b""
    body = b"AIFC" if kind else b"AIFF"
    body += chunk(b"COMM", common) + chunk(b"SSND", bytes(8) + pcm, size) + behind
    return b"FORM" + struct.pack(">I", len(body)) + body


# Bytes of a sample: whole ones for the bits of AIFF and of the kinds of AIFF-C that go by them, and the others' own.
WIDTHS = [
    *((kind, depth, -(-depth // 8)) for kind in (b"", b"NONE", b"twos", b"sowt") for depth in (1, 8, 9, 16, 24, 32)),
    (b"in24", 24, 3), (b"42ni", 24, 3), (b"in32", 32, 4), (b"23ni", 32, 4),
    *((kind, 16, 1) for kind in (b"ulaw", b"ULAW", b"alaw", b"ALAW", b"raw ")),
    *((kind, 16, 4) for kind in (b"fl32", b"FL32")), *((kind, 16, 8) for kind in (b"fl64", b"FL64")),
    (b"ima4", 16, 34),
]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 2])
def test_as_many_frames_as_there_are_bytes_for(channels):
    for kind, depth, width in WIDTHS:
        pcm = bytes(10 * width * channels)
        whole = aiff(10, pcm, depth, channels, kind)
        assert walk(whole) == whole, kind
        assert walk(aiff(9, pcm, depth, channels, kind)) == whole, kind
        # Some writers count samples, and not packets of 64.
        over = 64 * 10 + 1 if kind == b"ima4" else 11
        assert refusal_of(walk, aiff(over, pcm, depth, channels, kind)) == "audio_truncated", kind


@pytest.mark.parametrize("size", [0, 8])
def test_an_empty_chunk_of_samples_before_another_is_empty(size):
    data = aiff(100, PCM, size=size)
    assert walk(data)[data.index(b"SSND") + 4 :] == struct.pack(">I", 208) + bytes(8) + PCM
    body = bytes(size)
    broken = data[: data.index(b"SSND")] + b"SSND" + struct.pack(">I", size) + body + chunk(b"NAME", b"a name")
    assert refusal_of(walk, broken) == "audio_empty"


def test_sizes_that_32_bits_cannot_say_are_the_greatest(tmp_path):
    head = aiff(0, b"", size=0)
    with (tmp_path / "long.aiff").open("w+b") as stream:
        stream.write(head)
        stream.truncate(len(head) + (1 << 32))
        segments = iff_segments(stream, "it", 0)
    assert segments is not None
    (segment,) = segments
    form, frames, size = (piece for piece in segment.pieces if isinstance(piece, bytes))
    assert form == size == b"\xff" * 4 and frames == struct.pack(">I", 1 << 31)


# ---------------------------------------------------------------------------------------------------------- AU and CAF


@pytest.mark.parametrize(("magic", "order"), [(b".snd", ">"), (b"dns.", "<")])
@pytest.mark.parametrize("header", [24, 32, 300])
def test_an_au_file_of_a_byte_too_few_is_cut_short(magic, order, header):
    data = magic + struct.pack(order + "5I", header, len(PCM), 3, RATE, 1).ljust(header - 4, b"\0") + PCM
    assert walk(data) == data
    assert refusal_of(walk, data[:-1]) == "audio_truncated"


def caf(size, pcm, behind=b""):
    layout = struct.pack(">d4sIIIII", RATE, b"lpcm", 0, 2, 1, 1, 16)
    head = b"caff\0\1\0\0" + b"desc" + struct.pack(">q", 32) + layout
    return head + b"data" + struct.pack(">q", size) + bytes(4) + pcm + behind


@pytest.mark.parametrize("size", [-1, 0, 4, 204])
def test_a_caf_whose_size_was_left_open_is_whole(size):
    assert walk(caf(size, PCM)) == caf(204, PCM)


def test_a_caf_of_a_byte_too_few_is_cut_short():
    assert refusal_of(walk, caf(204, PCM[:-1])) == "audio_truncated"


@pytest.mark.parametrize("kind", [b"info", b"free", b"mark"])
def test_an_empty_chunk_of_a_caf_before_another_is_empty(kind):
    assert refusal_of(walk, caf(4, b"", kind + struct.pack(">q", 8) + bytes(8))) == "audio_empty"


# ---------------------------------------------------------------------------------------------------------- older ones


def check(data):
    check_legacy(io.BytesIO(data), "it", 0)


@pytest.mark.parametrize("length", range(1, 8))
def test_chunks_of_an_8svx_are_padded_to_an_even_length(length):
    voice = struct.pack(">IIIHBBI", len(PCM), 0, 32, RATE, 1, 0, 1 << 16)
    body = b"8SVX" + chunk(b"VHDR", voice) + chunk(b"NAME", b"a" * length) + chunk(b"BODY", PCM)
    data = b"FORM" + struct.pack(">I", len(body)) + body
    check(data)
    assert refusal_of(check, data[:-1]) == "audio_truncated"


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_an_ircam_file_of_either_order_is_read(endian):
    sound = tone(0.25)
    made = load_audio(written(sound, form="IRCAM", subtype="PCM_16", endian=endian))
    assert np.abs(made - sound).max() < 1e-4


# ---------------------------------------------------------------------------------------------------------------- Opus

# RFC 6716, section 3.1, table 2: milliseconds of a frame of each configuration.
OPUS_MILLISECONDS = [*[10, 20, 40, 60] * 3, *[10, 20] * 2, *[2.5, 5, 10, 20] * 4]


@pytest.mark.parametrize("stereo", [0, 4])
def test_the_length_of_an_opus_packet(stereo):
    """Section 3.2: one frame, two of one size, two of two sizes, or as many as the second byte says."""
    for configuration, milliseconds in enumerate(OPUS_MILLISECONDS):
        each = milliseconds * 48
        first = configuration << 3 | stereo
        assert _opus_samples(bytes([first, 0])) == each
        assert _opus_samples(bytes([first | 1, 0])) == _opus_samples(bytes([first | 2, 0])) == 2 * each
        for count, flags in ((1, 0), (5, 0x80), (48, 0x40)):
            assert _opus_samples(bytes([first | 3, count | flags])) == count * each
