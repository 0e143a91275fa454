"""Stretches of audio files: where they begin, what they are made of, and what is promised of them."""

import io
import struct
from itertools import pairwise

import numpy as np
import pytest

from processors import Access, InputError, Limits, load_audio
from processors.decode.audio.decoder import audio_blocks
from processors.decode.audio.libsndfile import Segment, _is_readable
from processors.decode.audio.narrow_samples import narrow_samples
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


@pytest.mark.parametrize(("zeros", "start"), [(0, 0), (1, 0), (4, 0), (15, 0), (16, 16), (17, 17)])
def test_few_zeros_are_the_beginning_of_a_file(zeros, start):
    """A box of MP4 begins with its size, of which the upper bytes are 0."""
    assert audio_start(io.BytesIO(bytes(zeros) + b"RIFF" * 5)) == start


def test_a_file_begins_behind_any_number_of_tags_and_zeros():
    tag = b"ID3\4\0\0\0\0\1\x02" + b"\xff" * 130
    for before in (tag, tag + tag, tag + bytes(20), bytes(20) + tag, bytes(300) + tag + bytes(16) + tag):
        assert audio_start(io.BytesIO(before + b"fLaC")) == len(before)
    assert audio_start(io.BytesIO(tag + bytes(15) + b"fLaC")) == len(tag)
    assert audio_start(io.BytesIO(bytes(5000))) == 0


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("width", [5, 6, 7, 8])
def test_of_wide_integers_the_upper_four_bytes_are_read_from_any_place(width, big_endian):
    random = np.random.default_rng(width)
    head, samples = b"a header", random.integers(0, 256, (70_000, width), np.uint8)
    kept = samples[:, :4] if big_endian else samples[:, width - 4 :]
    want = head + kept.tobytes()
    # What is less than a sample at the end is none.
    made = narrow_samples(io.BytesIO(head + samples.tobytes() + bytes(width - 1)), len(head), width, big_endian)
    assert made.read() == want
    assert made.seek(0, 2) == len(want) and made.read() == b""
    for _ in range(30):
        place, size = int(random.integers(0, len(want) + 10)), int(random.integers(0, 150_000))
        assert made.seek(place) == place and made.read(size) == want[place : place + size]
        assert made.tell() == min(place + size, max(place, len(want)))
    for place, size in ((0, 5), (7, 1), (7, 2), (8, 1), (9, 6), (11, 1), (12, 4)):
        made.seek(place)
        assert made.read(size) == want[place : place + size]
    made.seek(20)
    assert made.seek(-3, 1) == 17 and made.read(1) == want[17:18]
    assert made.seek(-1, 2) == len(want) - 1 and made.read(9) == want[-1:]


def au(samples):
    """32-bit floats, which libsndfile gives as they are."""
    head = struct.pack(">4s5I", b".snd", 24, 4 * samples.size, 6, 16_000, samples.shape[1])
    return head + samples.astype(">f4").tobytes()


@pytest.mark.parametrize(
    ("skipped", "samples"), [(0, 5000), (1, 4998), (2047, 2), (2048, 2048), (2049, 1), (4500, 500)]
)
def test_a_segment_is_what_was_counted_wherever_blocks_end(skipped, samples):
    """Of 64 channels, a few thousand samples are several blocks."""
    ramp = np.arange(5000, dtype=np.float32) / 5000
    data = au(np.repeat(ramp[:, None], 64, axis=1))
    segment = Segment(io.BytesIO(data), AudioSegment([(0, len(data))], samples=samples, skipped=skipped), "it")
    assert (segment.rate, segment.samples) == (16_000, samples)
    made = np.concatenate(list(segment.blocks(Access())))
    np.testing.assert_allclose(made, ramp[skipped : skipped + samples], atol=1e-6)


def test_a_segment_without_a_count_has_the_length_of_its_header():
    data = au(np.full((300, 2), 0.5, np.float32))
    segment = Segment(io.BytesIO(data), AudioSegment([(0, len(data))]), "it")
    assert segment.samples == 300
    assert np.concatenate(list(segment.blocks(Access()))).tolist() == [0.5] * 300


@pytest.mark.parametrize(("channels", "refused"), [(1, False), (64, False), (65, True)])
def test_every_format_has_one_to_64_channels(channels, refused):
    data = au(np.full((40, channels), 0.25, np.float32))
    if not refused:
        assert load_audio(data).tolist() == [0.25] * 40
        return
    with pytest.raises(InputError) as refusal:
        load_audio(data)
    assert refusal.value.code == "audio_shape"


# Magic numbers of what libsndfile is handed; IRCAM's has the machine in its third byte or its second.
READ = [b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b".snd", b"dns.", b"caff", b"Creative Voice File", b"2BIT",
        b"NIST_1A", b"PVF1\n", b" paf", b"fap ", b"FORMabcdAIFF", b"FORMabcdAIFC", b"FORMabcd8SVX", b"FORMabcd16SV",
        b"\x64\xa3\1\0", b"\x64\xa3\4\0", b"\0\1\xa3\x64", b"\0\4\xa3\x64"]  # fmt: skip
LEFT = [b"", b"RIF", b"FORM", b"FORMabcdILBM", b"FORMabcdAIF", b"RIFD", b"wave", b"\x64\xa3\1\1", b"\x64\xa4\1\0",
        b"\x65\xa3\1\0", b"\1\1\xa3\x64", b"\0\1\xa3\x65", b"\0\1\xa2\x64", b"\0\xa3\1\0", b"\x64\xa3\1",
        b"Creative Voice", b"\xff\xfb\x90\x64", b"MATLAB 5.0"]  # fmt: skip


def test_what_libsndfile_is_handed_begins_like_its_formats():
    for head in READ:
        assert _is_readable(head) and _is_readable(head + bytes(20)), head
    for head in LEFT:
        assert not _is_readable(head) and not _is_readable(head + b"\1" * 20), head


@pytest.mark.parametrize(("most", "refused"), [(364, False), (363, True)])
def test_a_limit_counts_what_resampling_rounds_up(most, refused):
    """1,001 samples at 44.1 kHz are 363.2 at 16 kHz."""
    sound = np.full(1001, 0.25, np.float32)
    pieces = wav(bytes(1000), rate=44_100) + wav(bytes(1002), rate=44_100)
    for source, rate in ((sound, 44_100), (written(sound, 44_100), None), (pieces, None)):
        access = Access(Limits(audio_samples=most))
        if not refused:
            assert len(load_audio(source, rate, access=access)) == 364
            continue
        with pytest.raises(InputError) as refusal:
            load_audio(source, rate, access=access)
        assert refusal.value.code == "audio_too_long"
