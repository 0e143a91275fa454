"""Containers with holes, ends missing and parts overwritten: what is promised is compared with what is read."""

import numpy as np
import pytest

from processors import InputError, VideoProcessor, load_audio, load_video
from processors.decode.video import decoder as decode_video

av = pytest.importorskip("av")

DAMAGE = {"video_corrupt", "video_truncated"}
KINDS = {
    "mp4": ("mp4", "libx264", None),
    "mov": ("mov", "mpeg4", None),
    "fragments": ("mp4", "libx264", "frag_keyframe"),
    "matroska": ("matroska", "libx264", None),
    "webm": ("webm", "libvpx", None),
    "live": ("matroska", "libx264", "live"),
    "avi": ("avi", "mpeg4", None),
    "flv": ("flv", "libx264", None),
    "asf": ("asf", "wmv2", None),
    "transport": ("mpegts", "libx264", None),
    "ivf": ("ivf", "libvpx", None),
    "ogg": ("ogg", "libvpx", None),
}
LIVE = {"live": {"live": "1"}, "frag_keyframe": {"movflags": "frag_keyframe+empty_moov"}, None: {}}


@pytest.fixture(scope="module")
def noisy(clip):
    """A busy video in each kind of container: a cut of a hundred bytes always takes some of it."""
    rng = np.random.default_rng(3)
    frames = [np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 8, 0), 8, 1) for _ in range(60)]
    made = {}

    def make(kind):
        if kind not in made:
            container, codec, muxer = KINDS[kind]
            options = {"g": "12", "crf": "10", "preset": "ultrafast"} if codec == "libx264" else {"g": "12"}
            made[kind] = clip(frames, container, codec, muxer=LIVE[muxer], options=options, rate=25)
        return made[kind]

    return make


def code_of(data):
    try:
        load_video(data, fps=25)
    except InputError as refusal:
        assert len(str(refusal)) <= 500 and "0x" not in str(refusal)
        return refusal.code
    return None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whole_ones_are_read(kind, noisy):
    # FFmpeg tells the first two times of VP8 in Ogg a millisecond apart.
    assert len(load_video(noisy(kind), fps=25)) == (58 if kind == "ogg" else 60)
    made = VideoProcessor()(noisy(kind))
    assert made.grid_thw[0, 0] == 2


# In fragments and in IVF each frame stands alone, and nothing says how many there should be.
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"transport", "ivf", "fragments"}))
@pytest.mark.parametrize("part", [0.35, 0.6, 0.85])
def test_one_that_is_cut_short_is_refused(kind, part, noisy):
    data = noisy(kind)
    assert code_of(data[: int(len(data) * part)]) in DAMAGE | {"video_unknown_format"}


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"ivf"}))
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_a_hole_of_zeros_is_refused(kind, part, noisy):
    data = bytearray(noisy(kind))
    start = int(len(data) * part)
    data[start : start + 3000] = bytes(len(data[start : start + 3000]))
    assert code_of(bytes(data)) in DAMAGE


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"ivf"}))
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("size", [777, 188 * 9])
def test_a_piece_cut_out_is_refused(kind, part, size, noisy):
    data = noisy(kind)
    start = int(len(data) * part) // 188 * 188
    assert code_of(data[:start] + data[start + size :]) in DAMAGE


def avi_chunks(data):
    """The start and end of each chunk of the movie list."""
    place = data.index(b"movi") + 4
    end = data.index(b"movi") - 4 + int.from_bytes(data[data.index(b"movi") - 4 : data.index(b"movi")], "little") + 4
    while place + 8 <= end:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield place, place + 8 + size + size % 2
        place += 8 + size + size % 2


def test_whole_chunks_taken_out_of_an_avi(noisy):
    data = noisy("avi")
    chunks = list(avi_chunks(data))
    assert len(chunks) == 60
    assert code_of(data[: chunks[20][0]] + data[chunks[30][0] :]) in DAMAGE
    shorter = bytearray(data)
    where = data.index(b"movi") - 4
    size = int.from_bytes(data[where : where + 4], "little") - (chunks[30][0] - chunks[20][0])
    shorter[where : where + 4] = size.to_bytes(4, "little")
    assert code_of(bytes(shorter[: chunks[20][0]] + shorter[chunks[30][0] :])) == "video_corrupt"


def test_an_avi_without_its_index_is_whole(noisy):
    data = noisy("avi")
    assert len(load_video(data[: data.index(b"idx1")], fps=25)) == 60


def test_chunks_of_an_avi_may_be_named_with_underscores(noisy):
    data = bytearray(noisy("avi"))
    start, _ = list(avi_chunks(bytes(data)))[-1]
    data[start : start + 4] = b"00__"
    assert len(load_video(bytes(data), fps=25)) == 60


def test_a_chunk_of_an_avi_of_no_stream_is_refused(noisy):
    data = bytearray(noisy("avi"))
    start, _ = list(avi_chunks(bytes(data)))[30]
    data[start : start + 2] = b"07"
    assert code_of(bytes(data)) == "video_corrupt"
    assert code_of(bytes(data[: data.index(b"idx1")])) == "video_corrupt"


@pytest.mark.parametrize("cut", [False, True])
def test_a_hole_in_an_avi_that_swallows_the_start_of_its_movie(cut, noisy):
    data = noisy("avi")
    movie, chunks = data.index(b"movi") - 8, list(avi_chunks(data))
    for start, end in ((movie - 500, chunks[6][0]), (movie, chunks[6][0]), (movie, movie + 12)):
        hole = b"" if cut else bytes(end - start)
        assert code_of(data[:start] + hole + data[end:]) in DAMAGE


def test_the_header_of_an_avi_counts_where_no_index_does(noisy):
    data = noisy("avi")
    chunks, where = list(avi_chunks(data)), data.index(b"movi") - 4
    size = int.from_bytes(data[where : where + 4], "little") - (chunks[30][0] - chunks[20][0])
    shorter = bytearray(data[: data.index(b"idx1")])
    shorter[where : where + 4] = size.to_bytes(4, "little")
    del shorter[chunks[20][0] : chunks[30][0]]
    assert code_of(bytes(shorter)) == "video_corrupt"
    # What writers put that cannot come back to tell the number.
    for unknown in (0, 0x4000_0000, 0xFFFF_FFFF):
        for head, at in ((b"avih", 24), (b"strh", 40)):
            place = shorter.index(head) + at
            shorter[place : place + 4] = unknown.to_bytes(4, "little")
        assert len(load_video(bytes(shorter), fps=25)) == 50


def test_an_index_of_all_frames_of_an_avi_is_right_whatever_its_header_says(noisy):
    data = bytearray(noisy("avi"))
    for head, at in ((b"avih", 24), (b"strh", 40)):
        place = data.index(head) + at
        data[place : place + 4] = (77).to_bytes(4, "little")
    assert len(load_video(bytes(data), fps=25)) == 60


def test_a_matroska_block_of_no_track_is_refused(noisy):
    data = bytearray(noisy("matroska"))
    block = data.index(b"\xa3", clusters(bytes(data))[0] + 200)
    while not data[block] == 0xA3 or data[block + 1] & 0xF0 not in (0x40, 0x10, 0x20) or data[block + 3] != 0x81:
        block = data.index(b"\xa3", block + 1)
    data[block + 3] = 0x85
    assert code_of(bytes(data)) == "video_corrupt"


def test_a_cluster_of_matroska_that_another_element_swallows_is_refused(clip):
    data = bytearray(clip([50] * 200, "matroska", "mjpeg", pix_fmt="yuvj420p", muxer={"cluster_time_limit": "1000"}))
    starts = clusters(bytes(data))
    assert len(starts) >= 5 and len(load_video(bytes(data), fps=25)) == 200
    size = starts[3] - starts[1] - 5
    data[starts[1] : starts[1] + 5] = b"\xec" + (size | 1 << 28).to_bytes(4, "big")
    assert code_of(bytes(data)) == "video_corrupt"


def test_whole_tags_taken_out_of_an_flv(noisy):
    data, place, tags = noisy("flv"), 13, []
    while place < len(data):
        size = int.from_bytes(data[place + 1 : place + 4], "big") + 15
        tags.append((place, place + size))
        place += size
    assert code_of(data[: tags[20][0]] + data[tags[30][0] :]) == "video_truncated"  # it says how long it is


def clusters(data):
    places, place = [], data.find(b"\x1fC\xb6u")
    while place >= 0:
        places.append(place)
        place = data.find(b"\x1fC\xb6u", place + 1)
    return places


def test_a_live_matroska_that_ends_between_blocks_is_whole(clip):
    data = clip([50] * 200, "matroska", "mjpeg", pix_fmt="yuvj420p", muxer={"live": "1", "cluster_time_limit": "1000"})
    starts = clusters(data)
    assert len(starts) >= 5
    assert 20 < len(load_video(data[: starts[4]], fps=25)) < 120
    assert code_of(data[: starts[4] - 100]) == "video_truncated"
    assert code_of(data[: starts[2] + 300] + data[starts[2] + 900 :]) == "video_corrupt"


def packets_of(data):
    return [data[place : place + 188] for place in range(0, len(data), 188)]


def test_segments_of_a_transport_stream_laid_end_to_end_are_whole(clip):
    segments = [clip([40 * part] * 50, "mpegts", offset=2 * part) for part in range(4)]
    frames = load_video(b"".join(segments), fps=25)
    assert len(frames) == 200
    assert [int(frames[50 * part + 20, 30, 30, 0]) for part in range(4)] == pytest.approx([0, 40, 80, 120], abs=3)


def test_one_packet_lost_of_a_transport_stream(noisy):
    packets = packets_of(noisy("transport"))
    middle = next(
        place for place, packet in enumerate(packets)
        if place > len(packets) // 2 and not packet[1] & 0x40 and packet[2] == 0 and packet[1] & 0x1F == 1
    )  # fmt: skip
    assert code_of(b"".join(packets[:middle] + packets[middle + 1 :])) == "video_corrupt"


@pytest.mark.parametrize("first", [2, 5, 10, 25, 100])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_hole_in_a_transport_stream(first, fill, noisy):
    """Also among its first packets, by which it is known to be one."""
    data = noisy("transport")
    for count in (1, 4):
        hole = fill * (188 * count)
        assert code_of(data[: 188 * first] + hole + data[188 * (first + count) :]) == "video_corrupt"


def test_tables_of_a_transport_stream_may_be_thinned_out(noisy):
    table = b"G\x00\x12\x10" + b"\xff" * 184  # one packet of a programme guide, its counter always 0
    packets = packets_of(noisy("transport"))
    for number in (0, 5, 9):
        packets.insert(40 * number, table[:3] + bytes([0x10 | number]) + table[4:])
    assert len(load_video(b"".join(packets), fps=25)) == 60


def test_a_transport_stream_cut_anywhere_at_its_ends_is_read(noisy):
    data = noisy("transport")
    start = len(data) // 3 + 77
    assert 20 < len(load_video(data[start:], fps=25)) < 60
    assert 20 < len(load_video(data[: len(data) * 2 // 3 + 50], fps=25)) < 60
    stamped = b"".join(b"\0\0\0\1" + packet for packet in packets_of(data))
    assert len(load_video(stamped, fps=25)) == 60


def test_two_movies_end_to_end_are_refused(noisy):
    assert code_of(noisy("mp4") * 2) == "video_corrupt"


def test_what_follows_a_file_is_no_damage(noisy):
    for kind in ("mp4", "matroska", "avi"):
        assert len(load_video(noisy(kind) + b"\0" * 64, fps=25)) == 60


def test_audio_of_a_damaged_container_is_refused_too(clip):
    data = clip([50] * 50, "matroska", audio=np.sin(np.arange(96_000) / 9).astype(np.float32))
    assert len(load_audio(data)) / 16_000 == pytest.approx(2, abs=0.1)
    holed = data[: len(data) // 2] + bytes(600) + data[len(data) // 2 + 600 :]
    for broken, code in ((holed, "audio_corrupt"), (data[: len(data) // 2], "audio_truncated")):
        with pytest.raises(InputError) as refusal:
            load_audio(broken)
        assert refusal.value.code == code


def test_overwritten_bytes_give_one_refusal_or_a_value(noisy):
    rng = np.random.default_rng(8)
    for kind in sorted(KINDS):
        for _ in range(12):
            data = bytearray(noisy(kind))
            for place in rng.integers(0, len(data), 8):
                data[place] = rng.integers(0, 256)
            code_of(bytes(data))


def test_streams_that_fail_are_one_refusal():
    class Failing:
        def read(self, *arguments):
            raise OSError("the disk is gone")

    with pytest.raises(InputError) as refusal:
        load_video(Failing())
    assert refusal.value.code == "source_unreadable"


@pytest.mark.parametrize("value", [b"\xff" * 2, b"\0\0", b"\x17\0", b"\x12\1", b"\x57\1"])
def test_a_tag_of_an_flv_that_holds_no_video_is_refused(value, noisy):
    data, place, tags = bytearray(noisy("flv")), 13, []
    while place < len(data):
        size = int.from_bytes(data[place + 1 : place + 4], "big")
        tags += [place] if data[place] == 9 and size > 100 else []
        place += size + 15
    data[tags[30] + 11 : tags[30] + 13] = value
    assert code_of(bytes(data)) == "video_corrupt"


@pytest.mark.parametrize("part", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x55"])
def test_the_frames_of_an_avi_are_read_whatever_becomes_of_its_index(part, fill, clip):
    tone = np.sin(np.arange(96_000) / 9).astype(np.float32)
    data = bytearray(clip([4 * n for n in range(50)], "avi", "mpeg4", audio=tone, audio_codec="libmp3lame"))
    start = data.index(b"idx1") + 8
    place = start + int(part * (len(data) - start))
    data[place:] = fill * (len(data) - place)
    levels = load_video(bytes(data), fps=25)[:, 30, 30, 0]
    assert np.abs(levels - 4.0 * np.arange(50)).max() <= 6
    assert len(load_audio(bytes(data))) == pytest.approx(32_000, abs=1700)


@pytest.mark.parametrize("kind", ["avi", "flv", "matroska", "webm"])
def test_a_hole_anywhere_takes_no_frame_in_silence(kind, noisy):
    rng = np.random.default_rng(12)
    data, refused = noisy(kind), 0
    for number in range(60):
        start, size = rng.integers(len(data) // 2), 2 + number * number
        hole = [bytes(size), b"\xff" * size, rng.bytes(size), b""][number % 4]
        broken = data[:start] + hole + data[start + size :]
        packets = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode_video, "_choose", counting(decode_video._choose, packets))
            refused += code_of(broken) is not None
        assert not packets or packets == [60] or code_of(broken) in DAMAGE
    assert refused >= 30


def counting(choose, packets):
    def count(index, *arguments):
        packets.append(index.total)
        return choose(index, *arguments)

    return count
