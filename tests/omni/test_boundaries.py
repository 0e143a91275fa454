"""What passes the boundaries of a model: finite numbers, only so much of anything, only until the deadline, and no
error but an InputError."""

import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import omni
from omni.generation.engine import Engine
from omni.media.embedding import read_notes
from processors import Access, Deadline
from tests.golden import media

ASK = [{"role": "user", "content": "Hi"}]
PICTURE = media.image("small")


def about(*pictures):
    return [{"role": "user", "content": [{"type": "image", "image": picture} for picture in pictures]}]


def refusal(call, *arguments, **options) -> omni.InputError:
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    assert len(str(error.value)) <= 500
    return error.value


# --- finite numbers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(tiny_checkpoint):
    """A model with NaN in its last norms, so that nothing it computes is a number."""
    model = omni.load(tiny_checkpoint)
    for part in (model.parts.vision.projector.merger.norm, model.parts.audio.encoder.ln_post, model.parts.text.norm):
        part.weight.set_value(jnp.full_like(part.weight.get_value(), jnp.nan))
    assert isinstance(model.parts, nnx.Module)
    return model


def test_nan_in_weights_is_an_error_and_not_an_answer(damaged):
    assert refusal(damaged.encode, PICTURE).code == "not_finite"
    assert refusal(damaged.encode, omni.Audio(media.audio("short"), media.RATE)).code == "not_finite"
    assert refusal(damaged.generate, ASK).code == "not_finite"
    assert refusal(damaged.logits, [1, 2, 3]).code == "not_finite"
    assert refusal(damaged.embed, "text").code == "not_finite"
    assert refusal(list, damaged.stream(ASK)).code == "not_finite"
    for temperature in (0, 1e-38, 0.7):
        chat = damaged.chat(temperature=temperature)
        assert refusal(chat.send, "Hi").code == "not_finite"
        assert chat.messages == []


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 1e-30, 1e-6])
def test_the_coldest_temperatures_are_greedy(model, temperature):
    greedy = model.generate(ASK, max_new_tokens=6, temperature=0)
    assert model.generate(ASK, max_new_tokens=6, temperature=temperature, seed=1).token_ids == greedy.token_ids


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_are_finite(model, value):
    whole = model.encode(PICTURE)
    tokens, levels = whole.tokens.copy(), whole.deepstack.copy()
    tokens[1, 2] = levels[0, 1, 2] = value
    for arrays in ((tokens, whole.deepstack), (whole.tokens, levels)):
        assert refusal(omni.Embedding, "image", *arrays, whole.grid_thw).code == "bad_embedding"


# --- so much and no more ----------------------------------------------------------------------------------------------


def test_what_is_too_long_is_refused_before_it_is_encoded(model, monkeypatch):
    encoded = []
    tower = type(model.media.vision)
    encode = tower.encode
    monkeypatch.setattr(tower, "encode", lambda self, *given: encoded.append(1) or encode(self, *given))
    long = about(*[PICTURE] * 3000)
    text = [{"role": "user", "content": "many words " * 40_000}]
    monkeypatch.setattr(model.config.text.__class__, "max_position_embeddings", 100, raising=False)
    object.__setattr__(model.config.text, "max_position_embeddings", 100)
    try:
        # No clock decides a test: the template may take its time on a slow machine.
        patient = omni.Limits(template_seconds=60)
        assert refusal(model.prepare, long, limits=patient).code == "too_many_tokens"
        assert refusal(model.generate, [ASK, text], limits=patient).code == "too_many_tokens"
    finally:
        object.__setattr__(model.config.text, "max_position_embeddings", 65536)
    # The first eight are a batch of 48 tokens; the second batch does not fit.
    assert len(encoded) <= 2


def test_the_tokens_of_a_medium_are_limited(model):
    count = len(model.encode(PICTURE).tokens)
    assert len(model.encode(PICTURE, limits=omni.Limits(media_tokens=count)).tokens) == count
    assert refusal(model.encode, PICTURE, limits=omni.Limits(media_tokens=count - 1)).code == "image_too_large"
    assert refusal(model.prepare, about(PICTURE), limits=omni.Limits(media_tokens=1)).code == "image_too_large"


def test_tokens_are_counted_as_they_are_encoded(model):
    film, fps = media.video("seven")
    track = omni.Audio(media.soundtrack("seven"), media.RATE)
    for medium in (PICTURE, track, omni.Video(film, fps), omni.Video(film, fps, audio=track)):
        features = model.media.read(medium)
        embedding = model.media.encode([features])[0]
        assert model.media.tokens(features) == model.media.tokens(embedding) >= len(embedding.tokens)


# --- until then and no longer -----------------------------------------------------------------------------------------


def test_deadlines(model):
    for call in (model.encode, model.embed, lambda medium, **rest: model.prepare(about(medium), **rest)):
        assert refusal(call, PICTURE, deadline=1e-6).code == "deadline"
    assert refusal(model.generate, ASK, deadline=1e-6).code == "deadline"
    assert refusal(lambda: list(model.stream(ASK, deadline=1e-6))).code == "deadline"
    assert model.encode(PICTURE, deadline=60).kind == "image"  # what failed left the model as it was


def test_generation_ends_at_its_deadline(model, monkeypatch):
    model.generate(ASK, max_new_tokens=4, temperature=0)
    step, steps = Engine.step, []

    def counted(self, rows, *rest):
        steps.append(len(rows))
        return step(self, rows, *rest)

    monkeypatch.setattr(Engine, "step", counted)
    assert refusal(model.generate, [ASK] * 64, max_new_tokens=512, temperature=1.0, deadline=0.5).code == "deadline"
    assert sum(steps) < 64 * 511


def test_loading_ends_at_its_deadline(tiny_checkpoint):
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(tiny_checkpoint, deadline=1e-6)
    assert error.value.code == "deadline"
    with pytest.raises(omni.CheckpointError) as error:
        omni.load(tiny_checkpoint, deadline=-1)
    assert error.value.code == "bad_deadline"
    assert omni.load(tiny_checkpoint, deadline=600).parts is not None


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "soon", True and [1]])
def test_a_deadline_is_a_number_of_seconds(deadline):
    with pytest.raises(Exception) as error:
        Deadline(deadline)
    assert isinstance(error.value, omni.InputError) or type(error.value).__name__ == "TypeCheckError"


def test_a_cancelled_deadline_ends_its_children_and_no_parent():
    parent = Deadline()
    child, other = parent.child(), parent.child()
    child.cancel()
    parent.check(), other.check()
    assert refusal(child.check).code == "cancelled"
    parent.cancel()
    assert refusal(other.check).code == "cancelled"


def test_a_stream_that_is_left_leaves_no_reader_and_no_mark(model):
    stream = model.media.stream([PICTURE] * 40, 4)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 10
    while any("ThreadPoolExecutor" in thread.name for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any("ThreadPoolExecutor" in thread.name for thread in threading.enumerate())
    assert model.encode(PICTURE).kind == "image"


# --- no other error ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [KeyError("x"), MemoryError(), RecursionError(), OSError(5, "x"), AssertionError()])
def test_whatever_a_decoder_raises_is_the_error_of_one_item(model, monkeypatch, raised):
    decode = omni.media.encoder.load_audio

    def fail(source, *rest, **more):
        if isinstance(source, str):
            raise raised
        return decode(source, *rest, **more)

    monkeypatch.setattr("omni.media.encoder.load_audio", fail)
    good = omni.Audio(media.audio("short"), media.RATE)
    first, bad, last = model.media.try_stream([good, omni.Audio("bad"), good], 2)
    assert isinstance(bad, omni.InputError) and bad.code == "media_failed" and "'bad'" in str(bad)
    np.testing.assert_array_equal(first.tokens, last.tokens)


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_one_embedding_is_one_file(model, tmp_path):
    embedding = model.encode(PICTURE)
    notes = {f"note {i}": "é\udcff".encode("utf-8", "backslashreplace").decode() for i in range(20)}
    for i in range(2):
        embedding.save(tmp_path / str(i), notes=notes)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    embedding.save(tmp_path / "2", notes=dict(reversed(notes.items())))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "2").read_bytes()
    assert notes.items() <= (read_notes(tmp_path / "0") or {}).items()
    assert read_notes(tmp_path / "absent") is None
    # As other programs read it.
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "0")["tokens"], embedding.tokens)


def test_access_of_a_call_is_its_own(model):
    limits = omni.Limits(media_tokens=5)
    access = model.access(limits=limits, deadline=5.0)
    assert isinstance(access, Access) and access.limits is limits and access.sources == model.media.access.sources
    assert access.deadline.seconds == 5.0 and model.access().deadline.seconds is None
