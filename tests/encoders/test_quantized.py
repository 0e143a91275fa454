"""Weights of the three kinds multiply alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders.nn.layers import Linear
from encoders.nn.weights import LayerWeight, Quantized, bank, layer_of, matmul, quantize

DTYPES = [jnp.float32, jnp.bfloat16]


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def quantized(weight, dtype=jnp.float32):
    return Quantized(*map(jnp.asarray, quantize(np.asarray(weight, np.float32))), dtype)


def error(found, wanted):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def test_an_integer_is_the_nearest():
    weight = np.array([[1.0, -0.5, 0.004, 0.2], [0, 0, 0, 0], [-3e-20, 1e-20, 0, 0]], np.float32)
    values, scales = quantize(weight)
    assert values.dtype == np.int8 and scales.shape == (3,)
    assert values.tolist()[:2] == [[127, -64, 1, 25], [0, 0, 0, 0]]
    restored = values * scales[:, None]
    assert (np.abs(restored - weight) <= scales[:, None] * 0.5000001).all()
    assert values[2, 0] == -127


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (2, 3, 5, 7)])
def test_each_row_has_its_own_scale(shape):
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight[..., 1, :] *= 1000
    values, scales = quantize(weight)
    assert scales.shape == shape[:-1]
    np.testing.assert_array_equal(np.abs(values).max(-1), 127)
    assert np.abs(values * scales[..., None] - weight)[..., 0, :].max() < 0.02


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(1,), (2, 3), (200,)])
@pytest.mark.parametrize("rows", [24, 512, 1536])  # what lies in a stack is read by pieces of at most 512 rows
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_kinds_multiply_alike(dtype, batch, rows, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    stack, x = normal(3, rows, 64, dtype=dtype), normal(*batch, 64, seed=1, dtype=dtype)
    whole = quantized(stack, dtype)
    product = jax.jit(lambda x, weight: matmul(x, weight))
    rows_of_x = np.asarray(x, np.float32)
    for index in range(3):
        exact = rows_of_x @ np.asarray(stack[index], np.float32).T
        layer = jnp.int32(index)
        for weight in (stack[index], LayerWeight(stack, layer)):
            found = product(x, weight)
            assert found.dtype == jnp.float32 and found.shape == (*batch, rows)
            assert error(found, exact) < 1e-5
        exact = rows_of_x @ (np.float32(whole.values[index]) * np.asarray(whole.scales[index])[:, None]).T
        one = Quantized(whole.values[index], whole.scales[index], whole.dtype)
        for weight in (one, LayerWeight(whole, layer)):
            assert error(product(x, weight), exact) < 1e-5


def test_rows_are_read_as_those_of_the_weight():
    weight = quantized(normal(3, 6, 8), jnp.bfloat16)
    layer = LayerWeight(weight, jnp.int32(2))
    assert (weight.shape, weight.ndim, weight.dtype) == ((3, 6, 8), 3, jnp.bfloat16)
    assert (layer.shape, layer.ndim, layer.dtype) == ((6, 8), 2, jnp.bfloat16)
    restored = (weight.values.astype(jnp.float32) * weight.scales[..., None]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(weight[...], restored)
    np.testing.assert_array_equal(layer[...], restored[2])
    np.testing.assert_array_equal(layer[jnp.array([1, 4])], restored[2, jnp.array([1, 4])])


@pytest.mark.parametrize("form", [lambda a: a, quantized])
def test_a_bank_holds_the_matrices_of_all_layers(form):
    stack = form(normal(3, 4, 6, 8))
    matrices, first = bank(LayerWeight(stack, jnp.int32(2)))
    assert matrices.shape == (12, 6, 8) and int(first) == 8
    np.testing.assert_array_equal(matrices[first + 1], stack[2][1])
    matrices, first = bank(form(normal(4, 6, 8)))
    assert matrices.shape == (4, 6, 8) and int(first) == 0


@pytest.mark.parametrize("form", [lambda a: a, quantized])
def test_a_module_of_stacks_is_read_as_one_layer(form):
    layers = [Linear(8, 6, rngs=nnx.Rngs(seed)) for seed in range(3)]
    for seed, layer in enumerate(layers):
        layer.bias.set_value(normal(6, seed=seed))
        layer.weight.set_value(normal(6, 8, seed=10 + seed))
    graph, _ = nnx.split(layers[0])
    stack = nnx.merge(graph, jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(nnx.state, layers)))
    stack.weight.set_value(form(stack.weight.get_value()))
    x = normal(5, 8, seed=20)
    read = nnx.jit(lambda stack, layer, x: layer_of(stack, layer)(x))
    for index, layer in enumerate(layers):
        layer.weight.set_value(form(layer.weight.get_value()))
        np.testing.assert_allclose(read(stack, jnp.int32(index), x), layer(x), atol=1e-6)
