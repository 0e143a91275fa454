"""FLAC frame by frame: the headers of RFC 9639, section 9.1, and what is counted by them."""

import io

import pytest

from processors import InputError
from processors.decode.audio.flac_frames import flac_segments
from tests.processors.odd_audio import _crc8

BODY = b"\x11" * 5
PLAIN = (0xC9, 0x08)  # 4096 samples at 44.1 kHz; one channel of 16 bits


def coded(number):
    """Section 9.1.5: as UTF-8 writes a character, up to 36 bits."""
    if number < 0x80:
        return bytes([number])
    extra = next(count for count in range(1, 7) if number < 1 << 5 * count + 6)
    tail = [0x80 | number >> 6 * place & 0x3F for place in reversed(range(extra))]
    return bytes([0xFF << 7 - extra & 0xFF | number >> 6 * extra, *tail])


def header_of(number, codes=PLAIN, behind=b"", by_sample=False):
    header = bytes([0xFF, 0xF8 | by_sample, *codes]) + coded(number) + behind
    return header + bytes([_crc8(header)])


def frame_of(number, *arguments, **options):
    return header_of(number, *arguments, **options) + BODY


def info_of(total=0):
    """STREAMINFO, section 8.2: its last 16 bytes are a checksum of the samples."""
    fields = 44_100 << 44 | 15 << 36 | total
    return b"\x10\0\x10\0" + bytes(6) + fields.to_bytes(8, "big") + b"\x5a" * 16


def stream_of(*frames, total=0, blocks=b""):
    return b"fLaC" + (b"\0" if blocks else b"\x80") + b"\0\0\x22" + info_of(total) + blocks + b"".join(frames)


def segments_of(data, start=0):
    return flac_segments(io.BytesIO(data), "it", start)


def samples_of(data):
    return [segment.samples for segment in segments_of(data)]


def refusal_of(data):
    with pytest.raises(InputError) as refusal:
        segments_of(data)
    return refusal.value.code


@pytest.mark.parametrize("most", [0x7F, 0x7FF, 0xFFFF, 0x1FFFFF, 0x3FFFFFF, 0x7FFFFFFF, 0xFFFFFFFFF])
def test_numbers_are_written_as_utf8_writes_characters(most):
    number = coded(most)
    if most < 0xD800:
        assert number == chr(most).encode()
    assert samples_of(stream_of(frame_of(most))) == [4096]
    if most < 0xFFFFFFFFF:
        assert samples_of(stream_of(frame_of(most), frame_of(most + 1))) == [2 * 4096]
        assert refusal_of(stream_of(frame_of(most), frame_of(most + 2))) == "audio_corrupt"


# Section 9.1.1; code 6 and 7 are followed by a number.
SIZES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608} | {code: 256 << (code - 8) for code in range(8, 16)}


def test_the_samples_of_a_frame_are_those_of_its_code():
    for code in range(16):
        for behind, size in {6: [(b"\0", 1), (b"\xff", 256)], 7: [(b"\0\0", 1), (b"\xff\xfe", 65_535)]}.get(
            code, [(b"", SIZES.get(code))]
        ):
            data = stream_of(*(frame_of(number, (code << 4 | 9, 8), behind) for number in range(3)))
            if size is None:
                assert refusal_of(data) == "audio_empty"
            else:
                assert samples_of(data) == [3 * size], code


def test_rates_of_every_code_but_the_last_are_read():
    """Section 9.1.2: codes 12 to 14 are followed by a number, and 15 is forbidden."""
    for code in range(16):
        behind = {12: b"\x60", 13: b"\xac\x44", 14: b"\x11\x3a"}.get(code, b"")
        data = stream_of(*(frame_of(number, (0xC0 | code, 8), behind) for number in range(3)))
        if code == 15:
            assert refusal_of(data) == "audio_empty"
        else:
            assert samples_of(data) == [3 * 4096], code


def test_channels_and_depths_that_are_reserved_are_no_frame():
    """Sections 9.1.3 and 9.1.4: eleven layouts; of the depths, code 3 is reserved; and so is the last bit."""
    for layout in range(16):
        for last in range(16):
            frame = frame_of(0, (0xC9, layout << 4 | last))
            if layout <= 10 and last >> 1 != 3 and not last & 1:
                assert samples_of(stream_of(frame)) == [4096], (layout, last)
            else:
                assert refusal_of(stream_of(frame)) == "audio_empty", (layout, last)


@pytest.mark.parametrize("lead", [*range(0x80, 0xC0), 0xFF])
def test_a_number_does_not_begin_in_its_middle(lead):
    header = bytes([0xFF, 0xF8, *PLAIN, lead]) + b"\x80" * 6
    for length in range(5, 12):
        assert refusal_of(stream_of(header[:length] + bytes([_crc8(header[:length])]) + BODY)) == "audio_empty"


def test_a_header_with_a_false_checksum_is_no_frame():
    frame = bytearray(frame_of(7))
    frame[5] ^= 1
    assert refusal_of(stream_of(bytes(frame))) == "audio_empty"
    assert samples_of(stream_of(frame_of(6), bytes(frame))) == [4096]


def test_frames_of_any_length_count_samples_in_their_headers():
    """Section 9.1: with the last bit of the sync code set, the number is that of the first sample."""
    sizes, at, frames = [100, 7, 256, 65_535], (1 << 35) + 5, []
    for size in sizes:
        frames.append(frame_of(at, (0x7E, 8), (size - 1).to_bytes(2, "big") + b"\x11\x3a", by_sample=True))
        at += size
    assert len(frames[0]) - len(BODY) == 16  # the longest header there is
    assert samples_of(stream_of(*frames)) == [sum(sizes)]
    assert refusal_of(stream_of(*frames[:1], *frames[2:])) == "audio_corrupt"


def test_bytes_like_a_frame_of_another_kind_or_from_before_are_none():
    frames = [frame_of(number) for number in range(10, 13)]
    for chance in (frame_of(14, (0xC9, 0x0C)), frame_of(14, (0xCA, 8)), frame_of(14, by_sample=True), frame_of(5),
                   frame_of(12), frame_of(1 << 30)):  # fmt: skip
        assert samples_of(stream_of(*frames, chance)) == [3 * 4096]
    assert refusal_of(stream_of(*frames, frame_of(14))) == "audio_corrupt"


@pytest.mark.parametrize("back", [*range(18), 40])
def test_a_frame_is_counted_once_wherever_a_block_of_reading_ends(back):
    frame = header_of((1 << 35) + 5, (0x7E, 8), b"\x03\xe7\x11\x3a", by_sample=True)
    begin = stream_of()
    filler = b"\x11" * ((1 << 20) - len(begin) - back)
    assert samples_of(begin + filler + frame + b"\x11" * 30) == [1000]
    assert samples_of(begin + filler + frame) == [1000]


@pytest.mark.parametrize(("promised", "short"), [(0, False), (8191, False), (8192, False), (8193, True)])
def test_a_promise_is_held_to_the_sample(promised, short):
    data = stream_of(frame_of(0), frame_of(1), total=promised)
    if short:
        assert refusal_of(data) == "audio_truncated"
    else:
        assert samples_of(data) == [8192]


def test_the_header_that_a_decoder_is_handed_has_the_counted_samples_and_no_checksum():
    data = b"before" + stream_of(frame_of(0), frame_of(1), total=5)
    (segment,) = segments_of(data, 6)
    assert segment.pieces == [b"fLaC\x80\0\0\x22" + info_of(8192)[:18] + bytes(16), (6 + 42, len(data))]
    assert not segment.skipped


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 127])
def test_what_looks_like_frames_in_other_blocks_is_none(kind):
    """Section 8.1: a bit for the last block, seven of its type, and a size of 24 bits."""
    inside = b"".join(frame_of(number) for number in range(5))
    one = bytes([kind]) + len(inside).to_bytes(3, "big") + inside
    last = bytes([0x80 | 1]) + (70_000).to_bytes(3, "big") + bytes(70_000)
    data = stream_of(frame_of(9), blocks=one + last)
    (segment,) = segments_of(data)
    assert segment.samples == 4096 and segment.pieces[1] == (42 + len(one) + len(last), len(data))


def test_a_stream_behind_another_is_one_of_its_own():
    first, second = stream_of(frame_of(0)), stream_of(frame_of(0), frame_of(1), blocks=b"\x81\0\0\1x")
    for streams in ([first, second], [second, first, second]):
        data = b"".join(streams)
        made = segments_of(data)
        assert [one.samples for one in made] == [8192 if one is second else 4096 for one in streams]
        assert [one.pieces[1][1] for one in made] == [sum(map(len, streams[: n + 1])) for n in range(len(streams))]


def test_a_header_that_ends_early_is_cut_short():
    data = stream_of(blocks=b"\1\0\0\x10" + bytes(16) + b"\x81\0\0\0")
    for end in (5, 7, 8 + 34, 8 + 34 + 3, len(data) - 1):
        assert refusal_of(data[:end]) == "audio_truncated", end
    assert refusal_of(data) == "audio_empty"
    # Another size of the first block, which is the only one.
    assert refusal_of(b"fLaC\x80\0\0\x21" + bytes(33)) == "audio_corrupt"
