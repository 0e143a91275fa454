"""Stretches of audio files: where they begin, what they are made of, and what is promised of them."""

import io
import struct
from itertools import pairwise

import numpy as np
import pytest

from processors import Access, InputError, Limits, load_audio
from processors.decode.audio.decoder import audio_blocks
from processors.decode.audio.libsndfile import Segment
from processors.decode.audio.segments import AudioSegment, audio_start, chunks, id3_size
from processors.io.splice import splice
from tests.processors.odd_audio import encoded, noise, tone, wav, written


def test_the_size_of_an_id3_tag_is_in_four_times_seven_bits():
    """ID3v2.4, section 3.1: the size leaves out the header of ten bytes, and the footer of ten if there is one."""
    for size in (0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, (1 << 28) - 1):
        coded = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
        assert id3_size(b"ID3\4\0\0" + coded) == 10 + size
        assert id3_size(b"ID3\4\0\x10" + coded) == 20 + size
        assert id3_size(b"ID3\4\0\0" + coded[:3]) == 0


@pytest.mark.parametrize(
    ("head", "is_tag"),
    [
        (b"ID3\xfe\0\0\0\0\0\x01", True), (b"ID3\xff\0\0\0\0\0\x01", False), (b"ID4\4\0\0\0\0\0\x01", False),
        (b"ID3\4\0\0\x7f\0\0\0", True), (b"ID3\4\0\0\x80\0\0\0", False), (b"ID3\4\0\0\0\0\0\x80", False),
    ],
)  # fmt: skip
def test_what_is_an_id3_tag(head, is_tag):
    """The same section: a version below 0xFF, and four bytes of a size below 0x80."""
    assert bool(id3_size(head)) is is_tag


@pytest.mark.parametrize("zeros", [16, 8191, 8192, 8193, 20_000])
def test_a_file_begins_behind_zeros(zeros):
    assert audio_start(io.BytesIO(bytes(zeros) + b"RIFF")) == zeros


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("end", [1, 9, 10, 11, 47, 50])
def test_chunks_cover_a_stretch_and_overlap(end, overlap):
    data = bytes(range(50))
    read = []
    for one in chunks(io.BytesIO(data), 0, end, size=10, overlap=overlap):
        read.append(one)
        assert len(read) <= 50
    assert all(block == data[at : at + len(block)] for at, block in read)
    assert all(after == before + len(block) - overlap for (before, block), (after, _) in pairwise(read))
    assert read[0][0] == 0 and read[-1][0] + len(read[-1][1]) == end


@pytest.mark.parametrize("seed", range(20))
def test_a_splice_reads_as_its_pieces_in_a_row(seed):
    random = np.random.default_rng(seed)
    data = random.bytes(400_000)
    pieces, want = [], b""
    for _ in range(random.integers(1, 7)):
        start, end = sorted(random.integers(0, len(data), 2).tolist())
        if random.integers(2):
            end = start + min(end - start, 50)
        pieces.append(data[start:end] if random.integers(2) else (start, end))
        want += data[start:end]
    made = splice(io.BytesIO(data), pieces)
    assert made.read() == want
    for _ in range(20):
        place, size = int(random.integers(0, len(want) + 10)), int(random.integers(0, 200_000))
        assert made.seek(place) == place and made.read(size) == want[place : place + size]


def test_blocks_have_the_rate_of_a_whole_waveform_without_being_told():
    data = wav(bytes(range(256)) * 40, rate=44_100)
    np.testing.assert_array_equal(np.concatenate(list(audio_blocks(data))), load_audio(data))


def test_a_promise_over_the_limit_is_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(Segment, "blocks", lambda *_: pytest.fail("something was decoded"))
    with pytest.raises(InputError) as refusal:
        load_audio(written(tone(3)), access=Access(Limits(audio_seconds=2.9)))
    assert refusal.value.code == "audio_too_long"


@pytest.mark.parametrize("there", [0, 1, 9])
def test_a_segment_with_less_than_was_counted_is_cut_short(there):
    data = wav(struct.pack("<h", 1000) * there)
    segment = Segment(io.BytesIO(data), AudioSegment([(0, len(data))], samples=10), "it")
    with pytest.raises(InputError) as refusal:
        list(segment.blocks(Access()))
    assert refusal.value.code == "audio_truncated"


def test_a_segment_ends_where_its_count_does():
    data = wav(struct.pack("<h", 1000) * 25)
    segment = Segment(io.BytesIO(data), AudioSegment([(0, len(data))], samples=10, skipped=5), "it")
    assert sum(map(len, segment.blocks(Access()))) == 10


def without_content(data, number):
    """ADTS, of which one frame keeps its header of seven bytes only; they hold the frame's size in bits 30 to 42."""
    places = [0]
    while places[-1] < len(data):
        places.append(places[-1] + (int.from_bytes(data[places[-1] + 3 : places[-1] + 6], "big") >> 5 & 0x1FFF))
    start, end = places[number : number + 2]
    return data[: start + 7] + b"\xaa" * (end - start - 7) + data[end:]


def test_damage_within_a_stream_is_refused_even_where_it_may_end_anywhere():
    data = encoded(noise(0.5, 48_000), 48_000, "aac", "adts", 64_000)
    assert len(load_audio(data)) > 8000
    with pytest.raises(InputError) as refusal:
        load_audio(without_content(data, 10))
    assert refusal.value.code == "audio_corrupt"
