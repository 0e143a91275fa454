"""Pictures show the processors' numbers, in seconds, hertz, pixels and token numbers."""

import io
import subprocess
import sys
from dataclasses import replace
from html import escape
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
import pytest

from processors import AudioConfig, AudioProcessor, ImageConfig, ImageProcessor, VideoProcessor
from processors.drawing import contact_sheet as sheets
from processors.drawing.patches import draw_patches, numbered_every, patch_pictures
from processors.drawing.picture import Picture, shortened, style, wrapped
from processors.drawing.spectrogram import draw_audio
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


# --- what notebooks show ----------------------------------------------------------------------------------------------


def test_features_are_shown_as_pictures():
    small, film = media.image("tiny"), np.zeros((2, 32, 32, 3), np.uint8)
    for features in (ImageProcessor()(small), VideoProcessor()(film), AudioProcessor()(np.zeros(1600, np.float32))):
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
