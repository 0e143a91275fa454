"""Every form of visiting experts equals running all experts densely, and so do the gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders.nn.weights import LayerWeight, Quantized, quantize
from omni.decoder.ops.experts import IMPLEMENTATIONS, api, visit

LAYERS, EXPERTS, WIDTH, HIDDEN, CHOSEN = 3, 8, 32, 24, 2
FORMS = [partial(visit, implementation=name) for name in IMPLEMENTATIONS]


@jax.jit
def densely(x, experts, weights, gate_up, down):
    """All experts on all tokens, then the chosen ones."""
    gate, up = jnp.split(jnp.einsum("td,efd->tef", x, gate_up), 2, axis=-1)
    said = jnp.einsum("tef,edf->ted", jax.nn.silu(gate) * up, down)
    share = jnp.where(experts[..., None] == jnp.arange(EXPERTS), weights[..., None], 0).sum(1)
    return jnp.einsum("te,ted->td", share, said)


def draw(tokens, skew=False):
    dice = np.random.default_rng(tokens)
    odds = np.exp(3 * dice.normal(size=EXPERTS)) if skew else np.ones(EXPERTS)
    experts = np.stack([dice.choice(EXPERTS, CHOSEN, replace=False, p=odds / odds.sum()) for _ in range(tokens)])
    weights = dice.uniform(0.1, 1, (tokens, CHOSEN))
    pads = dice.uniform(size=tokens) < 0.2
    experts[pads], weights[pads] = -1, 0
    x = dice.normal(size=(tokens, WIDTH))
    gate_up = dice.normal(size=(LAYERS, EXPERTS, 2 * HIDDEN, WIDTH)) * WIDTH**-0.5
    down = dice.normal(size=(LAYERS, EXPERTS, WIDTH, HIDDEN)) * HIDDEN**-0.5
    float32 = (jnp.asarray(a, jnp.float32) for a in (x, weights, gate_up, down))
    x, weights, gate_up, down = float32
    return x, jnp.asarray(experts, jnp.int32), weights, gate_up, down


def layers(number, *stacks):
    return [LayerWeight(stack, jnp.int32(number)) for stack in stacks]


def error(found, wanted):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tokens", "skew"), [(1, False), (7, False), (40, False), (300, True)])
def test_equals_running_every_expert(form, tokens, skew):
    x, experts, weights, gate_up, down = draw(tokens, skew)
    wanted = densely(x, experts, weights, gate_up[1], down[1])
    assert error(jax.jit(form)(x, experts, weights, *layers(1, gate_up, down)), wanted) < 1e-6
    assert error(jax.jit(form)(x, experts, weights, gate_up[1], down[1]), wanted) < 1e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 40])
def test_integers_with_scales_are_the_weights_that_they_stand_for(form, tokens):
    x, experts, weights, gate_up, down = draw(tokens)
    stacks = [Quantized(*map(jnp.asarray, quantize(np.asarray(stack))), jnp.float32) for stack in (gate_up, down)]
    wanted = densely(x, experts, weights, *(stack[1] for stack in stacks))
    assert error(jax.jit(form)(x, experts, weights, *layers(1, *stacks)), wanted) < 1e-6
    assert 1e-3 < error(wanted, densely(x, experts, weights, gate_up[1], down[1])) < 3e-2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", [None, 1])
def test_gradients_equal_those_of_running_every_expert(form, layer):
    x, experts, weights, gate_up, down = draw(40)
    if layer is None:
        gate_up, down = gate_up[1], down[1]

    def of(visit):
        def loss(x, weights, gate_up, down):
            weights = jnp.where(experts < 0, 0, weights)
            chosen = (gate_up, down) if layer is None else layers(layer, gate_up, down)
            return jnp.sin(visit(x, experts, weights, *chosen)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(x, weights, gate_up, down)

    wanted = of(lambda x, e, w, g, d: densely(x, e, w, g[...], d[...]))
    for found, true in zip(of(form), wanted, strict=True):
        assert error(found, true) < 2e-6


@pytest.mark.parametrize("form", FORMS)
def test_no_token_at_all(form):
    x, experts, weights, gate_up, down = draw(40)
    found = form(x, jnp.full_like(experts, -1), jnp.zeros_like(weights), *layers(2, gate_up, down))
    assert not found.any()


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_weights(form):
    x, experts, weights, gate_up, down = draw(40)
    half = [a.astype(jnp.bfloat16) for a in (x, gate_up, down)]
    x, gate_up, down = (a.astype(jnp.float32) for a in half)
    wanted = densely(x, experts, weights, gate_up[0], down[0])
    found = jax.jit(form)(half[0], experts, weights, *layers(0, *half[1:]))
    assert found.dtype == jnp.float32
    assert error(found, wanted) < 1e-2


@pytest.mark.parametrize(
    ("platform", "visits", "chosen"),
    [("cpu", 12, "one_by_one"), ("cpu", 13, "in_blocks"), ("gpu", 12, "gathered"), ("tpu", 13, "ragged")],
)
def test_the_form_suits_where_programs_run(platform, visits, chosen, monkeypatch):
    monkeypatch.setattr(api, "platform", lambda: platform)
    assert api._choice(visits, EXPERTS) == chosen
