"""Pictures show the processors' numbers, in seconds, hertz, pixels and token numbers."""

import io
import subprocess
import sys
from dataclasses import replace
from html import escape
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
import PIL.Image
import pytest

from processors import AudioConfig, AudioProcessor, ImageConfig, ImageProcessor, VideoConfig, VideoProcessor, notebook
from processors.drawing import contact_sheet as sheets
from processors.drawing.patches import draw_patches, frames_of, numbered_every, patch_pictures
from processors.drawing.picture import Picture, shortened, style, wrapped
from processors.drawing.spectrogram import audio_picture, draw_audio, draw_waveform
from processors.notebook import table
from tests.golden import media


@pytest.mark.parametrize("rows, columns, merge", [(1, 1, 2), (3, 5, 2), (2, 3, 3), (9, 125, 2)])
def test_patches_and_token_numbers_are_those_of_the_grid(rows, columns, merge):
    config = ImageConfig(patch_size=8, merge_size=merge)
    frame = np.zeros((rows * config.factor, columns * config.factor, 3), np.uint8)
    axes: Any = draw_patches(frame, config).axes[0]
    every = numbered_every(rows, columns)
    wanted = [str(r * columns + c) for r in range(0, rows, every) for c in range(0, columns, every)]
    assert [text.get_text() for text in axes.texts] == wanted
    counted = {lines.get_label(): len(lines.get_segments()) for lines in axes.collections}
    assert counted["tokens"] == rows + 1 + columns + 1
    assert counted["patches"] == (rows + columns) * merge + 2
    assert axes.get_xlim() == (0, frame.shape[1]) and axes.get_ylim() == (frame.shape[0], 0)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("waveform", [True, False])
def test_audio_is_drawn_in_its_seconds_and_hertz(seconds, waveform):
    samples = np.sin(np.arange(int(seconds * 16_000)) / 5).astype(np.float32)
    mel = AudioProcessor()(samples).mel
    axes: Any = draw_audio(mel, AudioConfig(), samples if waveform else None, 100, 800).axes
    below = axes[1 if waveform else 0]
    assert below.get_xlim() == pytest.approx((0, seconds)) and below.get_ylim() == (0, 8000)
    assert below.get_xlabel() == "seconds" and below.get_ylabel() == "hertz"
    if waveform:
        assert axes[0].get_xlim() == pytest.approx((0, seconds))
    # A fifth of a radian a sample is 16000 / (10 pi) hertz.
    mesh = below.collections[0]
    band = np.asarray(mesh.get_array()).mean(axis=1).argmax()
    low, high = mesh.get_coordinates()[band : band + 2, 0, 1]
    assert low < 16_000 / (10 * np.pi) < high


def test_a_long_spectrogram_keeps_its_mean_and_its_length():
    mel = np.random.RandomState(0).rand(8, 4501).astype(np.float32)
    mesh: Any = draw_audio(mel, AudioConfig(feature_size=8)).axes[0].collections[0]
    columns, edges = np.asarray(mesh.get_array()), mesh.get_coordinates()[0, :, 0]
    assert columns.shape[1] <= 2000 and edges[-1] == pytest.approx(45.01)
    np.testing.assert_allclose(columns @ np.diff(edges) * 100, mel.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("count, fps", [(2, 2.0), (5, 1.0), (300, 30.0)])
def test_a_contact_sheet_tells_the_times_really_sampled(count, fps):
    frames = np.zeros((count, 32, 64, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(count)[:, None, None] % 256
    features = VideoProcessor()(frames, fps=fps)
    sheet: Any
    sheet, clock = sheets.draw_contact_sheet(features).axes
    shown = sheets.shown_frames(features)
    assert len(shown) <= 48 and shown[0] == 0 and shown[-1] == count - 1 and len(set(shown)) == len(shown)
    assert [text.get_text() for text in sheet.texts] == [f"{features.timestamps[i]:.2f} s" for i in shown]
    assert [image.get_array()[0, 0, 0] for image in sheet.images] == [i % 256 for i in shown]
    drawn = [np.asarray(path.vertices)[0, 0] for path in clock.collections[-1].get_paths()]
    np.testing.assert_allclose(drawn, features.timestamps)
    assert clock.get_xlim()[0] == 0 and clock.get_xlim()[1] > features.timestamps[-1]


def test_a_sheet_s_clock_is_as_long_as_the_audio():
    features = VideoProcessor()(np.zeros((2, 32, 32, 3), np.uint8), fps=2.0)
    heard = replace(features, audio=np.ones(16_000 * 7, np.float32))
    assert sheets.draw_contact_sheet(heard).axes[1].get_xlim() == (0, 7)
    assert "audio from 0.00 to 7.00 s, 91 tokens" in sheets.contact_sheet(heard, "x", 91).caption


def test_styles_differ_and_leave_the_callers_alone():
    before = dict(matplotlib.rcParams)
    picture = next(patch_pictures(ImageProcessor()(media.image("tiny")), "$x^{ \u65e5\u672c"))
    corners = [PIL.Image.open(io.BytesIO(picture.png(dark))).convert("RGB").getpixel((0, 0)) for dark in (False, True)]
    assert corners == [(255, 255, 255), (32, 33, 36)]
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(RuntimeError), style():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_captions_are_broken_and_names_shortened():
    assert wrapped("aa bb cc", 5) == ["aa bb", "cc"] and wrapped("x" * 7, 3) == ["xxx", "xxx", "x"]
    assert wrapped("a xxxxxx", 3) == ["a", "xxx", "xxx"]
    assert shortened("a\nb\udcff.png") == "a?b?.png" and len(shortened("y" * 300)) <= 60


# --- patches ----------------------------------------------------------------------------------------------------------


def noise(*shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def test_frames_are_put_together_again_from_their_patches():
    config = ImageConfig(min_pixels=1)
    images = [noise(64, 96, 3), noise(96, 32, 3, seed=1)]
    features = ImageProcessor(config)(images)
    for step, image in enumerate(images):
        (frame,) = frames_of(features, step)
        np.testing.assert_array_equal(frame, image)
    frames = noise(6, 64, 32, 3)
    video = VideoProcessor(VideoConfig(min_pixels=1))(frames, fps=2.0)
    np.testing.assert_array_equal([frame for step in range(3) for frame in frames_of(video, step)], frames)
    for last, made in ((2, features), (3, video)):
        with pytest.raises(IndexError):
            frames_of(made, last)


def captions(features, name="x"):
    return [picture.caption for picture in patch_pictures(features, name)]


def test_a_caption_tells_the_size_the_patches_and_the_tokens():
    make = ImageProcessor(ImageConfig(min_pixels=1))
    small, tall = np.zeros((64, 96, 3), np.uint8), np.zeros((96, 32, 3), np.uint8)
    first = "as resized to 96 x 64 pixels: 4 x 6 patches of 16 pixels, 6 tokens"
    second = "as resized to 32 x 96 pixels: 6 x 2 patches of 16 pixels, 3 tokens"
    assert captions(make(small)) == [f"x {first}"]
    assert captions(make([small, tall])) == [f"x, image 1 {first}", f"x, image 2 {second}"]
    video = VideoProcessor(VideoConfig(min_pixels=1))(np.zeros((4, 64, 96, 3), np.uint8), fps=2.0)
    assert captions(video) == [f"x, the first of its frames, {first}"]
    (wide,) = captions(make(np.zeros((32, 32 * 150, 3), np.uint8)))
    assert wide.endswith("150 tokens; one in 2 rows and columns is numbered")


def test_the_pictures_of_several_images_show_each():
    features = ImageProcessor(ImageConfig(min_pixels=1))([noise(64, 96, 3), noise(96, 32, 3, seed=1)])
    shown = [np.asarray(picture.draw().axes[0].images[0].get_array()) for picture in patch_pictures(features, "x")]
    for step, frame in enumerate(shown):
        np.testing.assert_array_equal(frame, frames_of(features, step)[0])


@pytest.mark.parametrize(
    ("rows", "columns", "every"),
    [
        # A picture is 14 inches long at most, of 72 points each; a digit is 0.64 of its size wide, of a cell 0.78 is
        # for digits, and letters have 5 points at least: d digits of every-th tokens of n go in where
        # every >= 5 * 0.64 * d * n / (14 * 72 * 0.78).
        (1, 1, 1),
        (1, 100, 1),
        (1, 101, 2),
        (2, 81, 1),
        (2, 82, 2),
        (81, 2, 1),
        (82, 2, 2),
        (2, 163, 2),
        (2, 164, 5),
        (10, 99, 2),
        (1, 3000, 50),
        (1, 3072, 100),
        (1, 5000, 100),
        (1, 6200, 200),
        (1, 12_000, 500),
        (1, 40_000, 1000),
        (1, 49_200, 2000),
    ],
)
def test_as_many_tokens_are_numbered_as_can_be_read(rows, columns, every):
    assert numbered_every(rows, columns) == every


def test_numbers_stand_in_the_middle_of_their_tokens_in_an_ink_that_is_seen():
    config = ImageConfig(patch_size=8)
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:16, 16:32] = 255  # the second of two rows of three
    frame[16:, :16] = 128
    frame[16:, 16:32] = 127
    # What lies at a token's border is not behind its number.
    frame[16:, 32:] = 255
    frame[20:28, 36:44] = 0
    axes: Any = draw_patches(frame, config).axes[0]
    assert [text.get_position() for text in axes.texts] == [(x, y) for y in (8, 24) for x in (8, 24, 40)]
    inks = ["white", "black", "white", "black", "white", "white"]
    assert [text.get_color() for text in axes.texts] == inks
    assert all(text.get_ha() == text.get_va() == "center" for text in axes.texts)
    assert axes.get_xlabel() == axes.get_ylabel() == "pixels"
    assert axes.images[0].get_extent() == [0, 48, 32, 0]


def test_the_lines_of_patches_and_tokens_lie_on_their_borders():
    axes: Any = draw_patches(np.zeros((32, 48, 3), np.uint8), ImageConfig(patch_size=8)).axes[0]
    for lines in axes.collections:
        step = {"patches": 8, "tokens": 16}[lines.get_label()]
        ends = sorted(tuple(map(tuple, segment.tolist())) for segment in map(np.asarray, lines.get_segments()))
        wanted = [((0, y), (48, y)) for y in range(0, 33, step)] + [((x, 0), (x, 32)) for x in range(0, 49, step)]
        assert ends == sorted(wanted)
    widths = {(lines.get_label(), matplotlib.colors.to_hex(lines.get_color()[0])): lines for lines in axes.collections}
    thick = {key: lines.get_linewidths()[0] for key, lines in widths.items()}
    # White inside of black, so that both are seen on any colour; tokens stand out against patches.
    assert thick["patches", "#000000"] > thick["patches", "#ffffff"]
    assert thick["tokens", "#ffffff"] > thick["patches", "#ffffff"]
    order = [matplotlib.colors.to_hex(lines.get_color()[0]) for lines in axes.collections]
    assert order == ["#000000", "#ffffff"] * 2


# --- audio ------------------------------------------------------------------------------------------------------------


def test_a_caption_tells_the_seconds_the_frames_and_the_tokens_of_audio():
    features = AudioProcessor()(np.zeros(16_000 * 3, np.float32))
    assert audio_picture(features, "x").caption == "x: 3.00 s, 300 mel frames of 128 bands"
    assert audio_picture(features, "x", tokens=0).caption.endswith("128 bands, 0 tokens")
    assert audio_picture(features, "x").title == "x spectrogram"


@pytest.mark.parametrize("highest", [0.25, 1.0])
def test_a_waveform_is_drawn_between_its_own_limits(highest):
    samples = (highest * np.sin(np.arange(4000) / 5)).astype(np.float32)
    figure = matplotlib.figure.Figure()
    axes: Any = figure.add_subplot()
    draw_waveform(axes, samples, 8000)
    low, high = axes.get_ylim()
    assert low == -high and highest < high < 1.2 * highest
    assert axes.get_xlim() == (0, 0.5) and axes.get_ylabel() == "amplitude" and not axes.get_xlabel()
    drawn = [line.get_ydata() for line in axes.lines if len(line.get_ydata())]
    drawn += [path.vertices[:, 1] for lines in axes.collections for path in lines.get_paths() if len(path.vertices)]
    assert max(float(np.max(values)) for values in drawn) == pytest.approx(highest, rel=0.01)


def test_silence_is_a_line_in_the_middle():
    for samples in (np.zeros(100, np.float32), np.full(100, 1e-9, np.float32)):
        axes: Any = matplotlib.figure.Figure().add_subplot()
        draw_waveform(axes, samples, 8000)
        assert axes.get_ylim()[1] >= 1e-3


@pytest.mark.parametrize(
    ("frames", "chunk", "window", "borders"),
    [
        (300, 100, 250, {"chunk border, every 1 s": [1, 2], "window border, every 2.5 s": [2.5]}),
        (301, 100, None, {"chunk border, every 1 s": [1, 2, 3]}),
        (300, None, 300, {}),
        (
            101,
            1,
            50,
            {"chunk border, every 0.01 s": [x / 100 for x in range(1, 101)], "window border, every 0.5 s": [0.5, 1]},
        ),
        (102, 1, None, {}),  # more lines than can be told apart
        (300, None, None, {}),
    ],
)
def test_the_borders_of_chunks_and_windows_are_drawn(frames, chunk, window, borders):
    figure: Any = draw_audio(np.zeros((8, frames), np.float32), AudioConfig(feature_size=8), None, chunk, window)
    drawn = {
        lines.get_label(): [path.vertices[0, 0] for path in lines.get_paths()]
        for lines in figure.axes[0].collections[1:]
    }
    assert set(drawn) == set(borders)
    for label, places in borders.items():
        np.testing.assert_allclose(drawn[label], places)
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert legends == list(borders)


def test_a_spectrogram_has_a_column_for_each_frame_and_its_bands_in_hertz():
    mel = np.random.RandomState(0).rand(8, 2000).astype(np.float32)
    axes: Any = draw_audio(mel, AudioConfig(feature_size=8)).axes[0]
    mesh = axes.collections[0]
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), mel)
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], np.arange(2001) / 100)
    edges = mesh.get_coordinates()[:, 0, 1]
    assert len(edges) == 9 and edges[0] > 0 and edges[-1] < 8000 and (np.diff(edges) > 0).all()
    assert [0, 500, 1000, 2000, 4000, 8000] == axes.get_yticks().tolist()


# --- contact sheets ---------------------------------------------------------------------------------------------------


def video_of(count, height=32, width=32, fps=2.0, **config):
    return VideoProcessor(VideoConfig(min_pixels=1, **config))(np.zeros((count, height, width, 3), np.uint8), fps=fps)


def test_a_caption_tells_the_frames_the_steps_and_the_tokens_of_a_video():
    assert sheets.contact_sheet(video_of(4, 64, 96), "x").caption == (
        "x: 4 frames from 0.00 to 1.50 s, resized to 96 x 64 pixels, in 2 steps, 12 tokens"
    )
    assert ", in 1 step, 1 tokens" in sheets.contact_sheet(video_of(2), "x").caption
    heard = replace(video_of(2), audio=np.ones(16_000 * 7, np.float32))
    assert sheets.contact_sheet(heard, "x").caption.endswith("1 tokens; audio from 0.00 to 7.00 s")
    assert sheets.contact_sheet(heard, "x", 0).caption.endswith("audio from 0.00 to 7.00 s, 0 tokens")
    assert sheets.contact_sheet(video_of(2), "x", 5).caption.endswith("1 tokens")
    assert "shown" not in sheets.contact_sheet(video_of(48), "x").caption
    assert sheets.contact_sheet(video_of(50), "x").caption.endswith("; 48 of the frames are shown")
    assert sheets.contact_sheet(video_of(2), "x").title == "x frames"


@pytest.mark.parametrize(("count", "depth"), [(48, 2), (49, 2), (200, 2), (50, 1), (50, 3), (130, 64), (5, 4)])
def test_a_sheet_shows_whole_steps_from_the_first_to_the_last(count, depth):
    features = video_of(count, temporal_patch_size=depth)
    shown, steps = sheets.shown_frames(features), -(-count // depth)
    taken = sorted({frame // depth for frame in shown})
    assert shown == [frame for step in taken for frame in range(step * depth, min((step + 1) * depth, count))]
    assert len(taken) == min(steps, max(48 // depth, 1)) and taken[0] == 0
    if len(taken) > 1:
        assert taken[-1] == steps - 1 and np.ptp(np.diff(taken)) <= 1


@pytest.mark.parametrize("height", [32, 64])
def test_a_sheet_of_many_frames_is_about_half_as_high_as_wide(height):
    sheet: Any = sheets.draw_contact_sheet(video_of(48, height, 32)).axes[0]
    tops = [image.get_extent()[3] for image in sheet.images]
    columns, rows = tops.count(tops[0]), len(set(tops))
    assert columns % 2 == 0 and columns * (rows - 1) < 48 <= columns * rows
    assert 0.4 < rows * (height / 32) / columns < 0.7


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_frames_of_one_step_stand_closer_together_than_steps(depth):
    features = video_of(12, 32, 64, temporal_patch_size=depth)
    sheet: Any = sheets.draw_contact_sheet(features).axes[0]
    places = [image.get_extent() for image in sheet.images]
    gaps = {True: set(), False: set()}
    for number in range(1, len(places)):
        (_, right, _, top), (left, _, bottom, here) = places[number - 1], places[number]
        if here == top:
            gaps[number % depth > 0].add(round(left - right, 6))
        else:  # a row begins with a step, on the left, beneath the last
            assert number % depth == 0 and left == places[0][0] and here > places[number - 1][2]
        assert bottom - here == pytest.approx(0.5)  # half as high as wide
    assert len(gaps[False]) == 1 and min(gaps[False]) > max(gaps[True], default=0) > -1e-6
    assert sheet.get_xlim()[1] >= max(right for _, right, _, _ in places) > sheet.get_xlim()[1] - 0.01
    assert sheet.get_ylim() == (pytest.approx(places[-1][2]), 0)


def test_the_times_of_a_sheet_stand_above_the_middle_of_their_frames():
    sheet: Any = sheets.draw_contact_sheet(video_of(6)).axes[0]
    for text, image in zip(sheet.texts, sheet.images, strict=True):
        left, right, _, top = image.get_extent()
        x, y = text.get_position()
        assert left < x < right and x == pytest.approx((left + right) / 2, abs=0.02)
        assert top - 0.1 < y < top and text.get_va() == "bottom" and text.get_ha() == "center"


@pytest.mark.parametrize(
    ("times", "texts"),
    [
        ([0.0, 0.004], ["0.000 s", "0.004 s"]),
        ([0.0, 0.02], ["0.00 s", "0.02 s"]),
        ([0.0, 5.0], ["0.00 s", "5.00 s"]),
        ([0.0, 5.0, 5.001, 9.0], ["0.000 s", "5.000 s", "5.001 s", "9.000 s"]),
    ],
)
def test_times_are_as_exact_as_their_neighbours_ask_for(times, texts):
    features = replace(video_of(len(times)), timestamps=np.array(times))
    assert [text.get_text() for text in sheets.draw_contact_sheet(features).axes[0].texts] == texts


def test_a_sheet_of_one_frame():
    features = replace(video_of(2), timestamps=np.array([0.5]))
    sheet, clock = sheets.draw_contact_sheet(features).axes
    assert [text.get_text() for text in sheet.texts] == ["0.50 s"] and len(sheet.images) == 1
    assert clock.get_xlim() == (0, pytest.approx(1.0))  # a frame of two in a second


def test_the_clock_of_a_sheet_ends_where_the_last_frame_does():
    """Frames at 0, 0.5, 1 and 1.5 s, each shown for half a second."""
    clock: Any = sheets.draw_contact_sheet(video_of(4)).axes[1]
    assert clock.get_xlim() == (0, pytest.approx(2.0))
    assert len(clock.get_yticks()) == 0 and clock.get_xlabel().startswith("seconds")
    short = replace(video_of(4), audio=np.ones(16_000, np.float32))
    clock = sheets.draw_contact_sheet(short).axes[1]
    assert clock.get_xlim() == (0, pytest.approx(2.0)) and len(clock.get_yticks()) > 0


# --- pictures ---------------------------------------------------------------------------------------------------------


def plain(caption="a caption", title="a title"):
    def draw():
        figure = matplotlib.figure.Figure(figsize=(2, 1))
        figure.add_subplot().set_xlabel("label")
        return figure

    return Picture(title, caption, draw)


@pytest.mark.parametrize("dark", [False, True])
def test_a_figure_has_its_caption_in_ink_that_is_seen_on_its_paper(dark):
    figure: Any = plain().figure(dark)
    paper = np.mean(matplotlib.colors.to_rgb(figure.get_facecolor()))
    (caption,) = figure.texts
    assert caption.get_text() == "a caption"
    inks = [caption.get_color(), figure.axes[0].xaxis.label.get_color(), figure.axes[0].spines["left"].get_edgecolor()]
    for ink in inks:
        assert abs(np.mean(matplotlib.colors.to_rgb(ink)) - paper) > 0.6
    assert (paper < 0.5) == dark
    assert figure.axes[0].get_facecolor() == figure.get_facecolor()


def test_a_picture_is_100_pixels_an_inch_with_or_without_its_caption():
    pictures = [PIL.Image.open(io.BytesIO(plain().png(caption=caption))) for caption in (True, False)]
    assert [picture.size for picture in pictures] == [(200, 100)] * 2
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert plain()._repr_png_() == plain().png()
    dark = PIL.Image.open(io.BytesIO(plain().png(dark=True))).convert("RGB")
    assert dark.getpixel((0, 99)) == (32, 33, 36)


def test_a_long_caption_is_broken_into_lines_that_fit():
    figure: Any = plain("word " * 30).figure()
    (caption,) = figure.texts
    lines = caption.get_text().split("\n")
    # Of letters of 10 points, which are half as wide, 2 inches hold less than thirty.
    assert " ".join(lines).split() == ["word"] * 30 and max(map(len, lines)) in range(15, 30)


def test_names_are_shortened_in_their_middle_and_only_where_they_are_long():
    assert shortened("a" * 60) == "a" * 60
    long = shortened("b" * 30 + "x" + "e" * 30)
    assert long == "b" * 29 + "\u2026" + "e" * 29
    assert shortened("abcdefgh", 5) == "ab\u2026gh" and shortened("abcde", 5) == "abcde"
    assert shortened("a\x00b\u202e") == "a?b?"


def test_lines_are_broken_where_they_are_full():
    assert wrapped("aa bb", 5) == ["aa bb"] and wrapped("aa bbb", 5) == ["aa", "bbb"]
    assert wrapped("abc", 3) == ["abc"] and wrapped("abcd ef", 3) == ["abc", "d", "ef"]
    assert wrapped("abcd e", 3) == ["abc", "d e"] and wrapped("", 3) == [""] and wrapped("  a   b ", 9) == ["a b"]


# --- what notebooks show ----------------------------------------------------------------------------------------------


def test_features_are_shown_as_pictures():
    small, video_of = media.image("tiny"), np.zeros((2, 32, 32, 3), np.uint8)
    for features in (ImageProcessor()(small), VideoProcessor()(video_of), AudioProcessor()(np.zeros(1600, np.float32))):
        assert PIL.Image.open(io.BytesIO(features._repr_png_() or b"")).format == "PNG"


def test_what_cannot_be_drawn_raises_nothing(monkeypatch):
    features = ImageProcessor()(media.image("tiny"))
    object.__setattr__(features, "pixels", features.pixels[:1])
    assert features._repr_png_() is None
    monkeypatch.setitem(sys.modules, "processors.drawing.spectrogram", None)
    assert AudioProcessor()(np.zeros(1600, np.float32))._repr_png_() is None


def test_matplotlib_waits_until_something_is_shown():
    code = """
import sys, numpy as np, processors
features = processors.ImageProcessor()(np.zeros((32, 32, 3), np.uint8))
repr(features), print(sorted({"matplotlib", "librosa"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_table_is_escaped_and_short():
    shown = table("<b>", {"<i>": "<script>" + "x" * 5000, "absent": None})
    assert "<script>" not in shown and escape("<script>") in shown and "<i>" not in shown and "absent" not in shown
    assert len(shown) < 2500


def test_a_picture_is_saved(tmp_path):
    picture = next(patch_pictures(ImageProcessor()(media.image("tiny")), "x"))
    assert isinstance(picture, Picture)
    picture.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_texts_are_cut_behind_so_many_letters():
    assert notebook.shortened("x" * 60) == "x" * 60 and notebook.shortened("x" * 61) == "x" * 59 + "\u2026"
    assert notebook.shortened("abcd", 3) == "ab\u2026" and notebook.shortened("abc", 3) == "abc"
    assert "x" * 2000 + "<" in table("t", {"a": "x" * 2000})
    assert "x" * 1999 + "\u2026<" in table("t", {"a": "x" * 2001}) and "x" * 2000 not in table("t", {"a": "x" * 2001})
    assert ">ab\u2026<" in table("t", {"a": "abcd"}, most=3)


def test_a_table_has_a_title_and_a_row_for_each_fact():
    shown = table("title", {"one": 1, "none": None, "two": [2]})
    assert shown.count("<tr>") == 2 and shown.index("title") < shown.index("one") < shown.index("two")
    assert ">1</td>" in shown and ">[2]</td>" in shown
    assert shown.startswith("<table>") and shown.endswith("</table>")
