"""What must make no difference: neighbours, order, buckets, padding, chunks, caches, streams, processes."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import encoders.buckets
import encoders.runner
import omni
from tests.reliability import media
from tests.reliability.corpus.table import demo, user

ROOT = Path(__file__).parents[2]
GREEDY = {"temperature": 0, "max_new_tokens": 6}
few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model():
    return demo()


def medium(kind, number):
    """One of a few media of a kind: of several sizes and lengths, so that they fall into several buckets."""
    chance = np.random.default_rng(number)
    match kind:
        case "image":
            return chance.integers(0, 256, (96 + 32 * (number % 3), 96 + 32 * (number % 2), 3), np.uint8)
        case "audio":
            seconds = (0.3, 1.0, 2.5, 9.0)[number % 4]
            return omni.Audio(chance.standard_normal(int(16_000 * seconds)).astype(np.float32) * 0.1, 16_000)
        case _:
            return omni.Video(chance.integers(0, 256, (2 + 2 * (number % 2), 96, 96, 3), np.uint8), fps=2)


mixes = st.lists(st.tuples(st.sampled_from(["image", "audio", "video"]), st.integers(0, 3)), min_size=1, max_size=6)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Co"]), max_size=60)


def close(one, other):
    assert one.kind == other.kind and one.grid_thw == other.grid_thw and one.timestamps == other.timestamps
    np.testing.assert_allclose(
        one.tokens, other.tokens, rtol=0, atol=1e-5 * max(1.0, float(np.abs(other.tokens).max()))
    )
    assert (one.deepstack is None) == (other.deepstack is None)
    if one.deepstack is not None:
        limit = 1e-5 * max(1.0, float(np.abs(other.deepstack).max()))
        np.testing.assert_allclose(one.deepstack, other.deepstack, rtol=0, atol=limit)


# --- media ------------------------------------------------------------------------------------------------------------
@few
@given(mixes, st.integers(1, 4), st.randoms())
def test_media_are_the_same_alone_in_a_batch_and_in_any_order(model, mix, batch_size, chance):
    alone = [model.encode(medium(*one)) for one in mix]
    together = model.encode([medium(*one) for one in mix], batch_size=batch_size)
    order = list(range(len(mix)))
    chance.shuffle(order)
    shuffled = model.encode([medium(*mix[place]) for place in order], batch_size=8)
    for place, one in enumerate(alone):
        close(together[place], one)
        close(shuffled[order.index(place)], one)


@few
@given(st.integers(0, 3), st.sampled_from([(1024,), (2304,), (576, 4096), (256, 576, 1024)]))
def test_pictures_are_the_same_in_any_bucket(model, number, lengths):
    whole = model.encode(medium("image", number))
    with pytest.MonkeyPatch.context() as patch:
        calls = encoders.buckets.vision_calls
        patch.setattr(encoders.runner, "vision_calls", lambda *given, **more: calls(*given, lengths, **more))
        close(model.encode(medium("image", number)), whole)


class Poisoned:
    """NumPy, whose `zeros` are all but zero: what is padded with them is poisoned."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def zeros(shape, dtype=float):
        dtype = np.dtype(dtype)
        return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max if dtype == np.uint8 else 7, dtype)


@few
@given(st.sampled_from(["image", "video"]), st.integers(0, 3))
def test_poison_in_the_padding_of_frames_reaches_no_patch(model, kind, number):
    whole = model.encode(medium(kind, number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders.buckets, "np", Poisoned())
        close(model.encode(medium(kind, number)), whole)


@few
@given(st.integers(1, 4))
def test_poison_of_a_neighbour_reaches_no_other_clip(model, count):
    """A NaN beside a clip in one call of the tower: each row is its own."""
    embedder = model.media.audio_tower
    mels = [np.random.default_rng(n).standard_normal((128, 100)).astype(np.float32) for n in range(count)]
    clean = embedder.encode(mels)
    poisoned = embedder.encode([*mels, np.full((128, 100), np.nan, np.float32)])
    for one, other in zip(clean, poisoned, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1.0, float(np.abs(one).max())))
    assert np.isnan(poisoned[-1]).all()


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_embeddings_of_two_processes_are_the_same_bytes(kind, tmp_path):
    """Encoded and saved by two programs, whose hashes of strings differ."""
    digests = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.safetensors"
        code = (
            "import omni, sys; from tests.reliability.test_invariance import medium;"
            f"omni.load('demo', dtype='float32').encode(medium({kind!r}, 1)).save({str(path)!r})"
        )
        environment = {"PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os_environment(environment), capture_output=True
        )
        assert not run.returncode, run.stderr.decode()[-2000:]
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def os_environment(more):
    import os

    return {**os.environ, **more}


# --- text -------------------------------------------------------------------------------------------------------------
@few
@given(st.lists(texts, min_size=4, max_size=4), st.sampled_from([1, 2, 3, 4]))
def test_answers_are_the_same_alone_and_in_a_batch(model, said, batch_size):
    alone = [model.generate(user(text), **GREEDY).token_ids for text in said]
    together = model.generate([user(text) for text in said], batch_size=batch_size, **GREEDY)
    assert [reply.token_ids for reply in together] == alone


@few
@given(texts)
def test_streamed_text_is_the_final_text(model, text):
    reply = model.generate(user(text), **GREEDY)
    assert "".join(model.stream(user(text), **GREEDY)) == reply.text
    assert model.generate(user(text), **GREEDY).token_ids == reply.token_ids


@few
@given(st.lists(st.tuples(texts, st.sampled_from([None, "image", "audio"])), min_size=1, max_size=3))
def test_a_chat_that_remembers_answers_as_one_that_reads_all(model, turns):
    talk, messages = model.chat(**GREEDY), []
    for number, (text, kind) in enumerate(turns):
        parts = [] if kind is None else [{"type": kind, kind: medium(kind, number)}]
        messages.append({"role": "user", "content": [*parts, {"type": "text", "text": text}]})
        reply = talk.send(text, *[part[kind] for part in parts])
        whole = model.generate(messages, **GREEDY)
        assert reply.text == whole.text
        messages.append({"role": "assistant", "content": reply.text})


@few
@given(st.integers(5, 90), st.sampled_from([(16,), (16, 32), (64,)]))
def test_a_prompt_read_in_chunks_is_read_as_one(model, count, lengths):
    ids = np.random.default_rng(count).integers(1, 800, count)
    whole = model.logits(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.engine, "buckets", replace(model.engine.buckets, lengths=lengths))
        chunked = model.logits(ids)
    np.testing.assert_allclose(chunked, whole, rtol=0, atol=1e-4 * float(np.abs(whole).max()))
    np.testing.assert_array_equal(chunked.argmax(-1), whole.argmax(-1))


def poison_padding(gather):
    """`_gather` whose padding, behind what a row reads, holds NaN and odd tokens."""

    def poisoned(prompts, starts, counts, length, batch):
        ids, positions, media, read = gather(prompts, starts, counts, length, batch)
        behind = np.arange(length)[None] >= np.asarray(read)[:, None]
        ids = jnp.where(behind, 850, ids)
        positions = jnp.where(behind[None], 9_000.0, positions)
        if media is not None:
            # Pads name a row of NaN of their own at the end of the table.
            rows = jnp.concatenate([media.tokens, jnp.full((1, media.tokens.shape[1]), jnp.nan)])
            media = media._replace(tokens=rows, sources=jnp.where(behind, len(rows), media.sources))
        return ids, positions, media, read

    return poisoned


@few
@given(st.lists(texts, min_size=2, max_size=2), st.booleans())
def test_poison_in_the_padding_of_prompts_reaches_no_answer(model, said, seen):
    part = [{"type": "image", "image": medium("image", 1)}] if seen else []
    conversations = [[{"role": "user", "content": [*part, {"type": "text", "text": text}]}] for text in said]
    clean = [reply.token_ids for reply in model.generate(conversations, **GREEDY)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.engine, "_gather", poison_padding(model.engine._gather))
        assert [reply.token_ids for reply in model.generate(conversations, **GREEDY)] == clean


@few
@given(st.lists(texts, min_size=3, max_size=3))
def test_vectors_are_the_same_alone_and_in_a_batch(model, said):
    together = model.embed(said, batch_size=3)
    for text, vector in zip(said, together, strict=True):
        np.testing.assert_allclose(model.embed(text), vector, rtol=0, atol=1e-5)


@few
@given(st.integers(1, 40), st.integers(0, 2**31 - 1))
def test_sampling_depends_on_its_own_seed_alone(model, count, seed):
    options = {"temperature": 1.0, "max_new_tokens": 5}
    ids = np.random.default_rng(count).integers(1, 800, count).tolist()
    alone = model.generate(ids, seed=seed, **options).token_ids
    beside = model.generate([ids, [5, 6], [7]], seed=[seed, 1, 2], **options)[0].token_ids
    assert alone == beside


# --- the host's half --------------------------------------------------------------------------------------------------
@few
@given(st.sampled_from(["WAV", "FLAC"]), st.floats(0.05, 3), st.sampled_from([8_000, 16_000, 44_100]))
def test_a_file_is_read_as_its_samples_are(form, seconds, rate):
    samples = media.tone(seconds, rate)
    from processors import load_audio

    read = load_audio(media.audio_bytes(samples, rate, form, "PCM_16"))
    given_ = load_audio((np.rint(samples.astype(np.float64) * 32767) / 32768).astype(np.float32), rate)
    assert len(read) == len(given_)
    np.testing.assert_allclose(read, given_, atol=2e-4)


@few
@given(st.integers(20, 200), st.integers(20, 200), st.sampled_from(["PNG", "BMP", "TIFF", "WEBP"]))
def test_a_picture_is_read_as_its_levels_are(width, height, form):
    from processors import ImageProcessor

    image = media.picture(width, height)
    options = {"lossless": True} if form == "WEBP" else {}
    read = ImageProcessor()(media.image_bytes(image, form, **options))
    np.testing.assert_array_equal(read.pixels, ImageProcessor()(np.asarray(image)).pixels)
