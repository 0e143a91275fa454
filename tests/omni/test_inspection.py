"""What is drawn is what the model sees."""

import math
from pathlib import Path

import media
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omni
from omni.drawing import COLOURS
from omni.inspection import frames_of, inspect, token_kinds
from processors import ImageConfig, ImageProcessor, VideoProcessor

SAMPLES = Path(__file__).parents[2] / "samples"
MARGIN = 24


@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_a_picture_comes_back_from_its_patches(height, width, seed):
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    features = ImageProcessor()(pixels)
    _, h, w = features.grid_thw[0].tolist()
    resized = PIL.Image.fromarray(pixels).resize((w * 16, h * 16), PIL.Image.Resampling.BICUBIC)
    (found,) = frames_of(features, 16, 2)
    np.testing.assert_array_equal(found, np.asarray(resized) if resized.size != (width, height) else pixels)


def test_other_patch_sizes():
    pixels = media.image("large")[:210, :420]
    config = ImageConfig(patch_size=14, merge_size=3, min_pixels=1, max_pixels=10**6)
    (found,) = frames_of(ImageProcessor(config)(pixels), 14, 3)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_film_comes_back_from_its_patches(count):
    film = media.video("whole")[0][:count]
    found = frames_of(VideoProcessor()(film, fps=1.0), 16, 2)
    np.testing.assert_array_equal(found[:count], film)
    # An odd count repeats the last frame.
    assert len(found) == 2 * math.ceil(count / 2)
    np.testing.assert_array_equal(found[-1], film[-1])


def test_several_pictures_come_back_apart():
    given = [media.image("small"), media.image("small")[:, 64::-1][:, :64].copy()]
    for found, wanted in zip(frames_of(ImageProcessor()(given), 16, 2), given, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_sheet_shows_the_picture_under_its_grid(model):
    pixels = media.image("small")
    ((title, sheet), *_) = inspect(model, [pixels])
    assert title == "medium 1 patches"
    scale = 480 // 96
    shown = np.asarray(sheet)[2 * MARGIN : 2 * MARGIN + 64 * scale, MARGIN : MARGIN + 96 * scale]
    np.testing.assert_array_equal(shown[scale // 2 :: scale, scale // 2 :: scale], pixels)
    # White lines on the upper and left edges: thick between blocks, thin between patches.
    edges, rest = shown[::scale, ::scale].astype(int), 255 - pixels.astype(int)
    for at, step, opacity in ((0, 32, 220), (16, 32, 90)):
        np.testing.assert_allclose(edges[at::step, 1::16], (pixels + rest * opacity / 255)[at::step, 1::16], atol=1)
        np.testing.assert_allclose(edges[1::16, at::step], (pixels + rest * opacity / 255)[1::16, at::step], atol=1)
    np.testing.assert_array_equal(edges[1::16, 1::16], pixels[1::16, 1::16])


def test_every_kind_is_drawn(model):
    film = omni.Video(SAMPLES / "bunny.mp4", audio=True)
    given = [SAMPLES / "flower.jpg", str(SAMPLES / "speech.flac"), film, media.image("tiny")]
    drawn = list(inspect(model, given, "What is this?"))
    assert [title for title, _ in drawn] == [
        "flower.jpg patches",
        "speech.flac mel",
        "bunny.mp4 patches",
        "bunny.mp4 mel",
        "medium 4 patches",
        "tokens",
    ]
    assert all(sheet.mode == "RGB" and np.asarray(sheet).std() > 10 for _, sheet in drawn)


def test_a_clip_s_mel_is_drawn_with_its_windows(model):
    (_, sheet), _ = inspect(model, [omni.Audio(media.audio("middle"), media.RATE)])
    mel = np.asarray(sheet)[2 * MARGIN : 2 * MARGIN + 256, MARGIN:-MARGIN]
    white = np.flatnonzero((mel == 255).all(axis=(0, 2)))
    # 12.34 s: one line, at 8 s of them.
    assert white.min() / mel.shape[1] == pytest.approx(800 / 1234, abs=0.01) and np.ptp(white) <= 2


def test_names_of_media(model):
    import base64
    import io

    buffer = io.BytesIO()
    PIL.Image.fromarray(media.image("small")).save(buffer, "png")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    titles = [title for title, _ in inspect(model, [uri, buffer.getvalue(), model.encode(uri)])]
    assert titles == ["medium 1 patches", "medium 2 patches", "tokens"]


def test_token_kinds_and_their_picture(model):
    content = [
        {"type": "image", "image": media.image("small")},
        {
            "type": "video",
            "video": media.video("four")[0],
            "fps": 2.0,
            "audio": omni.Audio(media.audio("second"), media.RATE),
        },
        {"type": "text", "text": "?"},
    ]
    inputs = model.prepare([{"role": "user", "content": content}])
    kinds = token_kinds(inputs)
    assert len(kinds) == len(inputs.token_ids) and kinds[0] == "text"
    picture, film = inputs.media
    assert kinds.count("image") == len(picture.tokens) and kinds.count("video") == len(film.tokens)
    assert film.audio is not None and kinds.count("audio") == len(film.audio.tokens)
    assert (np.array(kinds)[inputs.token_ids == model.config.tokens.audio_token_id] == "audio").all()


def test_every_token_has_its_cell(model):
    *_, (title, sheet) = inspect(model, [media.image("small")], "Well?")
    inputs = model.prepare([{"role": "user", "content": [{"type": "image", "image": media.image("small")}, "Well?"]}])
    pixels = np.asarray(sheet)
    for i, kind in enumerate(token_kinds(inputs)):
        y, x = 2 * MARGIN + i // 64 * 14 + 5, MARGIN + i % 64 * 14 + 5
        assert tuple(pixels[y, x]) == COLOURS[kind], i
    assert title == "tokens"
