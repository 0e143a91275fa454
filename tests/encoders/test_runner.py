"""Encoders stand alone, and run over any mixture of media in few programs, each medium as if it were by itself."""

import itertools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders import (
    AudioConfig,
    AudioEmbedder,
    AudioEncoder,
    AudioProjector,
    AudioTower,
    VisionConfig,
    VisionEmbedder,
    VisionEncoder,
    VisionProjector,
    VisionTokens,
    VisionTower,
)
from encoders.buckets import audio_calls, vision_calls

# Patches of four values of one frame, of eight of two; spectrograms of two bands.
SEEN = VisionConfig(in_channels=1, patch_size=2)
HEARD = AudioConfig(num_mel_bins=2)


class Looker(VisionTower):
    """In a tower's place, compiled in no time: a token is the mean of its block; counts its programs."""

    def __init__(self, levels=2):
        self.config, self.levels, self.number = SEEN, levels, next(numbers)
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, pixels, coordinates, table_indices, table_weights, lengths):
        programs.append(pixels.shape)
        blocks = pixels.astype(jnp.float32).reshape(pixels.shape[0], -1, 4 * pixels.shape[2])
        tokens = blocks.mean(-1, keepdims=True) * self.scale[...]
        levels = jnp.stack([-tokens, 2 * tokens]) if self.levels else None
        return VisionTokens(tokens, levels)


class Listener(AudioTower):
    """The same for sounds: each of a chunk's 13 tokens is the mean of its frames."""

    def __init__(self):
        self.config, self.number = HEARD, next(numbers)

    def __call__(self, mel, conv_frames, lengths):
        programs.append(mel.shape)
        return jnp.repeat(mel.mean(axis=(2, 3)), 13, axis=1)[..., None]


programs: list[tuple] = []
numbers = itertools.count()  # towers that are equal in all but weights would share their programs


@pytest.fixture(autouse=True)
def forgotten():
    programs.clear()


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    """One frame to a call, as on the CPU, or several, as elsewhere."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


def mixture(count, seed=0, most=112):
    """Pictures and clips of random sizes."""
    random = np.random.default_rng(seed)
    sides = 2 * random.integers(1, most // 2 + 1, (count, 2))
    times = random.choice([1, 1, 1, 1, 2, 5], count)
    grid = np.column_stack([times, sides]).astype(np.int32)
    return random.integers(0, 256, (int(grid.prod(axis=1).sum()), 4), np.uint8), grid


# --- alone ------------------------------------------------------------------------------------------------------------


def test_encoders_know_nothing_of_the_other_packages():
    code = "import sys, encoders; print(sorted({'omni', 'processors', 'torch', 'transformers'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.fixture
def build():
    """Draws a module's first weights, from a random stream that is cheap to compile."""

    def built(module):
        with jax.default_prng_impl("unsafe_rbg"):
            graph, _ = nnx.split(nnx.eval_shape(module))
            return nnx.merge(graph, jax.jit(lambda: nnx.split(module())[1])())

    return built


def test_a_fresh_vision_encoder_runs_from_arrays(small_vision, build, apply):
    encoder = build(lambda: VisionEncoder(small_vision, rngs=nnx.Rngs(0)))
    weights = encoder.blocks.attn.qkv.weight[...]
    assert weights.shape == (3, 192, 64) and not np.array_equal(weights[0], weights[1])
    pixels = np.random.default_rng(0).integers(0, 256, (24, 768), np.uint8)
    (call,) = vision_calls(pixels, np.asarray([(1, 4, 6)], np.int32), small_vision, 1)
    hidden = apply(encoder, *call.rows)
    assert hidden.last.shape == (1, 256, 64) and hidden.deepstack.shape == (2, 1, 256, 64)
    projector = build(lambda: VisionProjector(small_vision, rngs=nnx.Rngs(0)))
    tokens = apply(projector, hidden)
    assert tokens.tokens.shape == (1, 64, 48) and tokens.deepstack.shape == (2, 1, 64, 48)
    assert np.isfinite(tokens.tokens).all() and np.asarray(tokens.tokens[:, :6]).std(axis=1).min() > 0


def test_a_fresh_audio_encoder_runs_from_arrays(small_audio, build, apply):
    encoder = build(lambda: AudioEncoder(small_audio, rngs=nnx.Rngs(0)))
    weights = encoder.layers.fc1.weight[...]
    assert weights.shape == (2, 48, 32) and not np.array_equal(weights[0], weights[1])
    mel = np.random.default_rng(0).standard_normal((20, 40)).astype(np.float32)
    (call,) = audio_calls([mel], small_audio)
    hidden = apply(encoder, *call.rows)
    projector = build(lambda: AudioProjector(small_audio, rngs=nnx.Rngs(0)))
    tokens = apply(projector, hidden)
    assert hidden.shape == (1, 6, 32) and tokens.shape == (1, 6, 24)
    assert np.isfinite(tokens).all() and np.asarray(tokens[:, :5]).std(axis=1).min() > 0


# --- many media -------------------------------------------------------------------------------------------------------


def test_pictures_and_clips_come_back_in_order_and_whole(backend):
    pixels, grid = mixture(40, most=40)
    found = VisionEmbedder(Looker()).encode(pixels, grid)
    assert len(found) == len(grid)
    start = 0
    for (t, h, w), (tokens, deepstack) in zip(grid.tolist(), found, strict=True):
        own = pixels[start : start + t * h * w].astype(np.float32)
        start += t * h * w
        wanted = own.reshape(-1, 16).mean(axis=1)[:, None]
        assert isinstance(tokens, np.ndarray) and tokens.dtype == np.float32
        np.testing.assert_allclose(tokens, wanted, rtol=1e-6)
        np.testing.assert_allclose(deepstack, np.stack([-wanted, 2 * wanted]), rtol=1e-6)
    assert (len({shape[0] for shape in programs}) > 1) == (backend == "gpu")


def test_clips_of_sound_come_back_in_order_and_whole():
    random = np.random.default_rng(0)
    mels = [random.standard_normal((2, n)).astype(np.float32) for n in random.integers(1, 3000, 30)]
    for mel, tokens in zip(mels, AudioEmbedder(Listener()).encode(mels), strict=True):
        frames = mel.shape[1]
        padded = np.pad(mel, ((0, 0), (0, -frames % 100))).reshape(2, -1, 100)
        rest = -(-(frames % 100) // 8)
        wanted = np.repeat(padded.mean(axis=(0, 2)), 13)[: 13 * (frames // 100) + rest]
        assert tokens.dtype == np.float32 and tokens.shape == (len(wanted), 1)
        np.testing.assert_allclose(tokens[:, 0], wanted, atol=1e-6)


def test_sixty_pictures_of_any_size_need_twelve_programs():
    embedder = VisionEmbedder(Looker())
    for seed in range(4):
        pixels, grid = mixture(15, seed, most=160)
        embedder.encode(pixels, grid)
    assert 6 < embedder.programs <= 12
    assert embedder.programs == len(programs)


def test_sixty_clips_of_any_length_need_twelve_programs():
    embedder, random = AudioEmbedder(Listener()), np.random.default_rng(0)
    for count in (1, 2, 7, 20, 30):
        embedder.encode([np.zeros((2, n), np.float32) for n in random.integers(1, 4000, count)])
    assert 6 < embedder.programs <= 12
    assert embedder.programs == len(programs)


def test_programs_are_counted_once():
    embedder = VisionEmbedder(Looker())
    assert embedder.programs == 0
    pixels, grid = np.zeros((24, 4), np.uint8), np.asarray([(1, 4, 6)], np.int32)
    for _ in range(3):
        embedder.encode(pixels, grid)
    embedder.encode(pixels[:4], np.asarray([(1, 2, 2)], np.int32))
    assert embedder.programs == len(programs) == 1
    embedder.encode(np.zeros((24, 8), np.uint8), grid)  # a video's patches go through the same
    assert embedder.programs == len(programs) == 1
    embedder.encode(np.zeros((24, 8), np.float32), grid)
    assert embedder.programs == len(programs) == 2


def test_what_is_compiled_ahead_is_what_a_call_needs(backend):
    """JAX traces a program once for its arguments: a call that needed another would trace again."""
    embedder = VisionEmbedder(Looker())
    embedder.compile(1, 256)
    assert (1, 256) in embedder.shapes() and programs == [(1, 256, 8)]
    embedder.encode(np.zeros((24, 4), np.uint8), np.asarray([(1, 4, 6)], np.int32))
    assert programs == [(1, 256, 8)]
    listener = AudioEmbedder(Listener())
    listener.compile(1, 2)
    assert (1, 2) in listener.shapes() and len(programs) == 2
    listener.encode([np.zeros((2, 150), np.float32)])
    assert len(programs) == 2


def test_calls_are_made_one_ahead(monkeypatch):
    """Rows of a long clip are never all in memory: the third is made when the first has been read."""
    made, events = [], []

    def spy(*arguments, **options):
        for call in vision_calls(*arguments, **options):
            made.append(call)
            events.append("made")
            yield call

    monkeypatch.setattr("encoders.runner.vision_calls", spy)
    read = np.asarray

    def reading(a, *arguments, **options):
        if isinstance(a, jax.Array) and a.ndim == 3:
            events.append("read")
        return read(a, *arguments, **options)

    monkeypatch.setattr("encoders.runner.np.asarray", reading)
    VisionEmbedder(Looker(levels=0)).encode(np.zeros((96, 4), np.uint8), np.asarray([(4, 4, 6)], np.int32))
    assert events == ["made", "made", "read", "made", "read", "made", "read", "read"]


def test_nothing_gives_nothing():
    assert VisionEmbedder(Looker()).encode(np.zeros((0, 4), np.uint8), np.zeros((0, 3), np.int32)) == []
    assert AudioEmbedder(Listener()).encode([]) == []


def test_without_deepstack_there_is_none():
    (found,) = VisionEmbedder(Looker(levels=0)).encode(np.zeros((24, 4), np.uint8), np.asarray([(1, 4, 6)], np.int32))
    assert found.deepstack is None and found.tokens.shape == (6, 1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="grid_thw counts 24 patches, pixels has 23"):
        VisionEmbedder(Looker()).encode(np.zeros((23, 4), np.uint8), np.asarray([(1, 4, 6)], np.int32))
    with pytest.raises(ValueError, match=r"must be \[2, frames\], got \[3, 10\]"):
        AudioEmbedder(Listener()).encode([np.zeros((3, 10), np.float32)])


def test_each_call_uses_the_weights_of_its_time():
    tower = Looker()
    embedder, pixels, grid = VisionEmbedder(tower), np.full((4, 4), 7, np.uint8), np.asarray([(1, 2, 2)], np.int32)
    assert embedder.encode(pixels, grid)[0].tokens == 7
    tower.scale.set_value(jnp.float32(3))
    assert embedder.encode(pixels, grid)[0].tokens == 21
    tower.scale = nnx.Param(jnp.float32(2))
    assert embedder.encode(pixels, grid)[0].tokens == 14
    assert len(programs) == 1  # for other weights, the same program


def test_real_towers_give_each_medium_its_own_whatever_the_neighbours(draw, small_vision, small_audio):
    vision = VisionEmbedder(draw(lambda: VisionTower(small_vision, rngs=nnx.Rngs(0))))
    random = np.random.default_rng(0)
    sizes = [(4, 6), (16, 16), (2, 2), (10, 14)]
    stills = [random.integers(0, 256, (h * w, 768), np.uint8) for h, w in sizes]
    grids = np.asarray([(1, h, w) for h, w in sizes], np.int32)
    for order in ([0, 1, 2, 3], [3, 1, 1, 0]):
        found = vision.encode(np.concatenate([stills[i] for i in order]), grids[order])
        for i, (tokens, deepstack) in zip(order, found, strict=True):
            (alone,) = vision.encode(stills[i], grids[i : i + 1])
            np.testing.assert_array_equal(tokens, alone.tokens)
            np.testing.assert_array_equal(deepstack, alone.deepstack)
    assert vision.programs == 1
