"""Whatever stands for a medium gives the same embedding, alone and beside others, and survives a file."""

import base64
import io
from pathlib import Path

import media
import numpy as np
import PIL.Image
import pytest
from load import relative_error

import omni
from omni.inspection import frames_of, inspect, token_kinds

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def png():
    buffer = io.BytesIO()
    PIL.Image.fromarray(media.image("odd")).save(buffer, "png")
    return buffer.getvalue()


def test_every_way_to_give_a_picture(model, png, tmp_path):
    path = tmp_path / "odd.png"
    path.write_bytes(png)
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    given = [path, str(path), png, uri, PIL.Image.open(path), media.image("odd"), omni.Image(path)]
    wanted = model.encode(media.image("odd")).tokens
    for found in model.encode(given):
        assert found.kind == "image"
        np.testing.assert_allclose(found.tokens, wanted, atol=1e-5)


def test_alone_equals_beside_others_in_any_order(model):
    given = [media.image(name) for name in ("small", "wide", "tiny", "odd")]
    given += [omni.Audio(media.audio(name), 16000) for name in ("tenth", "middle", "short")]
    given += [omni.Video(media.video("seven")[0], fps=2.0), SAMPLES / "speech.flac", SAMPLES / "bunny.mp4"]
    alone = [model.encode(medium) for medium in given]
    for batch_size in (1, 3, 100):
        for found, wanted in zip(model.encode(given, batch_size=batch_size), alone, strict=True):
            assert (found.kind, found.grid_thw, found.seconds_per_grid) == (
                wanted.kind,
                wanted.grid_thw,
                wanted.seconds_per_grid,
            )
            assert relative_error(found.tokens, wanted.tokens) < 1e-5
    for found, wanted in zip(model.encode(given[::-1]), alone[::-1], strict=True):
        assert relative_error(found.tokens, wanted.tokens) < 1e-5


def test_a_film_that_is_heard(model, golden, tmp_path):
    heard = model.encode(omni.Video(SAMPLES / "bunny.mp4", audio=True))
    assert heard.audio is not None and heard.audio.kind == "audio"
    assert model.encode(SAMPLES / "bunny.mp4").audio is None
    heard.save(tmp_path / "bunny.safetensors")
    loaded = omni.Embedding.load(tmp_path / "bunny.safetensors")
    for field in ("kind", "grid_thw", "seconds_per_grid"):
        assert getattr(loaded, field) == getattr(heard, field)
    np.testing.assert_array_equal(loaded.tokens, heard.tokens)
    np.testing.assert_array_equal(loaded.deepstack, heard.deepstack)
    np.testing.assert_array_equal(loaded.audio.tokens, heard.audio.tokens)
    assert [p.name for p in tmp_path.iterdir()] == ["bunny.safetensors"]


@pytest.mark.parametrize("name", ["images", "clips", "video_sound", "together"])
def test_an_embedding_stands_for_its_medium(model, golden, name):
    messages = golden.case(name).with_media()
    replaced = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "video" and "audio" in part:
                part["audio"] = omni.Audio(part["audio"], 16000)
            kind = part["type"]
            wrapped = {
                "image": lambda p: omni.Image(p["image"]),
                "audio": lambda p: omni.Audio(p["audio"], 16000),
                "video": lambda p: omni.Video(p["video"], fps=p["fps"], audio=p.get("audio", False)),
            }.get(kind)
            content.append(part if wrapped is None else {"type": kind, kind: model.encode(wrapped(part))})
        replaced.append({**message, "content": content})
    np.testing.assert_allclose(model.logits(model.prepare(replaced)), model.logits(model.prepare(messages)), atol=2e-4)


def test_pooled_is_the_mean(model):
    embedding = model.encode(media.image("small"))
    np.testing.assert_allclose(embedding.pooled(), embedding.tokens.mean(0), rtol=1e-6)


def test_files_that_are_no_embeddings(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(omni.InputError, match="not a readable"):
        omni.Embedding.load(path)
    path.write_bytes(b"\x00" * 30)
    with pytest.raises(omni.InputError):
        omni.Embedding.load(path)


@pytest.mark.parametrize("given", ["absent.jpg", b"", b"\x00" * 99, np.zeros((3, 3, 3)), np.zeros(9, np.float32), 7])
def test_what_is_no_medium(model, given):
    with pytest.raises(omni.InputError) as error:
        model.encode(given)
    assert error.value.code and len(str(error.value)) <= 500
    assert " at 0x" not in str(error.value) and "/root" not in str(error.value)


def test_a_bad_one_among_many_is_told_apart(model, png):
    media_given = [omni.Image(png), omni.Image(png[:200]), omni.Image(png)]
    results = list(model.media.try_stream(media_given, 2))
    assert [isinstance(result, omni.InputError) for result in results] == [False, True, False]
    with pytest.raises(omni.InputError):
        model.encode(media_given)


def test_inspection_shows_the_resized_picture(model):
    features = model.media.read(omni.Image(media.image("small")))
    np.testing.assert_array_equal(frames_of(features, 16, 2)[0], media.image("small"))
    film = model.media.read(omni.Video(media.video("whole")[0], fps=1.0))
    np.testing.assert_array_equal(np.stack(frames_of(film, 16, 2)), media.video("whole")[0])
    drawn = dict(inspect(model, [media.image("small"), SAMPLES / "speech.flac"]))
    assert list(drawn) == ["medium 1 patches", "speech.flac mel", "tokens"]
    sheet = np.asarray(drawn["medium 1 patches"])
    assert sheet.std() > 20


def test_token_kinds(model):
    inputs = model.prepare(
        [{"role": "user", "content": [{"type": "image", "image": media.image("small")}, {"type": "text", "text": "?"}]}]
    )
    kinds = token_kinds(inputs)
    assert kinds.count("image") == 6 and kinds[0] == "text" and len(kinds) == len(inputs.token_ids)
