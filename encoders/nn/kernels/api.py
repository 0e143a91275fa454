"""Whether a compiled kernel multiplies, and the call of it."""

import functools
import importlib.util
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int

_NAME = "omni_matvec"
# Most rows of x for which it is faster than XLA's forms, by the weights' type; and the least matrix, since XLA's are as
# fast in the cache, and small models should not wait for Numba.
MOST_ROWS = {"bfloat16": 2, "float32": 1, "int8": 4}
LEAST_WEIGHTS = 1 << 18
enabled = True
"""Whether it may be used at all; programs that are compiled already stay as they are."""


def serves(rows: int, weight: jax.ShapeDtypeStruct | Array) -> bool:
    """Return whether the kernel should multiply so many rows with a matrix, or with one of a stack of them."""
    few = rows <= MOST_ROWS.get(jnp.dtype(weight.dtype).name, 0)
    return enabled and few and weight.shape[-1] * weight.shape[-2] >= LEAST_WEIGHTS and is_available()


@functools.cache
def is_available() -> bool:
    """Return whether there is Numba, and one CPU device of the kind that the kernel was tried on.

    On several devices XLA divides products, which it cannot do with what it does not know.
    """
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    if len(jax.local_devices(backend="cpu")) != 1 or importlib.util.find_spec("numba") is None:
        return False
    try:
        from encoders.nn.kernels import matvec

        jax.ffi.register_ffi_target(_NAME, matvec.target(), platform="cpu")
        return _is_right()
    except Exception as error:
        warnings.warn(f"products are left to XLA, as the compiled kernel failed: {error!r:.200}", stacklevel=2)
        return False


def product(x: Float[Array, "*rows columns"], stack: Array, layer: Int[Array, ""] | int) -> Float32[Array, "*rows out"]:
    """x Wᵀ with one matrix of a stack [..., out, columns], counted over its leading axes; accumulated in float32."""
    found = _product(x.reshape(-1, x.shape[-1]).astype(jnp.float32), stack, jnp.asarray(layer, jnp.int32))
    return found.reshape(*x.shape[:-1], stack.shape[-2])


@jax.custom_jvp
def _product(x, stack, layer):
    shape = jax.ShapeDtypeStruct((x.shape[0], stack.shape[-2]), jnp.float32)
    return jax.ffi.ffi_call(_NAME, shape, vmap_method="sequential")(x, stack, layer)


@_product.defjvp
def _product_jvp(primals, tangents):
    x, stack, layer = primals

    def plain(x, stack):
        weight = stack.reshape(-1, *stack.shape[-2:])[layer].astype(jnp.float32)
        return lax.dot_general(x, weight, (((1,), (1,)), ((), ())))

    if jnp.issubdtype(stack.dtype, jnp.integer):
        return jax.jvp(lambda x: plain(x, stack), (x,), tangents[:1])
    return jax.jvp(plain, (x, stack), tangents[:2])


def _is_right() -> bool:
    """On numbers that are exact in any order, with more chunks than threads."""
    with jax.ensure_compile_time_eval():
        dice = np.random.default_rng(0)
        x = dice.integers(-8, 9, (3, 520)).astype(np.float32)
        stack = dice.integers(-8, 9, (2, 1000, 520))
        for dtype in (jnp.float32, jnp.bfloat16, jnp.int8):
            found = product(jnp.asarray(x), jnp.asarray(stack.astype(np.float32)).astype(dtype), 1)
            if not np.array_equal(np.asarray(found), x @ stack[1].T.astype(np.float32)):
                raise ValueError("its products are not what they should be")
    return True
