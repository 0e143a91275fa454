"""How much a video may take, checked before memory is; and what sampling and frames may be asked for."""

import io
import resource
import struct
import time

import numpy as np
import pytest
from PIL import Image

from processors import Access, Deadline, InputError, Limits, VideoConfig, VideoProcessor, load_audio, load_video
from processors.decode.video.decoder import open_video
from processors.decode.video.frame_index import read_frame_index

av = pytest.importorskip("av")


def refused(source, load=load_video, **arguments):
    began = time.monotonic()
    with pytest.raises(InputError) as refusal:
        load(source, **arguments)
    assert time.monotonic() - began < 10, "slow"
    message = str(refusal.value)
    assert len(message) <= 500 and "0x" not in message and "\n" not in message
    return refusal.value.code


def peak():
    """The greatest resident size since the last `forget_peak`, in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def forget_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return peak()


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + kind + content


def huge(data, width, height):
    """A movie whose headers claim another size."""
    data = bytearray(data)
    entry = data.index(b"rle ", data.index(b"stsd"))
    data[entry + 28 : entry + 32] = struct.pack(">HH", width, height)
    return bytes(data)


def gif_of(width, height):
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF", save_all=True, append_images=[Image.new("P", (8, 8), 1)], duration=50)
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


TOO_LARGE = {"video_too_large", "video_unknown_format"}
BOMBS = {
    "movie_size": (
        lambda clip: huge(clip([9] * 4, "mov", "qtrle", pix_fmt="rgb24"), 30_000, 30_000),
        {"video_too_large", "video_corrupt"},
    ),
    "gif_canvas": (lambda clip: gif_of(60_000, 60_000), {"video_too_large"}),
    "y4m_size": (lambda clip: b"YUV4MPEG2 W60000 H60000 F25:1 C420jpeg\nFRAME\n" + bytes(100), TOO_LARGE),
    "ivf_size": (
        lambda clip: b"DKIF\0\0\x20\0VP80" + struct.pack("<HHIIII", 65_000, 65_000, 25, 1, 1, 0)
        + struct.pack("<IQ", 20, 0) + b"\x10\x02\0\x9d\x01\x2a" + struct.pack("<HH", 16_000, 16_000) + bytes(10),
        {"video_too_large", "video_corrupt", "video_unknown_format"},
    ),
    "jpeg_size": (
        lambda clip: b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01" * 2,
        {"video_too_large", "video_corrupt", "video_unknown_format", "video_empty"},
    ),
    "box_of_2_64": (
        lambda clip: box(b"ftyp", b"isom\0\0\0\0") + struct.pack(">I", 1) + b"free" + b"\xff" * 8,
        {"video_truncated", "video_corrupt"},
    ),
    "boxes_in_boxes": (lambda clip: box(b"ftyp", b"isom\0\0\0\0") + nested(b"moov", 3000), None),
    "matroska_of_2_56": (
        lambda clip: b"\x1aE\xdf\xa3\x80\x18S\x80g\x01" + b"\xfe" * 7 + b"\x1fC\xb6u\x01" + b"\xfe" * 7,
        {"video_truncated"},
    ),
    "many_streams": (lambda clip: matroska_tracks(4000), None),
}  # fmt: skip


def nested(kind, depth):
    data = b""
    for _ in range(depth):
        data = struct.pack(">I", len(data) + 8) + kind + data
    return data


def element(name, content):
    return bytes.fromhex(name) + struct.pack(">Q", len(content) | 1 << 56) + content


def matroska_tracks(count):
    tracks = b"".join(
        element("ae", element("d7", struct.pack(">H", n + 1)) + element("83", b"\x11") + element("86", b"S_TEXT/UTF8"))
        for n in range(count)
    )
    head = element("1a45dfa3", element("4282", b"matroska"))
    return head + element("18538067", element("1654ae6b", tracks))


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs(name, clip):
    make, codes = BOMBS[name]
    data = make(clip)
    with pytest.raises(InputError):  # so that modules are loaded
        load_video(b"\x1aE\xdf\xa3\x80")
    base = forget_peak()
    code = refused(data)
    assert codes is None or code in codes, code
    assert peak() - base < 64


def test_frames_are_counted_in_tokens_before_any_is_decoded(clip, monkeypatch):
    from processors.decode.video import decoder as decode_video

    data = clip([50] * 60, size=(640, 640), options={"preset": "ultrafast"})
    monkeypatch.setattr(decode_video.FrameConverter, "__call__", lambda *_: pytest.fail("a frame was decoded"))
    few = Access(Limits(media_tokens=1000))
    assert refused(data, VideoProcessor(), fps=25, access=few) == "video_too_large"
    assert refused(data, VideoProcessor(), num_frames=8, min_pixels=1 << 30, max_pixels=1 << 31) == "video_too_large"
    assert (
        refused(data, VideoProcessor(), num_frames=8, access=Access(Limits(resized_pixels=1000))) == "video_too_large"
    )
    assert refused(data, fps=25, access=Access(Limits(sampled_frames=8))) == "video_too_large"
    assert refused(data, access=Access(Limits(video_frames=10))) == "video_too_large"
    assert refused(data, access=Access(Limits(frame_pixels=10_000))) == "video_too_large"


def test_frames_held_at_once_are_bounded(clip):
    data = clip([50] * 60, size=(640, 640), options={"preset": "ultrafast"})
    assert refused(data, fps=25, access=Access(Limits(media_tokens=1000))) == "video_too_large"


def test_a_list_of_frames_is_bounded_too():
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    assert refused(frames, VideoProcessor(), access=Access(Limits(sampled_frames=39))) == "video_too_large"
    assert VideoProcessor()(frames, num_frames=4, access=Access(Limits(sampled_frames=39))).grid_thw[0, 0] == 2


def test_silence_in_holes_is_bounded():
    data = holed_audio(100)
    base = forget_peak()
    assert refused(data, load_audio) in {"audio_expansion", "audio_too_long"}
    assert peak() - base < 150
    assert len(load_audio(holed_audio(2))) / 16_000 == pytest.approx(590, abs=1)


def test_audio_held_beside_frames_is_bounded(clip):
    data = clip([50] * 50, audio=np.zeros(96_000, np.float32))
    assert VideoProcessor()(data, audio=True).audio.size == pytest.approx(32_000, abs=2000)
    for limits in (Limits(audio_samples=20_000), Limits(audio_seconds=1.0)):
        assert refused(data, VideoProcessor(), audio=True, access=Access(limits)) == "audio_too_long"


def holed_audio(count):
    """Matroska with a block of samples every 590 s."""
    clusters = b"".join(
        element(
            "1f43b675", element("e7", struct.pack(">Q", number * 590_000)) + element("a3", b"\x81\0\0\x80" + bytes(64))
        )
        for number in range(count)
    )
    audio = element("b5", struct.pack(">d", 16_000.0)) + element("9f", b"\x01") + element("6264", b"\x10")
    track = element("d7", b"\x01") + element("73c5", b"\x01") + element("83", b"\x02") + element("86", b"A_PCM/INT/LIT")
    tracks = element("1654ae6b", element("ae", track + element("e1", audio)))
    info = element("1549a966", element("2ad7b1", struct.pack(">I", 1_000_000)))
    return element("1a45dfa3", element("4282", b"matroska")) + element("18538067", info + tracks + clusters)


class Packets:
    """A container of a million packets."""

    def __init__(self, count):
        from types import SimpleNamespace as Box

        self.count = count
        self.track = Box(index=0, time_base=0.001, average_rate=25, guessed_rate=25)
        self.packet = Box(size=9, is_discard=False, is_keyframe=True, duration=40, time_base=0.001, stream=self.track)
        self.format = Box(name="matroska", flags=0)

    def demux(self, *_):
        for number in range(self.count):
            self.packet.pts = self.packet.dts = number * 40
            self.packet.pos = None
            yield self.packet


def test_a_million_packets_take_little(monkeypatch):
    container = Packets(40_000)
    base = forget_peak()
    index = read_frame_index(container, container.track)
    assert index.total == 40_000 and index.constant and index.rate == 25
    assert (peak() - base) * 1e6 / container.count < 150


def test_a_deadline_is_kept_between_frames(clip):
    data = clip([50] * 60)
    access = Access(deadline=Deadline(30))
    with pytest.raises(InputError) as refusal, open_video(data, VideoConfig(), fps=25, access=access) as sampled:
        next(sampled.frames)
        access.deadline.cancel()
        for _ in sampled.frames:
            pass
    assert refusal.value.code == "cancelled"
    for load in (load_video, load_audio):
        assert refused(data, load, access=access) == "cancelled"


@pytest.mark.parametrize(
    "sampling",
    [
        {"fps": float("nan")}, {"fps": "2"}, {"fps": True}, {"fps": 2**70}, {"fps": 0}, {"fps": -1.0},
        {"fps": float("inf")}, {"fps": [2]}, {"fps": 1j}, {"num_frames": True}, {"num_frames": 2.5},
        {"num_frames": "4"}, {"num_frames": 2**70}, {"num_frames": 0}, {"num_frames": -4}, {"num_frames": float("nan")},
        {"min_frames": 8, "max_frames": 4}, {"max_frames": 0}, {"max_frames": 1}, {"min_frames": "4"},
        {"max_frames": float("inf")}, {"num_frames": 4, "fps": 2},
    ],
)  # fmt: skip
def test_sampling_that_cannot_be(sampling, clip):
    data = clip([50] * 30)
    assert refused(data, VideoProcessor(), **sampling) == "video_sampling"


def test_numbers_of_numpy_and_whole_floats_are_numbers(clip):
    data = clip([50] * 100)
    want = VideoProcessor()(data, fps=2).timestamps
    for fps in (np.float32(2), np.int64(2), 2.0):
        np.testing.assert_array_equal(VideoProcessor()(data, fps=fps).timestamps, want)
    for count in (np.int64(8), 8.0):
        assert len(VideoProcessor()(data, num_frames=count).timestamps) == 8


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 8), ({"max_frames": 4}, 4), ({"max_frames": 5}, 4), ({"min_frames": 20}, 20), ({"min_frames": 11}, 12),
        ({"min_frames": 1000}, 100), ({"max_frames": 2}, 2), ({"fps": 25, "max_frames": 50}, 50),
        ({"fps": 0.1, "min_frames": 6, "max_frames": 8}, 6),
    ],
)  # fmt: skip
def test_numbers_of_frames_are_those_of_qwen_vl_utils(arguments, count, clip):
    assert len(VideoProcessor()(clip([50] * 100), **arguments).timestamps) == count


def test_total_pixels_bound_all_frames_together():
    frames = np.zeros((20, 640, 640, 3), np.uint8)

    def area(**limits):
        _, rows, columns = VideoProcessor()(frames, **limits).grid_thw[0].tolist()
        return rows * columns * 256

    assert area() == 640 * 640
    # qwen-vl-utils: max(min(max_pixels, total_pixels / frames * 2), 1.05 * min_pixels)
    total = 2_000_000
    assert area(total_pixels=total) <= total / 20 * 2 < 640 * 640
    assert area(total_pixels=total) > 0.8 * total / 20 * 2
    assert area(total_pixels=1000) <= 1.05 * VideoConfig().min_pixels
    assert area(total_pixels=total, min_pixels=3136, max_pixels=50_000) <= 50_000
    assert area(total_pixels=10**12) == area()
    whole = VideoProcessor(VideoConfig(clip_limits=True, min_pixels=4096, max_pixels=25_165_824))(
        frames, total_pixels=1_000_000
    )
    assert np.prod(whole.grid_thw[0, 1:]) * 256 * 20 <= 2 * 1_000_000


@pytest.mark.parametrize("total", ["5", 0, -1, True, float("nan"), 2**70, None.__class__])
def test_total_pixels_that_cannot_be(total):
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    assert refused(frames, VideoProcessor(), total_pixels=total) == "pixel_limits"


class DLPack:
    """An array of another library."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_frames_of_other_libraries(inputs, tmp_path):
    frames = inputs.clip("others", 4, 64, 96)
    want = VideoProcessor()(frames, fps=2).pixels
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[1].save(tmp_path / "1.png")
    buffer = io.BytesIO()
    pictures[2].save(buffer, "PNG")
    mixed = [pictures[0], tmp_path / "1.png", buffer.getvalue(), frames[3]]
    for source in (DLPack(frames.copy()), memoryview(frames), mixed, tuple(mixed)):
        np.testing.assert_array_equal(VideoProcessor()(source, fps=2).pixels, want)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (np.zeros((4, 3, 64, 64), np.uint8), "video_shape"), (np.zeros((64, 64), np.uint8), "video_shape"),
        (DLPack(np.zeros((4, 3, 64, 64), np.uint8)), "video_shape"), ({"frames": 3}, "video_unknown_format"),
        (np.array(["a"], object), "video_shape"), (3, "video_unknown_format"), (None, "video_unknown_format"),
        ([None, None], "image_unknown_format"), (np.zeros((2, 0, 4, 3), np.uint8), "image_empty"),
        (b"", "source_empty"), (b"\0" * 5000, "video_unknown_format"), (bytes(range(256)) * 8, "video_unknown_format"),
        (b"PK\x03\x04" + bytes(60), "video_unknown_format"), (b"%PDF-1.7\n%\xe2\xe3", "video_unknown_format"),
        (b"\x7fELF" + bytes(80), "video_unknown_format"), (b"<!doctype html><video src=x>", "video_unknown_format"),
        (b"GIF89a", None), (b"RIFF\x04\0\0\0AVI ", None), (b"FLV\x01\x05\0\0\0\x09", None), (b"\x1aE\xdf\xa3", None),
        (b"\0\0\0\x08ftyp", None), (b"G" * 400, None), (b"\0\0\1\xba" + bytes(40), None), (b"OggS" + bytes(60), None),
    ],
)  # fmt: skip
def test_what_is_no_video(source, code):
    got = refused(source, VideoProcessor())
    assert got == code if code else got.startswith("video_")


def test_audio_with_a_cover_is_no_video():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        track = file.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 20_480, 1024):
            piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            piece.sample_rate, piece.pts = 48_000, start
            file.mux(track.encode(piece))
        file.mux(track.encode(None))
    assert refused(buffer.getvalue(), VideoProcessor()) == "video_no_track"


def test_memory_does_not_grow_with_requests(clip):
    data = clip([50] * 50, size=(320, 320))
    for _ in range(10):
        VideoProcessor()(data, audio=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        VideoProcessor()(data, audio=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
