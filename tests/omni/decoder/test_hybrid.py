"""What linear layers ask of a decoder beyond the promises of all: states, runs of layers, and options of the depth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni.decoder import HybridCache, TextDecoder
from tests.omni.decoder.decoders import HYBRID, draw, full, make, near, read, rows_of

INTERLEAVED = replace(
    HYBRID,
    linear_projections="interleaved",
    num_hidden_layers=2,
    layer_types=("linear_attention",) * 2,
    mlp_only_layers=(),
)


@pytest.fixture(scope="module", params=[HYBRID, INTERLEAVED], ids=["hybrid", "linear alone"])
def decoder(request):
    return make(request.param)


def test_chunks_without_a_token_leave_a_row_as_it_was(decoder):
    """Rows of a batch end at different times, and are then read on with nothing, chunk after chunk."""
    x, positions = draw(decoder, 3, 9)
    _, before = read(decoder, x, positions, HybridCache.create(decoder.config, 3, 32), jnp.array([9, 4, 6], jnp.int32))
    after = before
    for tokens in (9, 1, 1, 9):
        more, where = draw(decoder, 3, tokens, seed=tokens)
        _, after = read(decoder, more * jnp.nan, where, after, full(3, 0))
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_a_row_that_has_read_nothing_begins_afresh(decoder):
    """Whatever its place held before."""
    x, positions = draw(decoder, 3, 9)
    _, cache = read(decoder, x, positions, HybridCache.create(decoder.config, 3, 32), jnp.array([9, 4, 6], jnp.int32))
    cut = replace(cache, lengths=jnp.array([9, 0, 6], jnp.int32))
    more, where = draw(decoder, 3, 9, seed=1)
    found, _ = read(decoder, more, where, cut, full(3, 9))
    wanted, _ = read(decoder, more, where, cache, full(3, 9))
    afresh, _ = read(decoder, more, where, HybridCache.create(decoder.config, 3, 32), full(3, 9))
    near(found[::2], wanted[::2])
    near(found[1], afresh[1])


def test_a_cache_is_of_the_layers_that_use_it():
    cache = HybridCache.create(HYBRID, 2, 16, jnp.bfloat16)
    assert cache.keys.shape == (2, 2 * 16, 2, 16)
    for state, block in zip(cache.states, (HYBRID.blocks[0], HYBRID.blocks[1]), strict=True):
        assert state.tail.shape == (len(block.layers), 2, 3, 80)
        assert state.delta.shape == (len(block.layers), 2, 4, 8, 12)
        assert state.tail.dtype == state.delta.dtype == jnp.float32
    assert HybridCache.create(replace(HYBRID, layer_types=()), 2, 16).states == ()


@pytest.mark.parametrize("cached", [True, False])
def test_layers_one_by_one_equal_a_scan(decoder, cached):
    x, positions = draw(decoder, 2, 12)
    counts = jnp.array([12, 7], jnp.int32)
    deepstack = jnp.asarray(np.random.default_rng(3).normal(size=(2, *x.shape)), jnp.float32)
    unrolled = TextDecoder(decoder.config, rngs=nnx.Rngs(0), scan_layers=False)
    nnx.update(unrolled, nnx.state(decoder))
    caches = [HybridCache.create(decoder.config, 2, 16) if cached else None for _ in range(2)]
    wanted, wanted_cache = read(decoder, x, positions, caches[0], counts, rows_of(deepstack))
    found, found_cache = read(unrolled, x, positions, caches[1], counts, rows_of(deepstack))
    near(found[1, :7], wanted[1, :7])
    near(found[0], wanted[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found_cache, wanted_cache)


def test_a_checkpoint_policy_changes_no_gradient(decoder):
    x, positions = draw(decoder, 1, 20)

    def gradients(**options):
        graph, _ = nnx.split(nnx.eval_shape(lambda: TextDecoder(decoder.config, rngs=nnx.Rngs(0), **options)))

        def loss(state):
            hidden, _ = nnx.merge(graph, state)(x, positions, None, full(1, 20))
            return (hidden**2 * jnp.arange(32)).sum()

        traced = jax.jit(jax.grad(loss)).trace(nnx.state(decoder))
        return traced.lower().compile()(nnx.state(decoder)), str(traced.jaxpr)

    wanted, plain = gradients()
    for policy in (jax.checkpoint_policies.nothing_saveable, jax.checkpoint_policies.dots_saveable):
        found, checkpointed = gradients(checkpoint_policy=policy)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), found, wanted
        )
        assert "checkpoint" in checkpointed or "remat" in checkpointed
        assert len(plain) != len(checkpointed)


def test_gradients_agree_with_finite_differences():
    """Each parameter along its own gradient: the loss changes by the gradient's square.

    To fourth order in the step. Some parameters bend the loss too much for a long step, some move it too little for a
    short one.
    """
    config = replace(HYBRID, num_hidden_layers=3, layer_types=HYBRID.layer_types[:3])
    decoder = make(config)
    graph, state = nnx.split(decoder)
    x, positions = draw(decoder, 2, 24)
    counts = jnp.array([24, 11], jnp.int32)
    weigh = jnp.asarray(np.random.default_rng(5).normal(size=(2, 24, 32)), jnp.float32)
    weigh = jnp.where((jnp.arange(24) < counts[:, None])[..., None], weigh, 0)

    @jax.jit
    def loss(state):
        hidden, _ = nnx.merge(graph, state)(x, positions, None, counts)
        return (hidden * weigh).sum()

    gradients = nnx.to_flat_state(jax.grad(loss)(state))
    flat = dict(nnx.to_flat_state(state))
    for path, leaf in gradients:
        slope = np.asarray(leaf[...], np.float64)
        if path[0] in ("embed_tokens", "lm_head"):
            continue
        size = np.linalg.norm(slope)
        assert size > 1e-4, path
        steps = np.array([1e-4, 1e-3]) * np.linalg.norm(np.asarray(flat[path][...])) / size

        def moved(by, path=path, slope=slope):
            changed = flat | {path: flat[path].replace(flat[path][...] + jnp.asarray(by * slope, jnp.float32))}
            return float(loss(nnx.from_flat_state(changed)))

        changes = [8 * (moved(s) - moved(-s)) - (moved(2 * s) - moved(-2 * s)) for s in steps]
        assert np.abs(changes / (12 * steps) / size**2 - 1).min() < 1e-2, path
