"""The gated delta rule and its layers beside the reference's, and the layer's own properties."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders.nn.weights import layer_of
from omni.decoder.gated_delta_net import (
    GatedDeltaConfig,
    GatedDeltaNet,
    GatedDeltaState,
    InterleavedGatedDeltaNet,
    SeparateGatedDeltaNet,
)
from omni.decoder.ops.gated_delta.chunked import chunked
from omni.decoder.ops.gated_delta.chunked_fast import chunked_fast
from omni.decoder.ops.gated_delta.recurrent import recurrent
from tests.golden import gated_delta_inputs as inputs
from tests.golden.load import DATA, relative_error

CONFIG = GatedDeltaConfig(**inputs.CONFIG)
CLASSES = {"interleaved": InterleavedGatedDeltaNet, "separate": SeparateGatedDeltaNet}
X = jnp.asarray(inputs.hidden_states())


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(Path(DATA) / "gated_delta.npz") as file:
        return dict(file)


def build(packing: str) -> GatedDeltaNet:
    net = CLASSES[packing](CONFIG, rngs=nnx.Rngs(0))
    params = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(net, nnx.Param))}
    weights = inputs.layer_weights(packing)
    assert params.keys() == weights.keys()
    for name, leaf in params.items():
        assert leaf.shape == weights[name].shape
        leaf.set_value(jnp.asarray(weights[name]))
    nnx.update(net, nnx.from_flat_state([(tuple(name.split(".")), leaf) for name, leaf in params.items()]))
    return net


@nnx.jit
def run(net, x, state=None, counts=None):
    return net(x, state, counts)


@pytest.mark.parametrize("form", [recurrent, chunked, chunked_fast])
@pytest.mark.parametrize("tokens", inputs.LENGTHS)
def test_rule_is_the_reference_s(reference, form, tokens):
    *x, state = map(jnp.asarray, inputs.rule_inputs(tokens))
    for begun in ("new", "begun"):
        out, last = jax.jit(form)(*x, state if begun == "begun" else 0 * state)
        assert relative_error(out, reference[f"rule/{tokens}/{begun}/out"]) < 2e-6
        assert relative_error(last, reference[f"rule/{tokens}/{begun}/state"]) < 2e-6


@pytest.mark.parametrize("packing", inputs.PACKINGS)
def test_layer_is_the_reference_s(reference, packing):
    out, _ = run(build(packing), X)
    assert relative_error(out, reference[f"{packing}/whole"]) < 5e-6


@pytest.mark.parametrize("packing", inputs.PACKINGS)
def test_layer_goes_on_as_the_reference_does(reference, packing):
    net, state, pieces = build(packing), GatedDeltaState.create(CONFIG, len(X)), []
    for part in np.split(X, inputs.CUTS, axis=1):
        out, state = run(net, part, state)
        pieces.append(out)
    assert relative_error(jnp.concatenate(pieces, 1), reference[f"{packing}/pieces"]) < 5e-6


def test_rows_of_different_lengths():
    """Pads of NaN; then one more token for each row, on from the state."""
    net = build("interleaved")
    whole, _ = run(net, X)
    counts = [139, 5]
    padded = X
    for row, count in enumerate(counts):
        padded = padded.at[row, count:].set(jnp.nan)
    out, state = run(net, padded, None, jnp.asarray(counts, jnp.int32))
    following = jnp.stack([X[row, count] for row, count in enumerate(counts)])[:, None]
    last, _ = run(net, following, state, jnp.ones(2, jnp.int32))
    for row, count in enumerate(counts):
        assert relative_error(out[row, :count], whole[row, :count]) < 2e-6
        assert relative_error(last[row, 0], whole[row, count]) < 2e-6


def test_a_row_without_tokens_keeps_its_state():
    net = build("separate")
    _, state = run(net, X)
    _, after = run(net, X[:, :1], state, jnp.asarray([0, 1], jnp.int32))
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old[0], new[0])
        assert not np.array_equal(old[1], new[1])


@pytest.mark.parametrize("packing", inputs.PACKINGS)
def test_layer_of_a_stack(packing):
    net, other = build(packing), CLASSES[packing](CONFIG, rngs=nnx.Rngs(1))
    graph, state = nnx.split(net)
    stack = nnx.merge(graph, jax.tree.map(lambda *a: jnp.stack(a), nnx.state(other), state))
    expected, _ = run(net, X[:, :8])
    found, _ = nnx.jit(lambda net, x, layer: layer_of(net, layer)(x))(stack, X[:, :8], jnp.int32(1))
    assert relative_error(found, expected) < 1e-6


def test_every_weight_gets_a_gradient():
    net = build("interleaved")

    def loss(net, x):
        return jnp.sum(jnp.sin(net(x)[0]))

    slopes = nnx.jit(nnx.grad(loss))(net, X[:, :70])
    for path, leaf in nnx.to_flat_state(slopes):
        assert np.isfinite(leaf[...]).all() and np.abs(leaf[...]).max() > 0, path


def test_config_names_what_does_not_fit():
    with pytest.raises(ValueError, match="linear_num_value_heads=3 is not a multiple of linear_num_key_heads=2"):
        GatedDeltaConfig(32, linear_num_value_heads=3, linear_num_key_heads=2)
