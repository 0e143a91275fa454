"""The compiled product equals the plain one, whatever the types, sizes, threads and transformations."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from encoders.nn.kernels import api
from encoders.nn.weights import LayerWeight, Quantized, matmul, quantize

ROOT = Path(__file__).parents[2]
DTYPES = [jnp.float32, jnp.bfloat16, jnp.int8]

if len(jax.local_devices(backend="cpu")) != 1 or sys.platform != "linux":
    pytest.skip("the kernel serves one CPU device on Linux", allow_module_level=True)


def drawn(*shape, dtype=jnp.float32, seed=0):
    dice = np.random.default_rng(seed)
    values = dice.integers(-127, 128, shape) if dtype == jnp.int8 else dice.standard_normal(shape)
    return jnp.asarray(values.astype(np.float32)).astype(dtype)


def plain(x, stack, layer):
    weight = np.asarray(stack.astype(jnp.float32), np.float64).reshape(-1, *stack.shape[-2:])[layer]
    return np.asarray(x.astype(jnp.float32), np.float64) @ weight.T


def near(found, wanted, tolerance=1e-6):
    assert found.dtype == jnp.float32 and found.shape == wanted.shape
    assert np.abs(np.asarray(found) - wanted).max() <= tolerance * np.abs(wanted).max()


def test_it_is_available_where_numba_is():
    assert api.is_available()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (1000, 300), (257, 4099)])
def test_it_equals_the_plain_product(dtype, rows, columns):
    stack = drawn(2, 3, rows, columns, dtype=dtype)
    for batch in ((), (1,), (2, 3)):
        x = drawn(*batch, columns, seed=1)
        for layer in (0, 4, 5):
            near(jax.jit(api.product)(x, stack, jnp.int32(layer)), plain(x, stack, layer))
    near(api.product(drawn(2, columns), stack, 99), plain(drawn(2, columns), stack, 5))
    near(api.product(drawn(2, columns), stack, -9), plain(drawn(2, columns), stack, 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_of_a_scan_are_read_in_place(dtype):
    stack, x = drawn(5, 400, 400, dtype=dtype), drawn(2, 400, seed=1)
    steep = 20 * float(np.asarray(stack, np.float32).std())

    def step(x, layer):
        return jnp.tanh(api.product(x, stack, layer) / steep), None

    program = jax.jit(lambda x: lax.scan(step, x, jnp.arange(5))[0])
    wanted = np.asarray(x, np.float64)
    for layer in range(5):
        wanted = np.tanh(plain(jnp.asarray(wanted, jnp.float32), stack, layer) / steep)
    assert np.abs(np.asarray(program(x)) - wanted).max() < 1e-4
    sizes = program.lower(x).compile().memory_analysis()
    assert sizes.temp_size_in_bytes < stack.nbytes / 5


def test_products_of_many_threads_do_not_meet():
    stack = drawn(4, 900, 512, dtype=jnp.bfloat16)
    program = jax.jit(api.product)
    rows = [drawn(1, 512, seed=seed) for seed in range(16)]
    wanted = [plain(x, stack, seed % 4) for seed, x in enumerate(rows)]

    def work(seed):
        return [program(rows[seed], stack, jnp.int32(seed % 4)) for _ in range(30)]

    with ThreadPoolExecutor(16) as pool:
        for seed, found in enumerate(pool.map(work, range(16))):
            for one in found:
                near(one, wanted[seed])


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_differentiates_and_maps(dtype):
    stack, x = drawn(2, 30, 40, dtype=dtype), drawn(3, 40, seed=1)

    def loss(x, product):
        return (product(x, stack, 1) ** 2).sum()

    def by_xla(x, stack, layer):
        return x @ stack[layer].astype(jnp.float32).T

    found, wanted = jax.grad(loss)(x, api.product), jax.grad(loss)(x, by_xla)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4 * np.abs(wanted).max())
    mapped = jax.vmap(lambda row: api.product(row, stack, 1))(x)
    near(mapped, plain(x, stack, 1))
    if dtype != jnp.int8:
        to_stack = jax.grad(lambda stack: (api.product(x, stack, 1) ** 2).sum().astype(jnp.float32))(stack)
        assert to_stack.dtype == dtype and not to_stack[0].any() and to_stack[1].any()


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_matmul_is_the_same_with_and_without_it(rows, monkeypatch):
    monkeypatch.setattr(api, "LEAST_WEIGHTS", 1)
    x = drawn(rows, 64, dtype=jnp.bfloat16)
    stack = drawn(3, 48, 64, dtype=jnp.bfloat16, seed=1)
    values, scales = quantize(np.asarray(stack, np.float32))
    whole = Quantized(jnp.asarray(values), jnp.asarray(scales), jnp.dtype(jnp.bfloat16))
    one = jax.tree.map(lambda leaf: leaf[2], whole)
    weights = [LayerWeight(stack, jnp.int32(2)), LayerWeight(whole, jnp.int32(2)), one]
    found = [matmul(x, weight) for weight in weights]
    monkeypatch.setattr(api, "is_available", lambda: False)
    for ours, weight in zip(found, weights, strict=True):
        near(ours, np.asarray(matmul(x, weight)), 1e-5)


@pytest.mark.parametrize(("given", "said"), [("0", "False"), ("1", "True")])
def test_it_can_be_declined(given, said):
    code = (
        "import jax, jax.numpy as jnp, omni.loading\n"
        "from encoders.nn.kernels import api\n"
        "print(api.serves(1, jax.ShapeDtypeStruct((3, 1024, 1024), jnp.bfloat16)))"
    )
    environment = {**os.environ, "OMNI_KERNELS": given}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said, done.stderr
