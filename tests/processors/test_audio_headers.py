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


@pytest.mark.parametrize("there", [1, 2, 9])
def test_a_chunk_of_samples_has_a_head_of_eight_bytes(there):
    """An offset and a block size; behind an odd number of samples is a byte of padding, which is none."""
    data = aiff(there, PCM[:there], depth=8)
    assert walk(data)[data.index(b"SSND") + 4 :] == struct.pack(">I", 8 + there) + bytes(8) + PCM[:there]
    for more in (1, 1 << 8, 1 << 16, 1 << 24):
        assert refusal_of(walk, aiff(there + more, PCM[:there], depth=8)) == "audio_truncated"


def test_a_file_may_end_with_the_head_of_its_chunk_of_samples():
    for data, mark in ((aiff(0, b"", size=0), b"SSND"), (caf(-1, b""), b"data")):
        whole = data[: data.index(mark) + (8 if mark == b"SSND" else 12)]
        assert refusal_of(walk, whole) == "audio_empty"
        assert refusal_of(walk, whole[:-1]) == "audio_truncated"


@pytest.mark.parametrize("offset", [0, 2, 4, 100])
def test_samples_begin_behind_the_offset(offset):
    """EA IFF 85's AIFF: bytes between the head and the first frame."""
    data = aiff((len(PCM) - offset) // 2, PCM)
    at = data.index(b"SSND") + 8
    data = data[:at] + struct.pack(">I", offset) + data[at + 4 :]
    assert walk(data) == data
    frames = data.index(b"COMM") + 10
    more = data[:frames] + struct.pack(">I", (len(PCM) - offset) // 2 + 1) + data[frames + 4 :]
    assert refusal_of(walk, more) == "audio_truncated"


@pytest.mark.parametrize(("said", "whole"), [(10, True), (577, True), (640, True), (576, False), (11, False)])
def test_packets_of_ima4_are_counted_or_their_samples_are(said, whole):
    """64 samples each, of which the last packet may hold fewer."""
    data = aiff(said, bytes(340), kind=b"ima4")
    if whole:
        assert walk(data) == aiff(10, bytes(340), kind=b"ima4")
    else:
        assert refusal_of(walk, data) == "audio_truncated"


def test_a_size_of_samples_that_is_left_open_reaches_to_the_end():
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7F000000, 0):
        assert walk(aiff(500, PCM, size=size)) == aiff(100, PCM)
        assert walk(aiff(0, PCM, size=size)) == aiff(100, PCM)
    assert refusal_of(walk, aiff(100, PCM, size=209)) == "audio_truncated"
    assert refusal_of(walk, aiff(100, PCM, size=208)[:-1]) == "audio_truncated"


@pytest.mark.parametrize("kind", [b"QDM2", b"GSM ", b"MAC3"])
def test_kinds_of_unknown_width_are_left_to_the_decoder(kind):
    data = aiff(5000, PCM, kind=kind)
    assert walk(data) == data
    data = aiff(5000, PCM, channels=0)
    assert walk(data) == data


@pytest.mark.parametrize("length", range(1, 6))
def test_the_header_may_stand_behind_the_samples(length):
    common = chunk(b"COMM", struct.pack(">HIH", 1, 1, 16) + bytes.fromhex("400cfa00000000000000"))
    body = b"AIFF" + chunk(b"NAME", b"n" * length) + chunk(b"SSND", bytes(8) + PCM) + common
    data = b"FORM" + struct.pack(">I", len(body)) + body
    at = data.index(b"COMM") + 10
    assert walk(data) == data[:at] + struct.pack(">I", 100) + data[at + 4 :]
    # Without it, the decoder is to tell; without samples, there is less than there must be.
    only = data[: data.index(b"COMM")]
    assert walk(only) == only
    assert refusal_of(walk, data[: data.index(b"SSND")] + common) == "audio_truncated"


@pytest.mark.parametrize("length", [1, 7, 100])
def test_a_file_behind_something_else_is_the_same(length):
    for data in (aiff(50, PCM), caf(-1, PCM), b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, RATE, 1) + PCM):
        stream = io.BytesIO(b"x" * length + data)
        segments = iff_segments(stream, "it", length)
        assert segments is not None
        assert splice(stream, segments[0].pieces).read() == walk(data)


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


@pytest.mark.parametrize(("magic", "order"), [(b".snd", ">"), (b"dns.", "<")])
@pytest.mark.parametrize("header", [24, 30])
def test_the_samples_of_an_au_file_reach_to_its_end(magic, order, header):
    def au(size, pcm=PCM):
        return magic + struct.pack(order + "5I", header, size, 3, RATE, 1).ljust(header - 4, b"\0") + pcm

    for size in (0, 0xFFFFFFFF, 0x7FFFFFFF, 1, len(PCM) - 1):
        assert walk(au(size)) == au(len(PCM))
    for more in (1, 1 << 8, 1 << 16, 1 << 24):
        assert refusal_of(walk, au(len(PCM) + more)) == "audio_truncated"
    for size in (0, 0xFFFFFFFF):
        assert refusal_of(walk, au(size, b"")) == "audio_empty"
    assert refusal_of(walk, au(1, b"")) == "audio_truncated"
    assert walk(au(1, b"x")) == au(1, b"x")


def test_a_file_of_another_kind_is_none():
    for data in (b"FORM\0\0\0\4ILBM", b".sna" + bytes(40), b"cafe" + bytes(40), b"FORK\0\0\0\4AIFF", b""):
        assert iff_segments(io.BytesIO(data), "it", 0) is None


def packets_of(count, valid, table, size, each=0, frames=1024, behind=False):
    """A CAF of packets: its `desc`, its `pakt` and so many bytes of them."""
    layout = struct.pack(">d4sIIIII", RATE, b"aac ", 0, each, frames, 1, 0)
    packets = struct.pack(">qqii", count, valid, 0, 0) + table
    packets = b"pakt" + struct.pack(">q", len(packets)) + packets
    samples = b"data" + struct.pack(">q", 4 + size) + bytes(4 + size)
    head = b"caff\0\1\0\0" + b"desc" + struct.pack(">q", 32) + layout
    return head + (samples + packets if behind else packets + samples)


# Core Audio Format: sizes in groups of seven bits, the highest first, all but the last with the eighth bit set.
TABLES = [
    (b"\x05", [5]), (b"\x7f", [127]), (b"\x81\x00", [128]), (b"\xff\x7f", [16_383]), (b"\x81\x80\x00", [16_384]),
    (b"\x05\x81\x02\x07", [5, 130, 7]), (b"\x83\x80\x01\x00\x83\x01", [3 << 14 | 1, 0, 385]),
]  # fmt: skip


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("table", "sizes"), TABLES)
def test_the_packets_of_a_caf_are_there_to_the_byte(table, sizes, behind):
    count = len(sizes)
    for spare in (b"", b"\x40", bytes(50), b"\xff" * 9):
        data = packets_of(count, 1024 * count, table + spare, sum(sizes), behind=behind)
        assert walk(data) == data
        short = packets_of(count, 1024 * count, table + spare, sum(sizes) - 1, behind=behind)
        assert refusal_of(walk, short) == ("audio_empty" if sum(sizes) == 1 else "audio_truncated")
    missing = packets_of(count + 1, 1024, table + b"\xff" * 9, 1 << 17, behind=behind)
    assert refusal_of(walk, missing) == "audio_truncated"


@pytest.mark.parametrize("each", [0, 34])
def test_a_caf_has_no_more_frames_than_its_packets_hold(each):
    table = b"" if each else b"\x22" * 10
    for valid, whole in ((0, True), (10_239, True), (10_240, True), (10_241, False)):
        data = packets_of(10, valid, table, 340, each)
        if whole:
            assert walk(data) == data
        else:
            assert refusal_of(walk, data) == "audio_truncated"
    # Packets of no fixed number of frames promise none.
    data = packets_of(10, 1 << 40, table, 340, each, frames=0)
    assert walk(data) == data
    assert refusal_of(walk, packets_of(10, 10, table, 339, each)) == "audio_truncated"
    assert walk(packets_of(0, 0, b"", 340, each)) == packets_of(0, 0, b"", 340, each)


@pytest.mark.parametrize("size", [1, 31, 32, 33])
def test_chunks_of_a_caf_follow_one_another_without_padding(size):
    data = caf(204, PCM)
    at = data.index(b"data")
    data = data[:at] + b"free" + struct.pack(">q", size) + b"x" * size + data[at:]
    assert walk(data) == data
    assert refusal_of(walk, data[: data.index(b"data")]) == "audio_truncated"


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


def svx(once, repeated, body, compression=0, kind=b"8SVX", size=None, behind=b""):
    """EA IFF 85's 8SVX: samples that are played once and repeated, samples a cycle, rate, octaves, compression."""
    voice = struct.pack(">IIIHBBI", once, repeated, 32, RATE, 1, compression, 1 << 16)
    body = kind + chunk(b"VHDR", voice) + chunk(b"BODY", body, size) + behind
    return b"FORM" + struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("kind", [b"8SVX", b"16SV"])
@pytest.mark.parametrize("compression", [0, 1])
def test_the_samples_of_a_voice_are_there(kind, compression):
    """Compressed by Fibonacci's deltas, two are in a byte."""
    count = 2 * len(PCM) if compression else len(PCM)
    for once, repeated in ((count, 0), (0, count), (count - 50, 50), (0, 0)):
        check(svx(once, repeated, PCM, compression, kind))
    for once, repeated in ((count + 2, 0), (0, count + 2), (count - 50, 52), (1 << 24, 0), (0, 1 << 24)):
        assert refusal_of(check, svx(once, repeated, PCM, compression, kind)) == "audio_truncated"
    assert refusal_of(check, svx(0, 0, PCM, compression, kind, len(PCM) + 1)) == "audio_truncated"
    check(svx(1 << 30, 0, PCM, compression, kind, 0))
    check(svx(1 << 30, 0, PCM, compression, kind, 0xFFFFFFFF))


def test_nothing_behind_the_samples_of_a_voice_is_looked_at():
    for length in (199, 200):
        check(svx(length, 0, PCM[:length], behind=chunk(b"ANNO", b"a text of some length")))
        check(svx(length, 0, PCM[:length], behind=b"rubbish, and more of it"))
    check(svx(199, 0, PCM[:199])[:-1])


def nist(samples, channels=1, width=2, size=b"1024", coding=b"pcm", pcm=PCM):
    """NIST's header of 1,024 bytes: its own size, and fields with their types."""
    fields = b"sample_count -i %d\nchannel_count -i %d\nsample_n_bytes -i %d\n" % (samples, channels, width)
    head = b"NIST_1A\n" + size.rjust(7) + b"\n" + fields + b"sample_coding -s%d %s\nend_head\n" % (len(coding), coding)
    return head.ljust(int(size) if size.isdigit() else 1024) + pcm


@pytest.mark.parametrize(("channels", "width"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 5)])
@pytest.mark.parametrize("size", [b"1024", b"2048", b"what"])
def test_the_samples_of_a_sphere_file_are_there(channels, width, size):
    count = len(PCM) // (channels * width)
    check(nist(count, channels, width, size))
    assert refusal_of(check, nist(count, channels, width, size)[:-1]) == "audio_truncated"
    assert refusal_of(check, nist(count + 1, channels, width, size)) == "audio_truncated"


def test_a_sphere_file_that_is_compressed_or_says_nothing_promises_nothing():
    for coding in (b"pcm,embedded-shorten-v2.00", b"pcm,embedded-wavpack", b"pcm,embedded-shortpack-v0"):
        check(nist(5000, coding=coding))
    for field in (b"sample_count", b"channel_count", b"sample_n_bytes"):
        check(nist(5000).replace(field, b"x" + field[1:]))
    assert refusal_of(check, nist(5000)) == "audio_truncated"


def voc(*blocks, offset=26, end=b"\0"):
    """A VOC file: its first block is where two bytes say, and each has a type and a size of 24 bits."""
    head = b"Creative Voice File\x1a" + struct.pack("<HHH", offset, 0x010A, 0x1129)
    made = b"".join(bytes([kind]) + len(body).to_bytes(3, "little") + body for kind, body in blocks)
    return head.ljust(offset, b"\x07") + made + end


@pytest.mark.parametrize("offset", [26, 40, 300])
def test_the_blocks_of_a_voc_file_are_there(offset):
    sound, text = (1, b"\xa6\0" + PCM), (5, b"a text\0")
    for blocks in ([sound], [text, sound], [sound, (2, PCM)]):
        data = voc(*blocks, offset=offset)
        check(data)
        check(data[:-1])  # many writers leave the end out
        assert refusal_of(check, data[:-2]) == "audio_truncated"
        assert refusal_of(check, data[:-100]) == "audio_truncated"
        check(data + b"rubbish that is behind the end")


@pytest.mark.parametrize("size", [0, 0xFFFFFF])
def test_a_block_of_a_voc_file_without_a_size_reaches_to_the_end(size):
    check(voc((5, b"text"), end=b"\1" + size.to_bytes(3, "little") + PCM))
    assert refusal_of(check, voc((5, b"text"), end=b"\1" + (0xFFFFFE).to_bytes(3, "little") + PCM)) == "audio_truncated"


def avr(samples, bits=16, stereo=False, pcm=PCM):
    """Audio Visual Research: 128 bytes, with a name, whether there are two channels, bits, a sign, and samples each."""
    head = b"2BIT" + b"name".ljust(8, b"\0") + (b"\xff\xff" if stereo else bytes(2)) + struct.pack(">HH", bits, 0xFFFF)
    return (head + bytes(4) + b"\xff\0\x3e\x80" + struct.pack(">I", samples)).ljust(128, b"\0") + pcm


@pytest.mark.parametrize(("bits", "stereo", "width"), [(8, False, 1), (16, False, 2), (8, True, 2), (16, True, 4)])
def test_the_samples_of_an_avr_file_are_there(bits, stereo, width):
    count = len(PCM) // width
    check(avr(count, bits, stereo))
    assert refusal_of(check, avr(count, bits, stereo)[:-1]) == "audio_truncated"
    for more in (1, 1 << 8, 1 << 16, 1 << 24):
        assert refusal_of(check, avr(count + more, bits, stereo)) == "audio_truncated"


@pytest.mark.parametrize("before", [1, 500])
def test_older_files_behind_something_else_are_held_to_the_same(before):
    for data in (svx(200, 0, PCM), nist(100), voc((1, PCM), end=b""), avr(100)):
        check_legacy(io.BytesIO(b"x" * before + data), "it", before)
        assert refusal_of(check_legacy, io.BytesIO(b"x" * before + data[:-1]), "it", before) == "audio_truncated"


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
