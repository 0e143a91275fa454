"""Whatever stands for a medium gives the same embedding, alone and beside others."""

import base64
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

import omni
from tests.golden import media
from tests.golden.load import relative_error

SAMPLES = Path(__file__).parents[3] / "samples"


def as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def as_wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, media.RATE, "PCM_16", format="WAV")
    return buffer.getvalue()


def every_way(data: bytes, path: Path, mime: str) -> list[object]:
    path.write_bytes(data)
    return [path, str(path), data, bytearray(data), f"data:{mime};base64," + base64.b64encode(data).decode()]


@pytest.fixture(scope="module")
def several():
    """Media of every kind, and what each is alone."""
    pictures = [media.image(name) for name in ("small", "wide", "tiny", "odd")]
    clips = [omni.Audio(media.audio(name), media.RATE) for name in ("tenth", "middle", "short")]
    film, fps = media.video("seven")
    films = [omni.Video(film, fps), omni.Video(film, fps, audio=omni.Audio(media.soundtrack("seven"), media.RATE))]
    return [pictures[0], clips[0], films[0], pictures[1], films[1], clips[1], pictures[2], clips[2], pictures[3]]


@pytest.fixture(scope="module")
def alone(model, several):
    return [model.encode(medium) for medium in several]


def assert_same(found: omni.Embedding, wanted: omni.Embedding, tolerance: float = 1e-5) -> None:
    assert (found.kind, found.grid_thw, found.seconds_per_grid) == (
        wanted.kind,
        wanted.grid_thw,
        wanted.seconds_per_grid,
    )
    assert relative_error(found.tokens, wanted.tokens) <= tolerance
    assert (found.deepstack is None) == (wanted.deepstack is None)
    if found.deepstack is not None and wanted.deepstack is not None:
        assert relative_error(found.deepstack, wanted.deepstack) <= tolerance
    assert (found.audio is None) == (wanted.audio is None)
    if found.audio is not None and wanted.audio is not None:
        assert_same(found.audio, wanted.audio, tolerance)


def test_every_way_to_give_a_picture(model, tmp_path):
    pixels = media.image("odd")
    given = every_way(as_png(pixels), tmp_path / "odd.png", "image/png")
    given += [PIL.Image.fromarray(pixels), pixels]
    given += [omni.Image(medium) for medium in given]
    wanted = model.encode(pixels)
    assert wanted.kind == "image" and wanted.tokens.dtype == np.float32
    for medium, found in zip(given, model.encode(given), strict=True):
        assert_same(found, wanted)
        assert_same(model.encode(medium), wanted)


def test_every_way_to_give_a_recording(model, tmp_path):
    samples = media.audio("short")
    given = every_way(as_wav(samples), tmp_path / "short.wav", "audio/wav")
    given += [omni.Audio(medium) for medium in given] + [omni.Audio(samples, media.RATE)]
    given += [
        omni.Audio(np.stack([samples, samples]), media.RATE),
        omni.Audio((samples * 32768).astype(np.int16), media.RATE),
    ]
    wanted = model.encode(given[0])
    assert wanted.kind == "audio" and wanted.grid_thw is wanted.deepstack is None
    for found in model.encode(given):
        assert_same(found, wanted)


def test_every_way_to_give_a_clip(model):
    path = SAMPLES / "bunny.mp4"
    wanted = model.encode(path)
    assert wanted.kind == "video" and wanted.seconds_per_grid and wanted.audio is None
    for found in model.encode([str(path), path.read_bytes(), omni.Video(path), omni.Video(str(path))]):
        assert_same(found, wanted)
    film, fps = media.video("seven")
    assert_same(model.encode(omni.Video(list(film), fps)), model.encode(omni.Video(film, fps)))


def test_a_picture_from_a_server(model, tmp_path, monkeypatch):
    (tmp_path / "odd picture.png").write_bytes(as_png(media.image("odd")))
    asked = []
    monkeypatch.setattr(
        SimpleHTTPRequestHandler, "log_message", lambda self, *_: asked.append(self.requestline.rsplit(" ", 1)[0])
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        here = omni.Sources(private=True)
        found = model.encode(f"{address}/odd%20picture.png?size=1", sources=here)
        assert_same(found, model.encode(media.image("odd")))
        assert asked == ["GET /odd%20picture.png?size=1"]  # not once to be told apart and once to be read
        with pytest.raises(omni.InputError, match="HTTP status 404"):
            model.encode(f"{address}/absent.png", sources=here)
        with pytest.raises(omni.InputError) as refusal:
            model.encode(f"{address}/odd%20picture.png")
        assert refusal.value.code == "source_address"
        server.shutdown()


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_results_come_in_order_and_do_not_feel_their_neighbours(model, several, alone, batch_size):
    for found, wanted in zip(model.encode(several, batch_size=batch_size), alone, strict=True):
        assert_same(found, wanted)
    for found, wanted in zip(model.encode(several[::-1], batch_size=batch_size), alone[::-1], strict=True):
        assert_same(found, wanted)


def test_the_same_medium_gives_the_same_bits(model, several, alone):
    for medium, wanted in zip(several, alone, strict=True):
        assert_same(model.encode(medium), wanted, 0.0)


def test_lists_give_lists(model, several):
    assert model.encode([]) == [] and model.encode(()) == []
    assert isinstance(model.encode([several[0]]), list) and isinstance(model.encode((several[0],)), list)


def test_an_embedding_passes_through(model, alone):
    assert model.encode(alone[0]) is alone[0]
    assert model.encode(alone) == alone


def test_a_picture_s_own_budget(model):
    large, small = (model.encode(omni.Image(media.image("large"), max_pixels=n)) for n in (640 * 480, 64 * 64))
    assert large.grid_thw == (1, 30, 40) and np.prod(small.grid_thw) <= 16


def test_a_film_that_is_heard(model):
    path = SAMPLES / "bunny.mp4"
    heard, seen = model.encode(omni.Video(path, audio=True)), model.encode(path)
    assert_same(omni.Embedding("video", heard.tokens, heard.deepstack, heard.grid_thw, heard.seconds_per_grid), seen)
    assert heard.audio is not None and heard.audio.kind == "audio" and len(heard.audio.tokens)


@pytest.mark.parametrize("name", ["images", "clips", "video_sound", "together_sound"])
def test_an_embedding_stands_for_its_medium(model, golden, name):
    messages = golden.case(name).with_media()
    replaced = []
    for message in messages:
        content = []
        for part in message["content"]:
            if part["type"] == "video" and "audio" in part:
                part["audio"] = omni.Audio(part["audio"], media.RATE)
            wrap = {
                "image": lambda p: omni.Image(p["image"]),
                "audio": lambda p: omni.Audio(p["audio"], media.RATE),
                "video": lambda p: omni.Video(p["video"], p["fps"], audio=p.get("audio", False)),
            }.get(part["type"])
            encoded = part if wrap is None else {"type": part["type"], part["type"]: model.encode(wrap(part))}
            content.append(encoded)
        replaced.append({**message, "content": content})
    raw, ready = model.prepare(messages), model.prepare(replaced)
    np.testing.assert_array_equal(ready.token_ids, raw.token_ids)
    np.testing.assert_array_equal(ready.position_ids, raw.position_ids)
    assert relative_error(model.logits(ready), model.logits(raw)) < 1e-5


def test_openai_s_forms(model):
    png, wav = as_png(media.image("small")), as_wav(media.audio("short"))
    theirs = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(png).decode()}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav).decode(), "format": "wav"}},
    ]
    ours = [{"type": "image", "image": png}, {"type": "audio", "audio": wav}]
    found, wanted = (model.prepare([{"role": "user", "content": content}]) for content in (theirs, ours))
    np.testing.assert_array_equal(found.token_ids, wanted.token_ids)
    for mine, other in zip(found.media, wanted.media, strict=True):
        assert_same(mine, other)


def test_a_bad_one_among_many_is_told_apart(model):
    png = as_png(media.image("odd"))
    given = [omni.Image(png), omni.Image(png[:200]), omni.Image(b"?"), omni.Image(png)]
    for batch_size in (1, 2, 9):
        results = list(model.media.try_stream(given, batch_size))
        assert [isinstance(result, omni.InputError) for result in results] == [False, True, True, False]
        assert_same(results[3], results[0])
    with pytest.raises(omni.InputError):
        model.encode(given)


def test_reading_stays_two_batches_ahead_at_most(model):
    """A folder of a million pictures is read as it is encoded."""
    begun = []

    def endless():
        while True:
            begun.append(omni.Image(media.image("small")))
            yield begun[-1]

    stream = model.media.stream(endless(), 3)
    for encoded in range(1, 8):
        next(stream)
        assert len(begun) <= encoded + 2 * 3
    stream.close()


def test_parts_that_were_not_loaded(tiny_checkpoint, several):
    for parts, medium in (("vision", several[1]), ("audio", several[0]), ("vision", several[4]), ("text", several[0])):
        with pytest.raises(omni.InputError, match=r"without its (vision|audio) part") as error:
            omni.load(tiny_checkpoint, parts=parts).encode(medium)
        assert error.value.code == "part_not_loaded"


def test_a_decoder_alone_takes_embeddings(model, tiny_checkpoint, alone):
    decoder = omni.load(tiny_checkpoint, parts="text")
    content = [{"type": e.kind, e.kind: e} for e in (alone[0], alone[1], alone[4])]
    messages = [{"role": "user", "content": content}]
    assert decoder.generate(messages, max_new_tokens=4) == model.generate(messages, max_new_tokens=4)
