"""WAV and its relatives: which chunks there are and where samples end, at the edges of the formats' rules."""

import io
import struct

import pytest
import soundfile

from processors import InputError
from processors.decode.audio.segments import AudioSegment
from processors.decode.audio.wave_chunks import is_wave, wave_segments
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


def header_of(data):
    """The chunks that a decoder is handed in front of the samples: (name, body); that of the samples is its size."""
    (segment,) = segments_of(data)
    made = segment.pieces[0]
    assert isinstance(made, bytes)
    order = "big" if made[:4] == b"RIFX" else "little"
    samples = sum(end - start for start, end in segment.pieces[1:])
    samples = samples // segment.wide * 4 if segment.wide else samples
    assert int.from_bytes(made[4:8], order) == len(made) - 8 + samples and made[8:12] == b"WAVE"
    chunks, at = [], 12
    while at < len(made) - 8:
        size = int.from_bytes(made[at + 4 : at + 8], order)
        chunks.append((made[at : at + 4], made[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    assert at == len(made) - 8 and made[at:] == b"data" + samples.to_bytes(4, order)
    return chunks


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_decoder_is_handed_the_format_as_it_is(order, extra):
    form = struct.pack(order + "HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16) + b"\1\2\3"[:extra]
    body = b"WAVEfmt " + struct.pack(order + "I", len(form)) + form + bytes(extra % 2)
    body += b"data" + struct.pack(order + "I", len(PCM)) + PCM
    data = (b"RIFX" if order == ">" else b"RIFF") + struct.pack(order + "I", len(body)) + body
    assert header_of(data) == [(b"fmt ", form)]


def form_of(width, bits, channels=1, tag=1, spare=0):
    each = channels * width + spare
    return struct.pack("<HHIIHH", tag, channels, RATE, RATE * each, each, bits)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_integers_of_five_to_eight_bytes_are_wide(channels):
    """Their bits fill all bytes but the lowest in part: the fields of WAVEFORMAT round up to whole bytes."""
    for width in range(1, 11):
        for bits in range(8 * width - 9, 8 * width + 3):
            for tag, spare in ((1, 0), (3, 0), (1, 1)):
                form = form_of(width, max(bits, 0), channels, tag, spare)
                data = b"RIFF" + bytes(4) + b"WAVE" + chunk(b"fmt ", form) + chunk(b"data", bytes(240 * channels))
                (segment,) = segments_of(data)
                whole = tag == 1 and (not spare or channels == 1)
                taken = width + (spare if channels == 1 else 0)
                is_wide = whole and 5 <= taken <= 8 and 8 * (taken - 1) < bits <= 8 * taken
                assert segment.wide == (taken if is_wide else 0), (width, bits, tag, spare)
                made = struct.pack("<HHIIHH", 1, channels, RATE, RATE * channels * 4, channels * 4, 32)
                assert header_of(data) == [(b"fmt ", made if is_wide else form)]


@pytest.mark.parametrize(("channels", "refused"), [(0, True), (1, False), (64, False), (65, True)])
def test_a_file_has_one_to_64_channels(channels, refused):
    data = wav(bytes(2 * 64 * 65), channels=channels)
    if refused:
        assert refusal_of(data) == "audio_shape"
    else:
        assert samples_of(data) == [bytes(2 * 64 * 65)]


@pytest.mark.parametrize(("rate", "refused"), [(999, True), (1000, False), (768_000, False), (768_001, True)])
def test_a_file_has_a_rate_of_1_to_768_khz(rate, refused):
    if refused:
        assert refusal_of(wav(PCM, rate=rate)) == "audio_rate"
    else:
        assert samples_of(wav(PCM, rate=rate)) == [PCM]


@pytest.mark.parametrize(("fact", "refused"), [(0, False), (400, False), (3200, False), (3201, True), (1 << 28, True)])
def test_no_byte_holds_more_samples_than_bits(fact, refused):
    small, large = (chunk(b"fact", struct.pack("<I", fact)) for _ in range(2))
    wide = w64(behind=w64_chunk(b"fact", struct.pack("<Q", fact)))
    for data in (wav(PCM, before=small), wav(PCM, behind=large), wide):
        if refused:
            assert refusal_of(data) == "audio_truncated"
        else:
            assert samples_of(data) == [PCM]


def test_a_fact_that_is_left_open_or_too_short_promises_nothing():
    for fact in (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x7f", b"\xff\xff\xff"):
        assert samples_of(wav(PCM, before=chunk(b"fact", fact))) == [PCM]
    assert samples_of(w64(behind=w64_chunk(b"fact", b"\xff" * 8))) == [PCM]
    assert samples_of(w64(behind=w64_chunk(b"fact", b"\x3f" * 7))) == [PCM]
    # What is open in 32 bits is a number in 64.
    assert refusal_of(w64(behind=w64_chunk(b"fact", b"\xff" * 4 + bytes(4)))) == "audio_truncated"


@pytest.mark.parametrize("length", range(1, 18))
def test_chunks_of_w64_are_padded_to_eight_bytes(length):
    fill = w64_chunk(b"list", b"x" * length)
    body = b"wave" + W64_REST + fill + w64_chunk(b"fmt ", FORM) + fill + w64_chunk(b"data", PCM)
    data = W64_RIFF + struct.pack("<Q", len(body) + 24) + body
    assert samples_of(data) == [PCM]
    assert samples_of(w64(PCM[: 2 * length]) + data) == [PCM[: 2 * length], PCM]


def test_a_chunk_of_w64_is_no_smaller_than_its_head():
    """Nothing behind it is looked at; its name is the beginning of a GUID."""
    for size in (0, 23):
        body = b"wave" + W64_REST + w64_chunk(b"list", b"", size) + w64_chunk(b"fmt ", FORM) + w64_chunk(b"data", PCM)
        assert refusal_of(W64_RIFF + struct.pack("<Q", len(body) + 24) + body) == "audio_truncated"


@pytest.mark.parametrize("rest", range(1, 8))
def test_behind_a_chunk_less_than_the_head_of_another_is_nothing(rest):
    behind = b"abcd" + struct.pack("<I", 4) + b"four"
    assert samples_of(wav(PCM, behind=behind + b"\x01" * rest)) == [PCM]
    assert samples_of(wav(PCM, behind=b"\x01" * rest)) == [PCM]
    wrong = behind + b"\x01" * (8 + rest)
    assert samples_of(wav(PCM, behind=wrong)) == [PCM + wrong]


def test_the_first_of_two_formats_is_that_of_the_file():
    other = struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16)
    assert header_of(wav(PCM, behind=chunk(b"fmt ", other))) == [(b"fmt ", FORM)]
    assert header_of(wav(PCM, before=chunk(b"fmt ", other))) == [(b"fmt ", other)]


def test_samples_in_several_chunks_are_joined():
    data = wav(PCM, behind=chunk(b"LIST", b"INFO") + chunk(b"data", PCM[:60]))
    assert samples_of(data) == [PCM + PCM[:60]]


@pytest.mark.parametrize(("length", "refused"), [(0, True), (15, True), (16, False)])
def test_a_format_has_16_bytes(length, refused):
    data = b"RIFF" + bytes(4) + b"WAVE" + chunk(b"fmt ", FORM[:length]) + chunk(b"data", PCM)
    if refused:
        assert refusal_of(data) == "audio_truncated"
    else:
        assert samples_of(data) == [PCM]


@pytest.mark.parametrize("size", [len(PCM) + 44, len(PCM) + 36])
def test_a_size_that_counts_the_header_is_of_this_file_wherever_it_begins(size):
    stream = io.BytesIO(b"12345" + wav(PCM, size))
    (segment,) = wave_segments(stream, "it", 5)
    assert segment.pieces[1:] == [(5 + 44, 5 + 44 + len(PCM))]
    for other in (size - 1, size + 1, size + 5):
        assert refusal_of(wav(PCM, other)) == "audio_truncated"


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
def test_the_size_of_64_bits_stands_in_where_that_of_32_is_open(kind):
    """EBU Tech 3306: the second number of ds64."""
    size = len(PCM)
    assert samples_of(rf64(PCM, size, kind)) == [PCM]
    assert samples_of(rf64(PCM, size, kind) + ID3V1) == [PCM]
    for said in (size + 2, (1 << 32) + size):
        assert refusal_of(rf64(PCM, said, kind)) == "audio_truncated"
    # A size that fits into 32 bits goes before.
    data = rf64(PCM, size + 50, kind)
    at = data.index(b"data") + 4
    assert samples_of(data[:at] + struct.pack("<I", size) + data[at + 4 :]) == [PCM]
    assert samples_of(data[:at] + bytes(4) + data[at + 4 :] + bytes(50)) == [PCM + bytes(50)]


@pytest.mark.parametrize("tag", [0x50, 0x55])
@pytest.mark.parametrize("layer", [2, 3])
def test_frames_of_mpeg_in_a_wave_file_are_counted(tag, layer):
    """The tags of MPEG layer I and II, and of layer III."""
    header = 0xFFFD9000 if layer == 2 else 0xFFFB9000  # 160 or 128 kbit/s at 44.1 kHz
    size = 522 if layer == 2 else 417
    data = wav((header.to_bytes(4, "big") + bytes(size - 4)) * 20, tag=tag)
    (segment,) = segments_of(data)
    assert segment.samples == 20 * 1152 and segment.pieces[2:] == [(44, len(data))]
    # Where no frames are there, it is for the decoder to say.
    assert samples_of(wav(PCM, tag=tag)) == [PCM]


@pytest.mark.parametrize(
    "head", [b"RIFF\0\0\0\0AVI ", b"RIFF\0\0\0\0WAV\0", b"RIFD\0\0\0\0WAVE", b"riff" + bytes(36), W64_RIFF + bytes(24),
    b"RIFF\0\0\0\0WAV"]
)  # fmt: skip
def test_other_files_are_not_of_the_family(head):
    assert not is_wave(head)


def test_every_kind_of_the_family_is_known():
    for kind in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        assert is_wave(kind + b"abcdWAVE")
    assert is_wave(W64_RIFF + bytes(8) + b"wave" + W64_REST)


@pytest.mark.parametrize("kind", [b"RIFF", b"RIFX"])
def test_a_file_behind_another_is_one_of_its_own(kind):
    data = wav(PCM, kind=kind) + wav(PCM[:90], kind=kind, before=chunk(b"JUNK", b"") if kind == b"RIFF" else b"")
    assert samples_of(data + wav(PCM[:30], kind=kind)) == [PCM, PCM[:90], PCM[:30]]
    assert samples_of(wav(PCM[:-1], kind=kind) + b"\0" + wav(PCM, kind=kind)) == [PCM[:-1], PCM]
