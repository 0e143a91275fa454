"""What is drawn is what the model sees."""

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import omni
from omni.tools.drawing.layout import COLOURS, token_kinds
from omni.tools.inspect import inspect
from processors import ImageConfig, ImageProcessor, VideoProcessor
from processors.drawing.patches import frames_of
from tests.golden import media

SAMPLES = Path(__file__).parents[3] / "samples"


@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_a_picture_comes_back_from_its_patches(height, width, seed):
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    features = ImageProcessor()(pixels)
    _, h, w = features.grid_thw[0].tolist()
    resized = PIL.Image.fromarray(pixels).resize((w * 16, h * 16), PIL.Image.Resampling.BICUBIC)
    (found,) = frames_of(features, 0)
    np.testing.assert_array_equal(found, np.asarray(resized) if resized.size != (width, height) else pixels)


def test_other_patch_sizes():
    pixels = media.image("large")[:210, :420]
    config = ImageConfig(patch_size=14, merge_size=3, min_pixels=1, max_pixels=10**6)
    (found,) = frames_of(ImageProcessor(config)(pixels), 0)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_film_comes_back_from_its_patches(count):
    film = media.video("whole")[0][:count]
    features = VideoProcessor()(film, fps=1.0)
    found = [frame for step in range(features.grid_thw[0, 0]) for frame in frames_of(features, step)]
    np.testing.assert_array_equal(found[:count], film)
    # An odd count repeats the last frame.
    assert len(found) == 2 * math.ceil(count / 2)
    np.testing.assert_array_equal(found[-1], film[-1])


def test_several_pictures_come_back_apart():
    given = [media.image("small"), media.image("small")[:, 64::-1][:, :64].copy()]
    features = ImageProcessor()(given)
    for step, wanted in enumerate(given):
        np.testing.assert_array_equal(frames_of(features, step), [wanted])
    with pytest.raises(IndexError):
        frames_of(features, 2)


@pytest.fixture(scope="module")
def drawn(model):
    """Every kind of medium, and what is drawn of them."""
    film = omni.Video(SAMPLES / "bunny.mp4", audio=True)
    given = [SAMPLES / "flower.jpg", str(SAMPLES / "speech.flac"), film, media.image("tiny")]
    return given, list(inspect(model, given, "What is this?"))


def test_every_kind_is_drawn(drawn):
    assert [title for title, _ in drawn[1]] == [
        "flower.jpg patches",
        "speech.flac spectrogram",
        "bunny.mp4 frames",
        "bunny.mp4 patches",
        "bunny.mp4 spectrogram",
        "medium 4 patches",
        "tokens",
        "similarity",
    ]


def test_captions_hold_the_processors_numbers(drawn, model):
    given, pictures = drawn
    captions = {title: picture.caption for title, picture in pictures}
    film = model.media.read(given[2])
    t, h, w = film.grid_thw[0].tolist()
    first, last = film.timestamps[[0, -1]].tolist()
    assert f"{len(film.timestamps)} frames from {first:.2f} to {last:.2f} s" in captions["bunny.mp4 frames"]
    assert f"{t * h * w // 4} tokens" in captions["bunny.mp4 frames"]
    encoded = model.media.encode([film])[0]
    assert f"to {len(film.audio) / 16_000:.2f} s, {len(encoded.audio.tokens)} tokens" in captions["bunny.mp4 frames"]
    assert f"{len(encoded.audio.tokens)} tokens" in captions["bunny.mp4 spectrogram"]


def test_audio_is_drawn_with_the_encoders_windows(drawn, model):
    figure = dict(drawn[1])["speech.flac spectrogram"].figure()
    _, below, _ = figure.axes
    config = model.config.audio
    mel = model.media.read(drawn[0][1]).mel
    borders = {
        lines.get_label(): [path.vertices[0, 0] for path in lines.get_paths()] for lines in below.collections[1:]
    }
    every = {"chunk": config.chunk_frames / 100, "window": config.n_window_infer / 100}
    for name, seconds in every.items():
        wanted = np.arange(seconds, mel.shape[1] / 100, seconds)
        np.testing.assert_allclose(borders.get(f"{name} border, every {seconds:g} s", []), wanted)


def test_the_layout_shows_the_positions_of_every_token(drawn, model):
    figure = dict(drawn[1])["tokens"].figure()
    content = [model.encode(medium) for medium in drawn[0]]
    parts = [{"type": one.kind, one.kind: one} for one in content]
    inputs = model.prepare([{"role": "user", "content": [*parts, {"type": "text", "text": "What is this?"}]}])
    lines, band = figure.axes
    for line, positions in zip(lines.get_lines(), inputs.position_ids, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), positions)
    assert [line.get_label() for line in lines.get_lines()] == ["time", "height", "width"]
    kinds = token_kinds(inputs)
    for boxes in band.collections:
        of_kind = np.zeros(len(kinds), bool)
        for path in boxes.get_paths():
            left, right = path.vertices[:, 0].min(), path.vertices[:, 0].max()
            of_kind[math.ceil(left) : math.floor(right) + 1] = True
        assert (of_kind == (np.array(kinds) == boxes.get_label())).all()
    assert {boxes.get_label() for boxes in band.collections} == set(kinds) <= set(COLOURS)


def test_similarity_is_the_cosine_of_pooled_embeddings(drawn, model):
    axes = dict(drawn[1])["similarity"].figure().axes[0]
    vectors = np.stack([model.encode(medium).pooled() for medium in drawn[0]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), vectors @ vectors.T, atol=1e-5)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "flower.jpg", "speech.flac", "bunny.mp4", "medium 4"
    ]  # fmt: skip


def test_names_of_media(model):
    import base64
    import io

    buffer = io.BytesIO()
    PIL.Image.fromarray(media.image("small")).save(buffer, "png")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    titles = [title for title, _ in inspect(model, [uri, buffer.getvalue(), model.encode(uri)])]
    assert titles == ["medium 1 patches", "medium 2 patches", "tokens", "similarity"]


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
