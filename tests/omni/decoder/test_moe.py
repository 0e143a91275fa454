"""The router: balance is asked for in training alone, and by the gradient that its loss has."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from omni.decoder.config import TextConfig
from omni.decoder.moe import SparseMoeBlock

CONFIG = TextConfig(
    vocab_size=8,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=8,
    router_aux_loss_coef=0.5,
)
BALANCED = replace(CONFIG, output_router_logits=True)


def block(config):
    made = SparseMoeBlock(config, rngs=nnx.Rngs(0))
    made.gate.weight[...] = jax.random.normal(jax.random.key(1), made.gate.weight.shape)
    return made


def inputs(tokens=12, real=9):
    x = jax.random.normal(jax.random.key(2), (1, tokens, 16))
    return x, (jnp.arange(tokens) < real)[None]


def loss(made, x, real):
    return (made(x, real) ** 2).sum()


def balance_loss(made, x, real):
    """As the papers write it, differentiated by jax itself."""
    p_TE = jax.nn.softmax(made.gate(x[real]).astype(jnp.float32), axis=-1)
    visits_TE = jax.nn.one_hot(jax.lax.top_k(p_TE, 2)[1], 4).sum(1)
    return 4 * (visits_TE.mean(0) * p_TE.mean(0)).sum()


def test_what_is_computed_does_not_change():
    x, real = inputs()
    np.testing.assert_array_equal(block(CONFIG)(x, real), block(BALANCED)(x, real))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_gradient_is_that_of_both_losses(normalise):
    x, real = inputs()
    plain, balanced = (block(replace(c, norm_topk_prob=normalise)) for c in (CONFIG, BALANCED))

    def both(made):
        return loss(made, x, real) + 0.5 * balance_loss(made, x, real)

    wanted, found = nnx.grad(both)(plain), nnx.grad(lambda made: loss(made, x, real))(balanced)
    for (path, a), (_, b) in zip(nnx.to_flat_state(wanted), nnx.to_flat_state(found), strict=True):
        np.testing.assert_allclose(a[...], b[...], rtol=1e-4, atol=1e-5, err_msg=str(path))
    alone = nnx.grad(lambda made: loss(made, x, real))(plain)
    assert float(jnp.abs(alone.gate.weight[...] - found.gate.weight[...]).max()) > 1e-3


def test_descent_makes_visits_even():
    x, real = inputs(64, 64)
    x = x + 1  # so that one expert is everybody's first choice
    made = block(BALANCED)
    before = float(balance_loss(made, x, real))
    gradient = nnx.jit(nnx.grad(lambda made: (made(x, real) * 0).sum()))
    for _ in range(200):
        made.gate.weight[...] -= 0.3 * gradient(made).gate.weight[...]
    assert float(balance_loss(made, x, real)) < before - 1
