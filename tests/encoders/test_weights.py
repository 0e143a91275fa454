"""A module's weights are read as they are, and a look tells whether they were replaced."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders.nn.module_weights import Weights


class Inner(nnx.Module):
    def __init__(self):
        self.scale, self.shift = nnx.Param(jnp.ones(3)), 1.0


class Outer(nnx.Module):
    def __init__(self):
        self.inner, self.several = Inner(), nnx.List([Inner(), Inner()])


def total(graph, arrays):
    module = graph.merge(arrays)
    return sum(jnp.sum(one.scale[...]) + one.shift for one in (module.inner, *module.several))


def scale(module):
    module.several[1].scale.set_value(jnp.full(3, 2.0, jnp.float32))


def variable(module):
    module.several[1].scale = nnx.Param(jnp.full(3, 2.0, jnp.float32))


def submodule(module):
    module.several[1] = Inner()
    scale(module)


def attribute(module):
    module.inner.shift = 4.0


def removed(module):
    module.several.pop()


@pytest.mark.parametrize(
    ("edit", "wanted"), [(scale, 15), (variable, 15), (submodule, 15), (attribute, 15), (removed, 8)]
)
def test_an_edit_is_seen(edit, wanted):
    module = Outer()
    weights = Weights(module)
    run = jax.jit(total, static_argnums=0)
    before = weights.version
    assert run(*weights.read()) == 12 and weights.version is before
    held = weights.read()
    edit(module)
    assert weights.version is not before and weights.version is weights.version
    assert run(*weights.read()) == wanted
    # What was read stays as it was.
    assert run(*held) == 12


def test_one_program_for_other_arrays():
    module = Outer()
    weights, traced = Weights(module), []
    run = jax.jit(lambda graph, arrays: (traced.append(1), total(graph, arrays))[1], static_argnums=0)
    for edit in (lambda _: None, scale, variable, submodule):
        edit(module)
        run(*weights.read())
    assert len(traced) == 1
    attribute(module)
    run(*weights.read())
    assert len(traced) == 2


def test_what_may_be_written_in_place_is_never_taken_for_unchanged():
    module = Outer()
    array = np.ones(3, np.float32)
    module.inner.scale.set_value(array)
    weights = Weights(module)
    before = weights.version
    array[:] = 5
    assert weights.version is not before and total(*weights.read()) == 24


def test_no_array_is_kept():
    module = Outer()
    weights = Weights(module)
    before = jax.live_arrays()
    weights.read(), weights.version
    count = len(before)
    del before
    module.inner.scale.set_value(jnp.zeros(3))
    gc.collect()
    assert len(jax.live_arrays()) <= count
