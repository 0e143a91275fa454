"""Towers that the encoders' tests share: small ones, with weights drawn here, and those of the golden checkpoint."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import omni
from encoders import AudioConfig, VisionConfig


@pytest.fixture(scope="session")
def small_vision():
    return VisionConfig(
        depth=3,
        hidden_size=64,
        num_heads=4,
        intermediate_size=96,
        out_hidden_size=48,
        num_position_embeddings=64,
        deepstack_visual_indexes=(0, 2),
    )


@pytest.fixture(scope="session")
def small_audio():
    """Chunks of 24 frames, which give 3 tokens, and windows of 4 chunks."""
    return AudioConfig(
        num_mel_bins=20,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=48,
        d_model=32,
        n_window=12,
        n_window_infer=96,
        output_dim=24,
        downsample_hidden_size=8,
    )


@pytest.fixture(scope="session")
def draw():
    """Builds a module with weights so large that an ignored bias, a wrong norm or a lost rotation shows."""

    def drawn(build, seed=0):
        graph, weights = nnx.split(nnx.eval_shape(build))
        random = np.random.default_rng(seed)

        def leaf(path, wanted):
            names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
            owner, name = names[-2:] if len(names) > 1 else ("", *names)
            mean, deviation = 0.0, 1.25 / math.sqrt(wanted.shape[-1])
            if name == "bias":
                deviation = 0.2
            elif "norm" in owner or owner == "ln_post":
                mean, deviation = 1.0, 0.25
            elif owner == "pos_embed":
                deviation = 0.5
            elif len(wanted.shape) > 3:  # Neighbouring pixels agree, and independent weights nearly cancel.
                deviation = (4 if owner == "proj" else 1.5) / math.sqrt(math.prod(wanted.shape[1:]))
            return jnp.asarray(mean + deviation * random.standard_normal(wanted.shape), wanted.dtype)

        return nnx.merge(graph, jax.tree_util.tree_map_with_path(leaf, weights))

    return drawn


@pytest.fixture(scope="session")
def compiled():
    """Makes a function that calls a module, compiled."""

    def make():
        run = jax.jit(lambda graph, weights, *values: nnx.merge(graph, weights)(*values), static_argnums=0)
        return lambda module, *values: run(*nnx.split(module), *values)

    return make


@pytest.fixture(scope="session")
def apply(compiled):
    """Calls a module, compiled; programs are shared among the tests."""
    return compiled()


@pytest.fixture(scope="session")
def golden_towers(tiny_checkpoint):
    """`golden_towers(dtype)` has the towers that the golden data belong to, as `.vision` and `.audio`."""

    @functools.cache
    def load(dtype):
        return omni.load(tiny_checkpoint, parts=("vision", "audio"), dtype=dtype).parts

    return load


@pytest.fixture(scope="session")
def cosines():
    """The cosine of each token with its counterpart."""

    def cosine(ours, theirs):
        ours, theirs = (np.asarray(a, np.float64) for a in (ours, theirs))
        return (ours * theirs).sum(-1) / (np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1))

    return cosine
