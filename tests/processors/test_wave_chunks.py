"""WAV and its relatives: which chunks there are and where samples end, at the edges of the formats' rules."""

import io
import struct

import pytest
import soundfile

from processors import InputError
from processors.decode.audio.segments import AudioSegment
from processors.decode.audio.wave_chunks import wave_segments
from processors.io.splice import splice
from tests.processors.odd_audio import ID3V1, RATE, ape, chunk, id3, rf64, wav

PCM = bytes(range(200)) * 2
FORM = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_REST = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def segments_of(data) -> list[AudioSegment]:
    return wave_segments(io.BytesIO(data), "it", 0)


def samples_of(data) -> list[bytes]:
    """The samples of each segment, by the header that a decoder is handed."""
    files = [splice(io.BytesIO(data), one.pieces).read() for one in segments_of(data)]
    return [file[file.index(b"data") + 8 :] for file in files]


def refusal_of(data):
    with pytest.raises(InputError) as refusal:
        segments_of(data)
    return refusal.value.code


def w64_chunk(kind, body, size=None):
    """A chunk of Sony's Wave64: a GUID, a size that counts the head of 24 bytes, and padding to 8."""
    size = len(body) + 24 if size is None else size
    return kind + W64_REST + struct.pack("<Q", size) + body + bytes(-len(body) % 8)


def w64(pcm=PCM, size=None, outer=None, behind=b""):
    body = b"wave" + W64_REST + w64_chunk(b"fmt ", FORM) + w64_chunk(b"data", pcm, size) + behind
    return W64_RIFF + struct.pack("<Q", len(body) + 24 if outer is None else outer) + body


@pytest.mark.parametrize("size", [0, 24, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_w64_of_unknown_length_reaches_to_its_end(size):
    assert samples_of(w64(size=size)) == [PCM]


def test_a_w64_of_a_byte_too_few_is_cut_short():
    assert samples_of(w64()) == [PCM]
    assert refusal_of(w64()[:-1]) == "audio_truncated"


def test_a_chunk_of_w64_has_a_head_of_24_bytes():
    assert refusal_of(w64(b"")) == "audio_empty"
    assert refusal_of(w64(b"")[:-1]) == "audio_truncated"


@pytest.mark.parametrize("outer", [None, 0])
def test_a_w64_behind_another_is_a_file_of_its_own_whatever_its_size(outer):
    assert samples_of(w64() + w64(PCM[:80], outer=outer)) == [PCM, PCM[:80]]


@pytest.mark.parametrize(
    ("kind", "named"), [(b"\x1fabc", False), (b" abc", True), (b"abc~", True), (b"abc\x7f", False), (b"ab\0c", False)]
)
def test_the_name_of_a_chunk_is_printable_ascii(kind, named):
    """RIFF's rule of a FOURCC; whatever else stands behind the samples are samples that the header does not count."""
    behind = kind + struct.pack("<I", 4) + b"four"
    assert samples_of(wav(PCM, behind=behind)) == [PCM if named else PCM + behind]


@pytest.mark.parametrize(("missing", "is_chunk"), [(0, True), (1, True), (2, False)])
def test_a_chunk_ends_in_the_file_but_for_its_padding(missing, is_chunk):
    behind = b"abcd" + struct.pack("<I", 4 + missing) + b"four"
    assert samples_of(wav(PCM, behind=behind)) == [PCM if is_chunk else PCM + behind]


@pytest.mark.parametrize("padding", [b"\0", b" ", b"x", b"\xff"])
def test_a_byte_of_padding_may_have_any_value(padding):
    before = b"LIST" + struct.pack("<I", 5) + b"INFOx" + padding
    assert samples_of(wav(PCM, before=before)) == [PCM]


@pytest.mark.parametrize(
    "tag", [id3(100), id3(100, b"\0"), ID3V1, ape(80), bytes(100), b"7 bytes"], ids=["id3", "id3_of_zeros", "id3v1",
    "ape", "zeros", "seven"]
)  # fmt: skip
def test_tags_behind_the_samples_are_no_samples(tag):
    assert samples_of(wav(PCM) + tag) == [PCM]


def test_eight_bytes_that_are_no_chunk_are_samples():
    assert samples_of(wav(PCM) + b"\x01" * 8) == [PCM + b"\x01" * 8]


def test_samples_of_more_than_4_gib_get_a_header_of_64_bits(tmp_path):
    """EBU Tech 3306: ds64 of 28 bytes stands first, and 32-bit sizes are all ones."""
    size = (1 << 32) + 4000
    path = tmp_path / "long.rf64"
    head = rf64(b"", size)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    with path.open("rb") as stream:
        (segment,) = wave_segments(stream, "it", 0)
        made = segment.pieces[0]
        assert isinstance(made, bytes) and made[:12] == b"RF64\xff\xff\xff\xffWAVE"
        kinds, at = [], 12
        while at < len(made):
            kinds.append((made[at : at + 4], int.from_bytes(made[at + 4 : at + 8], "little")))
            at += 8 + kinds[-1][1]
        assert kinds == [(b"ds64", 28), (b"fmt ", 16), (b"data", 0xFFFFFFFF)]
        assert struct.unpack_from("<QQ", made, 20) == (len(made) - 8 + size, size)
        with soundfile.SoundFile(splice(stream, segment.pieces)) as opened:
            assert opened.frames == size // 2


@pytest.mark.parametrize(("sub_format", "wide"), [(1, 8), (3, 0)])
def test_the_sub_format_of_an_extensible_file_says_whether_samples_are_integers(sub_format, wide):
    """WAVE_FORMAT_EXTENSIBLE: the tag stands in the first two bytes of the GUID of the sub-format."""
    guid = struct.pack("<H", sub_format) + bytes.fromhex("000000001000800000aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 8 * RATE, 8, 64, 22, 64, 4) + guid
    data = b"RIFF" + bytes(4) + b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", bytes(80))
    (segment,) = segments_of(data)
    assert segment.wide == wide
