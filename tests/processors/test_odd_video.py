"""Odd and bad videos, each with its declared outcome: levels and times of frames, or the code of a refusal."""

import io
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from processors import Access, InputError, VideoConfig, VideoProcessor, load_video
from processors.decode.video.decoder import open_video

av = pytest.importorskip("av")

DARKER = [200 - 2 * number for number in range(100)]
LIGHTER = [2 * number for number in range(100)]
TICK = Fraction(1, 1000)


def tone(seconds, hertz=440.0):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 48_000)) / 48_000)).astype(np.float32)


def seen(source, config=None, access=None, **sampling):
    """The grey level in the middle of each sampled frame, and the times."""
    with open_video(source, config or VideoConfig(), access=access or Access(), **sampling) as sampled:
        levels = [int(np.asarray(frame)[frame.height // 2, frame.width // 2, 0]) for frame in sampled.frames]
        return levels, sampled.timestamps.tolist()


def refused(source, **arguments):
    with pytest.raises(InputError) as refusal:
        VideoProcessor()(source, **arguments)
    message = str(refusal.value)
    assert len(message) <= 500 and "0x" not in message and "\n" not in message
    return refusal.value.code


# ---------------------------------------------------------------------------------------------------------- the clock

JOINED = {
    "transport_same_clock": ("mpegts", "libx264", 0.0, 2),
    "transport_overlapping": ("mpegts", "libx264", 2.013, 2),
    "transport_hours_later": ("mpegts", "libx264", 5000.0, 2),
    "transport_three": ("mpegts", "libx264", 0.0, 3),
    "transport_mpeg2": ("mpegts", "mpeg2video", 0.0, 2),
    "program": ("mpeg", "mpeg2video", 0.0, 2),
    "matroska": ("matroska", "libx264", 0.0, 2),
    "matroska_three": ("matroska", "libx264", 0.0, 3),
    "webm": ("webm", "libvpx", 0.0, 2),
    "avi": ("avi", "mpeg4", 0.0, 2),
    "flv": ("flv", "libx264", 0.0, 2),
    "flv_three": ("flv", "libx264", 0.0, 3),
    "avi_three": ("avi", "mpeg4", 0.0, 3),
    "motion_jpeg": ("mjpeg", "mjpeg", 0.0, 2),
    "h264": ("h264", "libx264", 0.0, 2),
}


@pytest.mark.parametrize("name", sorted(JOINED))
def test_joined_files_are_one(name, clip):
    container, codec, offset, parts = JOINED[name]
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    data = clip(DARKER, container, codec, pix_fmt=pix_fmt)
    data += clip(LIGHTER, container, codec, offset=offset, pix_fmt=pix_fmt) * (parts - 1)
    levels, times = seen(data)
    assert len(levels) == 8 * parts
    turn = levels.index(min(levels))
    assert turn in (7, 8) and levels[:turn] == sorted(levels[:turn], reverse=True)
    assert levels[8:16] == sorted(levels[8:16]) and levels[15] > 150
    assert times[-1] == pytest.approx(4 * parts - 0.5, abs=0.1) and (np.diff(times) > 0).all()


@pytest.mark.parametrize("offset", [0.0, 2.013, 5000.0])
def test_audio_keeps_beside_the_frames_of_joined_files(offset, clip):
    beep = np.where(np.arange(4 * 48_000) // 4800 == 20, tone(4, 1000), 0).astype(np.float32)
    flash = [230 if number // 5 == 10 else 20 for number in range(100)]  # from 2.0 to 2.2 s, and the beep from 2.0
    data = clip(flash, "mpegts", audio=beep) + clip(flash, "mpegts", audio=beep, offset=offset)
    made = VideoProcessor()(data, fps=25, audio=True)
    bright = made.timestamps[np.repeat(made.pixels.reshape(made.grid_thw[0, 0], -1).mean(1) > 128, 2)]
    loud = np.flatnonzero(np.abs(made.audio) > 0.1) / 16_000
    assert len(made.audio) / 16_000 == pytest.approx(8, abs=0.15)
    for low, high in ((0, 4), (4, 9)):
        onset = loud[(loud >= low) & (loud < high)][0]
        assert bright[(bright >= low) & (bright < high)][0] == pytest.approx(onset, abs=0.1)
    assert loud[loud > 4][0] - loud[0] == pytest.approx(4, abs=0.1)


def test_a_clock_that_wraps_goes_on(clip):
    data = clip(LIGHTER, "mpegts", offset=2**33 / 90_000 - 2, muxer={"muxdelay": "0"})
    levels, times = seen(data)
    assert levels == sorted(levels) and len(levels) == 8 and times[-1] == pytest.approx(3.5, abs=0.05)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_a_screen_that_stays_is_sampled_at_its_times(container, clip):
    data = clip([20, 90, 160, 220], container, times=[0.0, 5.0, 10.0, 30.0])
    levels, times = seen(data, VideoConfig(to_last_frame=True), num_frames=4)
    assert times == pytest.approx([0, 10, 20, 30], abs=0.01)
    assert [round(level / 10) for level in levels] == [2, 16, 16, 22]
    assert (np.diff(seen(data)[1]) > 0).all()


def test_dropped_frames_of_an_avi_take_their_time(clip):
    times = [number / 25 for number in (*range(25), *range(75, 100))]
    levels, seconds = seen(clip([20] * 25 + [200] * 25, "avi", "mjpeg", pix_fmt="yuvj420p", times=times))
    assert levels == pytest.approx([20] * 6 + [200] * 2, abs=3)
    assert seconds == pytest.approx([number / 2 for number in range(8)], abs=0.01)


def test_frames_that_share_a_tick_are_all_there():
    times = [number // 2 / 10 for number in range(40)]
    levels, _ = seen(matroska_with(times, [2 * number for number in range(40)]), num_frames=40)
    assert levels == sorted(levels) and levels[-1] > 70


def test_a_clock_that_stands_still_gives_way_to_the_count():
    levels, times = seen(matroska_with([0.0] * 40, [4 * number for number in range(40)]), num_frames=20)
    assert len(set(levels)) == 20 and (np.diff(times) > 0).all()


def matroska_with(times, levels):
    """Motion JPEG in Matroska, whose blocks may have any times."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        track = file.add_stream("mjpeg", rate=25)
        track.width = track.height = 64
        track.pix_fmt = "yuvj420p"
        for time, level in zip(times, levels, strict=True):
            packet = av.Packet(jpeg(level))
            packet.stream, packet.time_base, packet.is_keyframe = track, TICK, True
            packet.pts, packet.dts = round(time * 1000), round(time * 1000)
            file.mux(packet)
    return buffer.getvalue()


def jpeg(level, exif=None, size=(64, 64)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(buffer, "JPEG", quality=95, exif=exif or b"")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------- pixels


def exif(orientation):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "A maker", orientation
    return tags


def motion_jpeg(pictures, container):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        track = file.add_stream("mjpeg", rate=10)
        track.width, track.height, track.pix_fmt = 64, 48, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = track, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize("container", ["avi", "mov", "matroska"])
@pytest.mark.parametrize("orientation", [1, 3, 4, 6])
def test_motion_jpeg_with_exif(container, orientation):
    pictures = []
    for number in range(10):
        picture, buffer = Image.new("RGB", (64, 48), (20 * number,) * 3), io.BytesIO()
        picture.paste((250, 250, 250), (0, 0, 16, 16))
        picture.save(buffer, "JPEG", exif=exif(orientation), quality=95)
        pictures.append(buffer.getvalue())
    frames = load_video(motion_jpeg(pictures, container), num_frames=10)
    corner = {1: (4, 4), 3: (-4, -4), 4: (-4, 4), 6: (4, -4)}[orientation]
    assert frames.shape == ((10, 64, 48, 3) if orientation == 6 else (10, 48, 64, 3))
    assert [int(frame[frame.shape[0] // 2, frame.shape[1] // 2, 0]) for frame in frames] == pytest.approx(
        [20 * number for number in range(10)], abs=4
    )
    assert (frames[:, corner[0], corner[1], 0] > 230).all()


PIXELS = {
    "grey": ("ffv1", "gray", 3), "four_four_four": ("ffv1", "yuv444p", 3), "ten_bits": ("ffv1", "yuv420p10le", 3),
    "sixteen_bits": ("ffv1", "gray16le", 3), "packed_rgb": ("ffv1", "bgr0", 3), "rgb_planes": ("ffv1", "gbrp10le", 3),
    "four_two_two": ("ffv1", "yuv422p", 3), "full_range": ("mjpeg", "yuvj444p", 3), "vp8": ("libvpx", "yuv420p", 4),
    "one_bit": ("rawvideo", "monob", 255), "palette": ("qtrle", "rgb24", 3),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PIXELS))
def test_pixel_formats(name, clip):
    codec, pix_fmt, tolerance = PIXELS[name]
    container = "mov" if codec in {"qtrle", "rawvideo"} else "matroska"
    levels, _ = seen(clip([0, 60, 128, 200, 255], container, codec, pix_fmt=pix_fmt), num_frames=4)
    assert levels == pytest.approx([0, 60, 128, 200], abs=tolerance)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("ffv1", "yuva420p"), ("ffv1", "bgra"), ("png", "rgba"), ("qtrle", "argb")]
)
def test_transparency_lies_on_white(codec, pix_fmt, clip):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:32] = (200, 0, 0, 255)
    frames = load_video(clip([picture] * 4, "matroska" if codec == "ffv1" else "mov", codec, pix_fmt=pix_fmt))
    assert frames[0, 60, 60].tolist() == pytest.approx([255, 255, 255], abs=2)
    assert frames[0, 10, 10].tolist() == pytest.approx([200, 0, 0], abs=4)


def test_a_fourth_byte_that_nobody_set_is_no_transparency(clip):
    picture = np.full((64, 64, 4), 90, np.uint8)
    picture[..., 3] = 0
    frames = load_video(clip([picture] * 4, "matroska", "ffv1", pix_fmt="bgra"))
    assert frames[0, 30, 30].tolist() == [90, 90, 90]


@pytest.mark.parametrize("size", [(2, 2), (16, 2), (34, 38), (1280, 8)])
def test_sizes(size, clip):
    frames = load_video(clip([50] * 4, "matroska", "ffv1", size=size))
    assert frames.shape == (4, size[1], size[0], 3) and abs(int(frames.mean()) - 50) < 3


def test_frames_that_change_their_size_get_that_of_the_first(clip):
    data = clip([60] * 25, "mpegts", size=(64, 64)) + clip([180] * 25, "mpegts", size=(96, 128))
    frames = load_video(data, num_frames=10)
    assert frames.shape == (10, 64, 64, 3)
    assert [int(frame[30, 30, 0]) for frame in frames] == pytest.approx([60] * 5 + [180] * 5, abs=3)
    assert VideoProcessor()(data).grid_thw[0, 0] == 2


# --------------------------------------------------------------------------------------------------------- animations


def animation(form, count=6, mode="RGB", durations=100, **options):
    pictures = []
    for number in range(count):
        picture = Image.new(mode, (64, 48), (40 * number, 0, 0) if mode == "RGB" else (0, 0, 0, 0))
        if mode == "RGBA":
            picture.paste((40 * number, 0, 0, 255), (0, 0, 32, 48))
        pictures.append(picture)
    buffer = io.BytesIO()
    pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:], duration=durations, **options)
    return buffer.getvalue()


LOSSLESS = {"WEBP": {"lossless": True}, "GIF": {"disposal": 2}, "PNG": {"disposal": 1}, "AVIF": {"quality": 95}}


@pytest.mark.parametrize("form", sorted(LOSSLESS))
def test_animations_are_videos(form):
    data = animation(form, **LOSSLESS[form])
    frames = load_video(data, num_frames=6)
    assert frames.shape == (6, 48, 64, 3)
    assert frames[:, 20, 10, 0].tolist() == pytest.approx([40 * number for number in range(6)], abs=6)
    made = VideoProcessor()(data, num_frames=6)
    assert made.timestamps.tolist() == pytest.approx([number / 10 for number in range(6)]) and made.audio is None
    assert VideoProcessor()(data, audio=True).audio is None


@pytest.mark.parametrize("form", sorted(LOSSLESS))
def test_see_through_animations_lie_on_white(form):
    frames = load_video(animation(form, mode="RGBA", **LOSSLESS[form]), num_frames=6)
    assert (frames[:, 20, 60] > 250).all()
    assert frames[:, 20, 10, 0].tolist() == pytest.approx([40 * number for number in range(6)], abs=6)


def test_frames_of_an_animation_stay_as_long_as_it_says():
    data = animation("GIF", 4, durations=[100, 1000, 100, 800])
    levels, times = seen(data, num_frames=4)
    assert [round(level / 40) for level in levels] == [0, 1, 1, 3] and times == pytest.approx([0, 0.5, 1.0, 1.5])


@pytest.mark.parametrize(("duration", "seconds"), [(0, 0.1), (10, 0.1), (20, 0.02), (40, 0.04)])
def test_hasty_animations_go_as_browsers_show_them(duration, seconds):
    made = VideoProcessor()(animation("GIF", 6, durations=duration), num_frames=6)
    assert made.timestamps[1] == pytest.approx(seconds)


def test_a_picture_for_viewers_without_animation_is_no_frame():
    first, rest = Image.new("RGB", (64, 48), "white"), [Image.new("RGB", (64, 48), (0, 0, 9 * n)) for n in range(4)]
    buffer = io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=rest, default_image=True, duration=100)
    assert load_video(buffer.getvalue(), num_frames=4)[:, 5, 5, 2].tolist() == [0, 9, 18, 27]


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "AVIF", "JPEG"])
def test_one_picture_is_a_video_of_one_frame(form):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(buffer, form)
    assert load_video(buffer.getvalue()).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("form", sorted(LOSSLESS))
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_animations_cut_short_are_refused(form, part):
    noisy = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8)) for n in range(6)]
    buffer = io.BytesIO()
    noisy[0].save(buffer, form, save_all=True, append_images=noisy[1:], duration=100)
    data = buffer.getvalue()
    assert refused(data[: int(len(data) * part)]) in {"video_truncated", "video_corrupt"}


def test_a_gif_without_its_last_byte_is_whole():
    data = animation("GIF")
    assert data[-1:] == b";"
    for odd in (data[:-1], data + b"\0\0", data + b"trailing"):
        assert len(load_video(odd, num_frames=6)) == 6
