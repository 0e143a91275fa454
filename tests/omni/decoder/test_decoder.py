"""What the decoder promises whatever the lengths, batches and chunks that it reads."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni.decoder import HybridCache, TextConfig, TextDecoder
from omni.decoder.rotary import rotation
from tests.omni.decoder.decoders import CONFIG, DENSE, HYBRID, draw, full, make, near, read, read_split, rows_of

# Of two rows wherever any number will do: each shape is a program, and to compile one takes longer than to test it.
TOKENS = 21


@pytest.fixture(scope="module", params=[CONFIG, DENSE, HYBRID], ids=["sparse", "dense", "hybrid"])
def decoder(request):
    return make(request.param)


def layer_of(decoder, number):
    """One layer, out of its stack."""
    stacks = [decoder.layers] if len(decoder.config.blocks) == 1 else decoder.layers
    for block, stack in zip(decoder.config.blocks, stacks, strict=True):
        if number in block.layers:
            graph, weights = nnx.split(stack)
            own = block.layers.index(number)
            return nnx.merge(graph, jax.tree.map(lambda leaf, own=own: leaf[own], weights))
    raise AssertionError(number)


def test_cached_equals_uncached(decoder):
    x, positions = draw(decoder, 2, TOKENS)
    wanted, none = read(decoder, x, positions, None, full(2, TOKENS))
    found, cache = read(decoder, x, positions, HybridCache.create(decoder.config, 2, 32), full(2, TOKENS))
    assert none is None
    assert cache.lengths.tolist() == [TOKENS, TOKENS]
    near(found, wanted)


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_in_chunks_equals_at_once(decoder, chunk):
    x, positions = draw(decoder, 1, 16)
    wanted, whole = read(decoder, x, positions, HybridCache.create(decoder.config, 1, 16), full(1, 16))
    cache, found = HybridCache.create(decoder.config, 1, 16), []
    for start in range(0, 16, chunk):
        here = slice(start, start + chunk)
        hidden, cache = read(decoder, x[:, here], positions[:, :, here], cache, full(1, chunk))
        found.append(hidden)
    # Linear layers sum in another order where a chunk is cut.
    tolerance = 2e-6 if not cache.states else 1e-5
    held = [(one.keys, one.values, one.states) for one in (cache, whole)]
    jax.tree.map(lambda a, b: near(a, b, tolerance), *held)
    near(jnp.concatenate(found, 1), wanted, tolerance)


def test_alone_equals_in_a_batch_of_mixed_lengths(decoder):
    counts, further = np.array([4, 0, 16, 1]), np.array([4, 4, 0, 1])
    x, positions = draw(decoder, 4, 16)
    together, cache = read(
        decoder, x, positions, HybridCache.create(decoder.config, 4, 16), jnp.asarray(counts, jnp.int32)
    )
    more, where = draw(decoder, 4, 4, seed=1)
    after, _ = read(decoder, more, where, cache, jnp.asarray(further, jnp.int32))
    # A token alone goes through another form of the gated delta rule.
    tolerance = 1e-5 if cache.states else 2e-6
    for row, count in enumerate(counts):
        own = slice(row, row + 1)
        cache = HybridCache.create(decoder.config, 1, 16)
        if count:
            alone, cache = read(decoder, x[own, :count], positions[:, own, :count], cache, full(1, count))
            near(together[own, :count], alone, tolerance)
        if new := int(further[row]):
            alone, _ = read(decoder, more[own, :new], where[:, own, :new], cache, full(1, new))
            near(after[own, :new], alone, tolerance)


@pytest.mark.parametrize("cached", [True, False])
def test_what_pads_and_free_slots_hold_changes_nothing(decoder, cached):
    x, positions = draw(decoder, 2, TOKENS)
    counts = jnp.array([TOKENS, 5], jnp.int32)
    clean = HybridCache.create(decoder.config, 2, 32) if cached else None
    wanted, _ = read(decoder, x, positions, clean, counts)
    dirty = clean and replace(clean, keys=clean.keys * np.nan, values=clean.values * np.nan)
    pads = jnp.arange(TOKENS) >= counts[:, None]
    found, cache = read(decoder, jnp.where(pads[..., None], np.nan, x), positions, dirty, counts)
    near(found[0], wanted[0])
    near(found[1, :5], wanted[1, :5])
    if cached:
        assert not np.isnan(cache.keys[:, 32 : 32 + 5]).any()


def test_pads_beyond_the_capacity_leave_earlier_slots_alone(decoder):
    x, positions = draw(decoder, 2, 8)
    cache = HybridCache.create(decoder.config, 2, 10)
    _, cache = read(decoder, x, positions, cache, jnp.array([8, 2], jnp.int32))
    _, after = read(decoder, x, positions, cache, jnp.array([1, 8], jnp.int32))
    assert after.lengths.tolist() == [9, 10]
    assert np.array_equal(after.keys[:, :8], cache.keys[:, :8])


def test_a_cache_that_grew_equals_one_that_was_large(decoder):
    x, positions = draw(decoder, 1, 16)
    small = HybridCache.create(decoder.config, 1, 8)
    _, small = read(decoder, x[:, :8], positions[:, :, :8], small, full(1, 8))
    found, _ = read(decoder, x[:, 8:], positions[:, :, 8:], small.grow(16, 1), full(1, 8))
    wanted, _ = read(decoder, x, positions, HybridCache.create(decoder.config, 1, 16), full(1, 16))
    near(found, wanted[:, 8:])
    with pytest.raises(ValueError, match="cannot grow to 4"):
        small.grow(4, 1)


def test_the_cache_is_updated_in_place(decoder):
    x, positions = draw(decoder, 1, 1)
    graph, state = nnx.split(decoder)

    @jax.jit(donate_argnums=1)
    def step(state, cache):
        return nnx.merge(graph, state)(x, positions, cache, full(1, 1))

    capacity = 4096
    program = step.lower(state, HybridCache.create(decoder.config, 1, capacity)).compile()
    sizes = program.memory_analysis()
    one_layer = 4 * capacity * decoder.config.num_key_value_heads * decoder.config.head_width
    layers = decoder.config.layers_with("full_attention")
    assert sizes.alias_size_in_bytes >= 2 * layers * one_layer
    assert sizes.temp_size_in_bytes < 2 * layers * one_layer


@pytest.mark.parametrize("cached", [True, False])
def test_deepstack_is_added_after_the_first_layers(decoder, cached):
    x, positions = draw(decoder, 2, 6)
    deepstack = jnp.asarray(np.random.default_rng(3).normal(size=(2, *x.shape)), jnp.float32)
    cache = HybridCache.create(decoder.config, 2, 8) if cached else None
    found, _ = read(decoder, x, positions, cache, full(2, 6), rows_of(deepstack))

    config = decoder.config
    turns = rotation(positions, config.rotary_width, config.rope_theta, config.mrope_section)
    slots, real = jnp.broadcast_to(jnp.arange(6), (2, 6)), jnp.ones((2, 6), bool)
    h = x
    for i in range(config.num_hidden_layers):
        h, _ = read(layer_of(decoder, i), h, turns, slots.astype(jnp.int32), full(2, 6), real)
        h = h + deepstack[i] if i < len(deepstack) else h
    near(found, decoder.norm(h))
    with pytest.raises(ValueError, match=f"{config.num_hidden_layers + 1} deepstack levels"):
        decoder(x, positions, None, full(2, 6), rows_of(jnp.zeros((config.num_hidden_layers + 1, *x.shape))))


def test_rows_stand_anywhere_in_the_pool(decoder):
    """Two rows of different regions in a batch of four, whose others are fillers; what is not theirs stays."""
    x, positions = draw(decoder, 4, TOKENS)
    wanted, even = read(decoder, x[:2], positions[:, :2], HybridCache.create(decoder.config, 2, 32), full(2, TOKENS))
    pool = HybridCache.create(decoder.config, 4, 24)
    pool = replace(
        pool,
        keys=pool.keys + 7,
        values=pool.values + 7,
        states=jax.tree.map(lambda leaf: leaf + 7, pool.states),
        offsets=jnp.array([61, 19, 0, 0], jnp.int32),
        places=jnp.array([2, 0, 4, 4], jnp.int32),
        span=None,
    )
    found, after = read(decoder, x, positions, pool, jnp.array([TOKENS, TOKENS, 0, 0], jnp.int32))
    near(found[:2], wanted)
    near(after.keys[:, 61 : 61 + TOKENS], even.keys[:, :TOKENS])
    near(after.values[:, 19 : 19 + TOKENS], even.values[:, 32 : 32 + TOKENS])
    others = np.ones(96, bool)
    others[61 : 61 + TOKENS] = others[19 : 19 + TOKENS] = False
    assert (np.asarray(after.keys)[:, others] == 7).all()
    for state, own in zip(after.states, even.states, strict=True):
        near(state.delta[:, [2, 0]], own.delta)
        assert (np.asarray(state.delta)[:, [1, 3]] == 7).all()


def test_logits_are_float32_and_use_a_tied_embedding():
    decoder = make(DENSE, jnp.bfloat16)
    hidden = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 32)), jnp.bfloat16)
    logits = decoder.logits(hidden)
    assert not hasattr(decoder, "lm_head")
    assert logits.dtype == jnp.float32
    near(logits, hidden.astype(np.float32) @ decoder.embed_tokens.weight[...].astype(np.float32).T, 1e-5)
    near(decoder.logits(hidden[0, 0]), logits[0, 0], 1e-5)


# Every expert is visited: rounding may tip a choice between two, which is no small change.
@pytest.mark.parametrize(
    "config",
    [replace(CONFIG, num_experts_per_tok=8), DENSE, HYBRID],
    ids=["sparse", "dense", "hybrid"],
)
def test_bfloat16_stays_near_float32(config):
    x, positions = draw(make(config), 1, 24)
    wanted, _ = read(make(config), x, positions, HybridCache.create(config, 1, 32), full(1, 24))
    half = make(config, jnp.bfloat16)
    cache = HybridCache.create(config, 1, 32, jnp.bfloat16)
    found, _ = read(half, x.astype(jnp.bfloat16), positions, cache, full(1, 24))
    assert found.dtype == jnp.bfloat16
    found, wanted = np.asarray(found, np.float64).ravel(), np.asarray(wanted, np.float64).ravel()
    assert found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted) > 0.999


def test_gradients_reach_every_parameter(decoder):
    x, positions = draw(decoder, 2, 30)
    counts = jnp.array([30, 17], jnp.int32)

    graph, state = nnx.split(decoder)

    @jax.jit
    def loss(state, x):
        decoder = nnx.merge(graph, state)
        hidden, _ = decoder(x, positions, None, counts)
        return (jax.nn.logsumexp(decoder.logits(hidden)[1, :17], axis=-1)).sum()

    to_state, to_x = jax.jit(jax.grad(loss, argnums=(0, 1)))(state, x)
    for path, leaf in nnx.to_flat_state(to_state):
        assert np.isfinite(leaf[...]).all(), path
        assert np.abs(leaf[...]).max() > 0 or path[0] == "embed_tokens", path
    assert not to_x[0].any() and not to_x[1, 17:].any()

    # Along the gradient the loss changes by its square, to second order in the step.
    step = 1e-3 / np.sqrt((to_x**2).sum())
    change = float(loss(state, x + step * to_x) - loss(state, x - step * to_x))
    assert change == pytest.approx(float(2 * step * (to_x**2).sum()), rel=1e-2)


def test_the_released_model_has_its_published_size():
    config = TextConfig(
        vocab_size=152064,
        hidden_size=2048,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
    )
    decoder = nnx.eval_shape(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    attention = 2 * 2048 * 32 * 128 + 2 * 2048 * 4 * 128 + 2 * 128
    experts = 128 * 3 * 2048 * 768 + 128 * 2048
    wanted = 48 * (attention + experts + 2 * 2048) + 2048 + 2 * 152064 * 2048
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder))) == wanted == 30_532_646_912

    cache = jax.eval_shape(lambda: HybridCache.create(config, 1, 512, jnp.bfloat16))
    x, positions, counts = (
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in (((1, 256, 2048), jnp.bfloat16), ((3, 1, 256), jnp.float32), ((1,), jnp.int32))
    )
    hidden, _ = jax.eval_shape(functools.partial(read_split, *nnx.split(decoder)), x, positions, cache, counts)
    assert hidden.shape == (1, 256, 2048)
