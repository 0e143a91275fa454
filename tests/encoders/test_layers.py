"""Attention, norms, products and rotations against plain formulas."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from encoders.nn.layers import LayerNorm, Linear, activation
from encoders.nn.rotary import axial_rotation, rotate
from encoders.ops.attention import attend
from encoders.ops.attention.chunks import attend_in_chunks
from encoders.projectors import PatchMerger
from encoders.vision import VisionMLP
from tests.golden.load import relative_error


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def exact_gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def tanh_gelu(x):
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def queries_keys_values(rows, length, heads, width, dtype=jnp.float32):
    return [2 * normal(rows, length, heads, width, seed=i).astype(dtype) for i in range(3)]


# --- attention --------------------------------------------------------------------------------------------------------


def plain(q, k, v, lengths):
    out = jax.nn.dot_product_attention(q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths)
    return jnp.where((jnp.arange(q.shape[1]) < lengths[:, None])[..., None, None], out, 0)


@pytest.mark.parametrize(
    "rows, length, heads, width, lengths",
    [
        (3, 13, 2, 64, [13, 1, 7]),
        (2, 104, 3, 20, [104, 13]),
        (1, 1536, 2, 72, [1100]),  # four chunks of queries, the last of pads alone
        (2, 1031, 1, 8, [1031, 3]),  # a prime
    ],
)
def test_chunks_equal_plain_attention(rows, length, heads, width, lengths):
    q, k, v = queries_keys_values(rows, length, heads, width)
    lengths = jnp.asarray(lengths, jnp.int32)
    wanted = jax.jit(plain)(q, k, v, lengths)
    assert relative_error(jax.jit(attend)(q, k, v, lengths), wanted) < 2e-6
    chunks = np.asarray(jax.jit(attend_in_chunks)(q, k, v, lengths))
    for row, n in enumerate(lengths.tolist()):
        assert relative_error(chunks[row, :n], wanted[row, :n]) < 2e-6


def test_attention_in_bfloat16():
    q, k, v = queries_keys_values(2, 104, 3, 20, jnp.bfloat16)
    lengths = jnp.asarray([104, 50], jnp.int32)
    found = jax.jit(attend)(q, k, v, lengths)
    assert found.dtype == jnp.bfloat16
    wanted = jax.jit(plain)(*(a.astype(jnp.float32) for a in (q, k, v)), lengths)
    assert relative_error(found.astype(jnp.float32), wanted) < 5e-3


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_garbage_in_pads_changes_nothing_and_pads_are_zeros(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    q, k, v = queries_keys_values(2, 24, 2, 8)
    lengths = jnp.asarray([24, 9], jnp.int32)
    run = jax.jit(lambda *arguments: attend(*arguments))
    clean = run(q, k, v, lengths)
    for garbage in (jnp.nan, jnp.inf, -1e30):
        found = run(*(a.at[1, 9:].set(garbage) for a in (q, k, v)), lengths)
        np.testing.assert_array_equal(found, clean)
    assert not np.asarray(clean[1, 9:]).any()


def test_great_scores_do_not_overflow():
    q, k, v = (100 * a for a in queries_keys_values(1, 24, 1, 8))
    found = jax.jit(attend)(q, k, v, jnp.asarray([20], jnp.int32))
    best = (q[0, :20, 0] @ k[0, :20, 0].T).argmax(axis=1)
    np.testing.assert_allclose(found[0, :20, 0], v[0, best, 0], rtol=1e-5)


def test_chunks_have_the_gradients_of_plain_attention():
    """Through chunks that are computed and one that is skipped."""
    q, k, v = queries_keys_values(1, 768, 1, 8)
    target, lengths = normal(1, 768, 1, 8, seed=9), jnp.asarray([300], jnp.int32)

    def gradients(form):
        return jax.jit(jax.grad(lambda *qkv: (form(*qkv, lengths) * target).sum(), argnums=(0, 1, 2)))(q, k, v)

    for ours, theirs in zip(gradients(attend), gradients(plain), strict=True):
        assert relative_error(ours, theirs) < 1e-5
        assert not np.asarray(ours[:, 300:]).any()


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_activations():
    x = np.linspace(-6, 6, 101)
    for name, wanted in (("gelu", exact_gelu(x)), ("gelu_pytorch_tanh", tanh_gelu(x)), ("silu", x / (1 + np.exp(-x)))):
        np.testing.assert_allclose(activation(name)(jnp.asarray(x, jnp.float32)), wanted, atol=1e-6)
    assert np.abs(exact_gelu(x) - tanh_gelu(x)).max() > 1e-4  # so the two are told apart
    with pytest.raises(ValueError, match="'relu' is not supported; supported are gelu"):
        activation("relu")


@pytest.mark.parametrize("name, gelu", [("gelu", exact_gelu), ("gelu_pytorch_tanh", tanh_gelu)])
def test_a_blocks_mlp_has_the_configs_gelu(draw, apply, small_vision, name, gelu):
    config = replace(small_vision, hidden_act=name)
    mlp = draw(lambda: VisionMLP(config, rngs=nnx.Rngs(0), dtype=jnp.float32))
    x = normal(1, 9, 64)
    w1, b1, w2, b2 = (
        np.asarray(p[...], np.float64) for layer in (mlp.linear_fc1, mlp.linear_fc2) for p in (layer.weight, layer.bias)
    )
    wanted = gelu(np.asarray(x, np.float64) @ w1.T + b1) @ w2.T + b2
    assert relative_error(apply(mlp, x), wanted) < 2e-6


@pytest.mark.parametrize("width", [64, 256])
def test_a_merger_normalises_patches_or_blocks_and_has_the_exact_gelu(draw, apply, small_vision, width):
    merger = draw(lambda: PatchMerger(small_vision, width, rngs=nnx.Rngs(0), dtype=jnp.float32))
    x = normal(2, 12, 64)
    pieces = np.asarray(x, np.float64).reshape(2, -1, width)
    normed = (pieces - pieces.mean(-1, keepdims=True)) / np.sqrt(pieces.var(-1, keepdims=True) + 1e-6)
    values = {
        f"{part}.{name}": np.asarray(getattr(getattr(merger, part), name)[...], np.float64)
        for part in ("norm", "linear_fc1", "linear_fc2")
        for name in ("weight", "bias")
    }
    blocks = (normed * values["norm.weight"] + values["norm.bias"]).reshape(2, 3, 256)
    hidden = exact_gelu(blocks @ values["linear_fc1.weight"].T + values["linear_fc1.bias"])
    assert relative_error(apply(merger, x), hidden @ values["linear_fc2.weight"].T + values["linear_fc2.bias"]) < 2e-6


def test_layer_norm_keeps_its_statistics_in_float32():
    norm = LayerNorm(64, 1e-6, dtype=jnp.bfloat16)
    x = (1000 + normal(5, 64)).astype(jnp.bfloat16)
    found, centred = norm(x), np.asarray(x, np.float64) - np.asarray(x, np.float64).mean(-1, keepdims=True)
    assert found.dtype == jnp.bfloat16
    wanted = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=0.02)


@pytest.mark.parametrize("shape", [(7, 48), (1, 48), (2, 3, 48)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 5e-3)])
def test_linear(draw, shape, dtype, tolerance):
    layer = draw(lambda: Linear(48, 40, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype)))
    assert layer.weight.shape == (40, 48)
    x = normal(*shape).astype(dtype)
    found = layer(x)
    assert found.dtype == x.dtype and found.shape == (*shape[:-1], 40)
    weight, bias, values = (np.asarray(a, np.float64) for a in (layer.weight[...], layer.bias[...], x))
    assert relative_error(found.astype(jnp.float32), values @ weight.T + bias) < tolerance


def test_rotation_turns_pairs_by_row_and_by_column():
    at = np.asarray([[(0, 0), (3, 0), (0, 5), (7, 11)]], np.int32)
    x = normal(1, 4, 2, 16)
    found = rotate(x, axial_rotation(jnp.asarray(at), 16, 10_000.0))
    pairs = np.asarray(x[..., :8], np.float64) + 1j * np.asarray(x[..., 8:], np.float64)
    frequencies = 10_000.0 ** -(np.arange(4) / 4)
    angles = np.concatenate([at[..., :1] * frequencies, at[..., 1:] * frequencies], axis=-1)
    turned = pairs * np.exp(1j * angles)[:, :, None]
    np.testing.assert_allclose(found, np.concatenate([turned.real, turned.imag], axis=-1), atol=1e-5)


def test_rotated_products_depend_on_distance_alone():
    q, k = normal(1, 1, 1, 32), normal(1, 1, 1, 32, seed=1)

    def product(here, there):
        turned = [
            rotate(a, axial_rotation(jnp.asarray([[at]], jnp.int32), 32, 10_000.0)) for a, at in ((q, here), (k, there))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product((2, 9), (5, 4)) == pytest.approx(product((12, 29), (15, 24)), abs=1e-4)
    assert abs(product((2, 9), (5, 4)) - product((2, 9), (4, 5))) > 0.01
