"""Clips: sampling and patches against the reference, true times, rotation, and the sound beside them."""

import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processors import InputError, VideoConfig, VideoProcessor, load_video
from processors.decode.video.decoder import _on_screen
from processors.frame_sampling import frame_count, sampled_rate, shown_at, spread
from processors.resize import frame_size, smart_resize
from processors.video import VideoFeatures

pytest.importorskip("av")

EVEN = [number / 30 for number in range(100)]
# Four frames, then a long one, a burst, and two long ones again.
UNEVEN = [0, 0.1, 0.2, 0.3, *(3 + 0.02 * step for step in range(50)), 5, 7, 7.1]


@pytest.mark.parametrize("name", ["five", "four", "one", "three_wide"])
def test_patches_equal_the_references(name, golden, inputs):
    archive = golden("videos")
    made = VideoProcessor()(inputs.clip(name, *inputs.VIDEOS[name]), fps=4.0)
    np.testing.assert_array_equal(made.grid_thw, archive[f"{name}/grid_thw"])
    want = archive[f"{name}/pixels"]
    difference = made.pixels[:: max(1, len(made.pixels) // 60)].reshape(want.shape).astype(int) - want
    # The reference resizes frames by torchvision, which is up to two levels from its own still images.
    assert np.abs(difference).max() <= 2 and np.abs(difference).mean() < 0.1
    np.testing.assert_allclose(made.pixel_values, made.pixels / np.float32(127.5) - 1, atol=1e-6)
    assert made.seconds_per_grid == 0.5
    np.testing.assert_array_equal(made.timestamps, np.arange(inputs.VIDEOS[name][0], dtype=np.float32) / 4)


def test_sampling_equals_the_references(golden, inputs):
    for place, (total, rate, fps, wanted) in enumerate(inputs.SAMPLINGS):
        count = frame_count(total, total / rate, VideoConfig(), fps, wanted)
        want = golden("videos")[f"sampling/{place}"]
        # Rounding lets the reference run one past the end of some clips, to a frame that is not there.
        np.testing.assert_array_equal(spread(total, count), want[want < total])


@given(st.integers(1, 400), st.floats(0.2, 60), st.integers(1, 300))
def test_the_clock_chooses_as_the_count_does_where_frames_are_even(total, rate, count):
    times = np.arange(total) / rate
    chosen, samples = shown_at(times, times[0] + total / rate, count)
    np.testing.assert_allclose(samples, np.arange(count) * total / rate / count)
    np.testing.assert_array_equal(chosen, spread(total, count))


@given(st.lists(st.floats(0.001, 5), min_size=2, max_size=60), st.integers(1, 40))
def test_the_frame_on_the_screen_is_taken(lengths, count):
    edges = np.cumsum([0.0, *lengths])
    chosen, samples = shown_at(edges[:-1], edges[-1], count)
    ticks = np.arange(count) * (edges[-1] / count)
    np.testing.assert_allclose(samples, ticks, atol=1e-9)
    assert (edges[chosen] <= ticks + 2e-6).all() and (ticks < edges[chosen + 1]).all()


QWEN3_VL = {"video_processor_type": "Qwen3VLVideoProcessor", "size": {"shortest_edge": 4096, "longest_edge": 25165824}}


def test_frames_up_to_the_last_and_their_times_equal_qwen3_vls(golden, inputs):
    archive, config = golden("vl"), VideoConfig.from_dict(QWEN3_VL)
    frames, times = (np.split(archive[name], archive[f"{name}_ends"][:-1]) for name in ("frames", "times"))
    for (total, rate, fps, wanted), want, stamps in zip(inputs.SAMPLINGS, frames, times, strict=True):
        count = frame_count(total, total / rate, config, fps, wanted)
        chosen = spread(total, count, config.to_last_frame)
        np.testing.assert_array_equal(chosen, want)
        pixels, grid = np.zeros((0, 1536), np.uint8), np.zeros((1, 3), np.int32)
        made = VideoFeatures(pixels, grid, 2 / sampled_rate(chosen / rate), chosen / rate, None, config)
        assert [f"{seconds:.1f}" for seconds in made.grid_timestamps] == stamps.tolist()


def test_sizes_by_the_area_of_all_frames_equal_qwen3_vls(golden):
    for frames, height, width, low, high, *size in golden("vl")["sizes"].tolist():
        config = VideoConfig(min_pixels=low, max_pixels=high, clip_limits=True)
        assert frame_size(frames, height, width, config) == tuple(size), (frames, height, width)


@pytest.fixture(scope="module")
def samplings(golden, inputs):
    """For the two kinds of settings: what is asked of how many frames, the frames that are chosen, and their stamps."""
    archive, found = golden("vl"), []
    frames, times = (np.split(archive[name], archive[f"{name}_ends"][:-1]) for name in ("frames", "times"))
    for place, case in enumerate(inputs.SAMPLINGS):
        want = golden("videos")[f"sampling/{place}"]
        found.append((VideoConfig(), case, want[want < case[0]], None))
        found.append((VideoConfig.from_dict(QWEN3_VL), case, frames[place], times[place].tolist()))
    return found


def test_a_number_of_frames_is_chosen_as_by_the_reference(samplings):
    least = np.zeros((1, 32, 32, 3), np.uint8)
    for config, (total, rate, _, wanted), chosen, stamps in samplings:
        if wanted is not None:
            frames = np.broadcast_to(least, (total, *least.shape[1:]))
            made = VideoProcessor(config)(frames, rate, wanted, min_pixels=1024)
            np.testing.assert_array_equal(np.rint(made.timestamps * rate), chosen)
            assert stamps is None or [f"{seconds:.1f}" for seconds in made.grid_timestamps] == stamps


def test_a_rate_chooses_frames_of_a_file_as_by_the_reference(samplings, clip):
    files = {
        (total, rate): clip([0] * total, "avi", "mpeg4", rate=rate) for total in (5, 31, 100) for rate in (10, 24, 30)
    }
    for config, (total, rate, fps, wanted), chosen, _ in samplings:
        if wanted is None and (total, rate) in files:
            made = VideoProcessor(config)(files[total, rate], fps, min_pixels=1024)
            np.testing.assert_array_equal(np.rint(made.timestamps * rate), chosen, err_msg=f"{total} {rate} {fps}")


def test_videos_are_as_large_as_qwen3_vls(golden):
    small = [row for row in golden("vl")["sizes"].tolist() if row[0] * max(row[1] * row[2], row[5] * row[6]) < 1 << 17]
    assert len(small) > 90
    for frames, height, width, low, high, *size in small:
        config = VideoConfig(min_pixels=low, max_pixels=high, clip_limits=True)
        made = VideoProcessor(config)(np.broadcast_to(np.uint8(0), (frames, height, width, 3)))
        assert (16 * made.grid_thw[0, 1:]).tolist() == size, (frames, height, width)


def test_a_file_is_sampled_up_to_its_last_frame(video_file, frame_numbers):
    config = VideoConfig.from_dict(QWEN3_VL)
    data = video_file(EVEN)
    assert frame_numbers(load_video(data, num_frames=5, config=config)) == [0, 25, 50, 74, 99]
    made = VideoProcessor(config)(data, num_frames=5)
    assert made.grid_thw[0, 0] == 3 and made.timestamps.tolist() == [0, 25 / 30, 50 / 30, 74 / 30, 99 / 30]
    assert made.grid_timestamps == pytest.approx([12.5 / 30, 62 / 30, 99 / 30])
    alone = VideoProcessor(config)(video_file(EVEN[:1]))
    assert alone.grid_thw[0, 0] == 1 and alone.grid_timestamps == (0.0,)


@given(st.integers(2, 400), st.floats(0.2, 60), st.integers(2, 300))
def test_the_clock_reaches_the_last_frame_too(total, rate, count):
    times = np.arange(total) / rate
    chosen, samples = shown_at(times, times[0] + total / rate, count, to_last=True)
    assert samples[0] == 0 and samples[-1] == pytest.approx(times[-1])
    assert chosen[0] == 0 and chosen[-1] == total - 1
    np.testing.assert_array_equal(chosen, np.arange(count) * (total - 1) // (count - 1))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"),
        ("avi", "libx264"), ("mpegts", "libx264"), ("flv", "libx264"), ("mpeg", "mpeg2video"), ("h264", "libx264"),
    ],
)  # fmt: skip
def test_even_frames_of_any_container(container, codec, video_file, frame_numbers):
    data = video_file(EVEN, container, codec)
    assert frame_numbers(load_video(data)) == [0, 16, 33, 50, 66, 83]
    made = VideoProcessor()(data)
    assert made.grid_thw[0, 0] == 3 and made.audio is None
    np.testing.assert_allclose(made.timestamps, np.array([0, 16, 33, 50, 66, 83]) / 30, atol=2e-3)
    # 6 of 100 frames at 30 a second: 1.8 a second, not the 2 that were asked for.
    assert made.seconds_per_grid == pytest.approx(2 / 1.8)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_uneven_frames_by_their_times(container, video_file, frame_numbers):
    data = video_file(UNEVEN, container)
    made = VideoProcessor()(data, fps=2)
    step = made.seconds_per_grid / 2
    assert step == pytest.approx(0.5, rel=0.03)
    want = [int(np.searchsorted(UNEVEN, place * step + 1e-6, side="right")) - 1 for place in range(14)]
    assert want[1:6] == [3] * 5
    assert frame_numbers(load_video(data, fps=2)) == want
    # A frame that stays is shown at each of its times, not only when it comes on.
    np.testing.assert_allclose(made.timestamps, np.arange(14) * step, atol=1e-6)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
def test_sparse_frames_by_seeking(container, video_file, frame_numbers):
    data = video_file([number / 30 for number in range(1000)], container, gop=50)
    want = [place * 125 for place in range(8)]
    assert frame_numbers(load_video(data, num_frames=8)) == want
    assert VideoProcessor()(data, num_frames=8).timestamps == pytest.approx(np.array(want) / 30, abs=2e-3)


@pytest.mark.parametrize(("frames", "kept"), [(1, [0]), (2, [0, 1]), (3, [0, 1]), (5, [0, 1, 2, 3])])
def test_very_short_files(frames, kept, video_file, frame_numbers):
    data = video_file(EVEN[:frames])
    assert frame_numbers(load_video(data)) == kept
    made = VideoProcessor()(data)
    assert made.grid_thw[0, 0] == -(-len(kept) // 2)
    assert made.seconds_per_grid == pytest.approx(2 / 30 * frames / len(kept))


def test_an_odd_count_repeats_the_last_frame(inputs):
    clip = inputs.clip("odd", 3, 64, 96)
    made = VideoProcessor()(clip, fps=1)
    padded = VideoProcessor()(np.concatenate([clip, clip[-1:]]), fps=1)
    np.testing.assert_array_equal(made.pixels, padded.pixels)
    assert len(made.timestamps) == 3 and made.seconds_per_grid == 2


def test_frames_in_every_form(inputs):
    clip = inputs.clip("forms", 4, 64, 96)
    want = VideoProcessor()(clip, fps=5.0)
    for frames in (list(clip), [Image.fromarray(frame) for frame in clip], tuple(clip)):
        np.testing.assert_array_equal(VideoProcessor()(frames, fps=5.0).pixels, want.pixels)
    assert VideoProcessor()(clip).seconds_per_grid == 1.0  # without a rate, the one that models are given frames at
    assert VideoProcessor()(clip, fps=5.0, audio=True).audio is None
    halved = VideoProcessor()(clip, fps=5.0, num_frames=2)
    assert halved.timestamps.tolist() == pytest.approx([0, 0.4]) and halved.seconds_per_grid == pytest.approx(0.8)


def test_limits_hold_for_each_frame(inputs):
    clip = inputs.clip("limits", 2, 100, 200)
    made = VideoProcessor()(clip, max_pixels=200_000, min_pixels=100_000)
    rows, columns = smart_resize(100, 200, VideoConfig(min_pixels=100_000, max_pixels=200_000))
    assert made.grid_thw.tolist() == [[1, rows // 16, columns // 16]]
    assert made.pixels.shape == (rows * columns // 256, 1536)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
        ((0, 1, 1, 0), lambda frame: frame.swapaxes(0, 1)),
    ],
)
def test_rotation_that_the_file_asks_for(matrix, turn, video_file, turned):
    plain = video_file(EVEN[:4])
    stored, shown = load_video(plain), load_video(turned(plain, matrix))
    np.testing.assert_array_equal(shown, np.stack([turn(frame) for frame in stored]))
    rows, columns = VideoProcessor()(turned(plain, matrix)).grid_thw[0, 1:]
    assert (rows > columns) == (matrix[0] == 0)


def beep(rate, at=1.0, seconds=2.0):
    t = np.arange(int(rate * seconds)) / rate
    return np.where((t > at) & (t < at + 0.05), 0.8 * np.sin(2 * np.pi * 1000 * t), 0).astype(np.float32)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "webm", "mov"])
@pytest.mark.parametrize(("sound_at", "video_at"), [(0, 0), (0.5, 0), (0, 0.5)])
def test_the_sound_keeps_the_clock_of_the_pictures(container, sound_at, video_at, video_file):
    webm = container == "webm"
    rate = 48_000 if webm else 44_100
    data = video_file(
        EVEN[:60], container, "libvpx" if webm else "libx264", sound=beep(rate), sound_at=sound_at, video_at=video_at,
        sound_codec="libopus" if webm else "aac", sound_rate=rate,
    )  # fmt: skip
    made = VideoProcessor()(data, audio=True)
    assert made.audio is not None and made.audio.dtype == np.float32
    begins = np.flatnonzero(np.abs(made.audio) > 0.2)[0] / 16_000
    assert begins == pytest.approx(1 + sound_at - video_at, abs=0.003)
    assert len(made.audio) / 16_000 == pytest.approx(2 + sound_at - video_at, abs=0.06)
    assert VideoProcessor()(data).audio is None


def test_a_silent_file_gives_no_sound(video_file):
    assert VideoProcessor()(video_file(EVEN[:10]), audio=True).audio is None


def test_paths_and_bytes_give_the_same(video_file, tmp_path):
    data = video_file(EVEN[:30])
    path = tmp_path / "clip.txt"
    path.write_bytes(data)
    for source in (path, str(path), bytearray(data)):
        np.testing.assert_array_equal(VideoProcessor()(source).pixels, VideoProcessor()(data).pixels)


def test_no_more_than_one_frame_is_held(video_file):
    from processors.decode.video import decoder as decode_video

    held = most = 0

    class Counted:
        def __init__(self, image):
            nonlocal held, most
            self.image, held = image, held + 1
            most = max(most, held)

        def __del__(self):
            nonlocal held
            held -= 1

        def __getattr__(self, name):
            return getattr(self.image, name)

    plain = decode_video.FrameConverter.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_video.FrameConverter, "__call__", lambda *arguments: Counted(plain(*arguments)))
        with decode_video.open_video(video_file(EVEN), VideoConfig(), fps=10) as sampled:
            count = sum(1 for _ in sampled.frames)
    assert count == len(sampled.timestamps) > 30 and most <= 2


def test_without_pyav_the_extra_is_named(monkeypatch, video_file):
    data = video_file(EVEN[:2])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r'pip install "omni-jax\[video\]"') as refusal:
        VideoProcessor()(data)
    assert refusal.value.code == "video_needs_video_extra"
    assert VideoProcessor()(np.zeros((2, 32, 32, 3), np.uint8)).grid_thw[0, 0] == 1


@pytest.mark.parametrize(
    ("source", "arguments", "code"),
    [
        (b"these are not the bytes of a video", {}, "video_unknown_format"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", {}, "video_unknown_format"),
        (b"#EXTM3U\n#EXTINF:5\nhttp://127.0.0.1/a.ts\n", {}, "video_unknown_format"),
        (np.zeros((0, 32, 32, 3), np.uint8), {}, "video_empty"),
        ([], {}, "video_empty"),
        (np.zeros((32, 32, 3), np.uint8), {}, "video_shape"),
        (np.zeros((2, 32, 32, 3), np.float32), {}, "image_dtype"),
        (np.zeros((2, 1, 300, 3), np.uint8), {}, "aspect_ratio"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)], {}, "video_frame_sizes"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"fps": 0}, "video_sampling"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"fps": float("nan")}, "video_sampling"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"num_frames": 4}, "video_sampling"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"min_pixels": 0}, "pixel_limits"),
        (object(), {}, "video_unknown_format"),
    ],
)
def test_what_cannot_be_used_is_refused(source, arguments, code):
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(source, **arguments)
    assert refusal.value.code == code
    assert len(str(refusal.value)) <= 500 and "0x" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"num_frames": 11}, "video_sampling"),
        ({"num_frames": 0}, "video_sampling"),
        ({"fps": -1.0}, "video_sampling"),
        ({"fps": 1.0, "num_frames": 2}, "video_sampling"),
    ],
)
def test_sampling_that_a_file_cannot_give(arguments, code, video_file):
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(video_file(EVEN[:10]), **arguments)
    assert refusal.value.code == code


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_file_cut_short_is_refused(container, video_file):
    data = video_file(EVEN, container, "mpeg4" if container == "avi" else "libx264")
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(data[: len(data) * 2 // 3])
    assert refusal.value.code == "video_truncated"


def test_damage_in_the_middle_is_refused(video_file):
    data = bytearray(video_file(EVEN))
    start = data.index(b"mdat") + 1500
    data[start : start + 800] = b"\xff" * 800
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(bytes(data))
    assert refusal.value.code == "video_corrupt"


def test_a_playlist_opens_no_other_file(video_file, tmp_path):
    (tmp_path / "part.ts").write_bytes(video_file(EVEN[:30], "mpegts"))
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1.0,\n"
    (tmp_path / "list.m3u8").write_text(f"{head}file:{tmp_path}/part.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile part.ts\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(InputError) as refusal:
            VideoProcessor()(tmp_path / name)
        assert refusal.value.code == "video_unknown_format"


def test_frames_that_an_edit_list_leaves_out_do_not_count(video_file, frame_numbers):
    # Frames before time 0 are stored, for the others refer to them, and are not shown.
    data = video_file(EVEN[:60], video_at=-0.5)
    assert frame_numbers(load_video(data)) == [15 + place for place in (0, 11, 22, 33)]


def test_a_frame_that_the_decoder_leaves_out_is_the_one_before():
    frames = iter([(2, "two"), (3, "three"), (6, "six"), (7, "seven")])
    assert list(_on_screen(frames, [0, 2, 4, 5, 6, 9])) == ["two", "two", "three", "three", "six", "seven"]


def test_a_sound_is_not_a_video():
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(1000), 16_000, format="WAV")
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(buffer.getvalue())
    assert refusal.value.code == "video_no_track"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=40), st.booleans())
def test_no_damage_raises_anything_else(video_file, place, patch, cut):
    data = bytearray(_small(video_file))
    place %= len(data)
    data[place : place + len(patch)] = patch
    try:
        VideoProcessor()(bytes(data[:place]) if cut else bytes(data), audio=True, max_pixels=1024, min_pixels=1024)
    except InputError:
        pass


@cache
def _small(video_file):
    return video_file(EVEN[:8], sound=beep(44_100, seconds=0.3))
