"""The Linen modules are the NNX modules in other clothes: equal outputs, equal parameters, equal names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import encoders
from encoders import linen
from encoders.vision import VisionHidden

NAMES = ("VisionEncoder", "VisionProjector", "AudioEncoder", "AudioProjector")


def arguments(name, config):
    random = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    match name:
        case "VisionEncoder":
            return (
                normal(2, 8, 1536),
                jnp.asarray(random.integers(0, 4, (2, 8, 2)), jnp.int32),
                jnp.asarray(random.integers(0, config.num_position_embeddings, (2, 8, 4)), jnp.int32),
                jnp.asarray(random.dirichlet(np.ones(4), (2, 8)), jnp.float32),
                jnp.asarray([8, 4], jnp.int32),
            )
        case "VisionProjector":
            width, levels = config.hidden_size, len(config.deepstack_visual_indexes)
            return (VisionHidden(normal(2, 8, width), normal(levels, 2, 8, width)),)
        case "AudioEncoder":
            frames = jnp.asarray([[24, 24], [17, 17]], jnp.int32)
            return normal(2, 2, config.num_mel_bins, 24), frames, jnp.asarray([5, 3], jnp.int32)
    return (normal(2, 6, config.d_model),)


@pytest.fixture(params=NAMES)
def case(request, draw, small_vision, small_audio):
    """An NNX module with drawn weights, its Linen sister, and arguments for both."""
    config = small_vision if request.param.startswith("Vision") else small_audio
    module = draw(lambda: getattr(encoders, request.param)(config, rngs=nnx.Rngs(0)))
    return module, getattr(linen, request.param)(config), arguments(request.param, config)


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_outputs_are_equal(case, apply):
    module, sister, rows = case
    found = jax.jit(sister.apply)({"params": linen.to_linen(module)}, *rows)
    assert_same(found, apply(module, *rows))


def test_parameters_go_there_and_back(case, draw):
    module, sister, _ = case
    params = linen.to_linen(module)
    named = nnx.to_flat_state(nnx.state(module, nnx.Param))
    assert {".".join(map(str, path)) for path, _ in named} == {
        ".".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }
    empty = nnx.eval_shape(lambda: type(module)(sister.config, rngs=nnx.Rngs(0)))
    linen.from_linen(empty, params)
    assert_same(linen.to_linen(empty), params)
    assert_same(nnx.state(empty), nnx.state(module))


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey])
def test_init_draws_the_same_tree(case, key):
    module, sister, rows = case
    variables = jax.eval_shape(sister.init, key(0), *rows)
    assert set(variables) == {"params"}
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables["params"])
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), linen.to_linen(module))


def test_init_draws_by_its_key(small_audio):
    sister, rows = linen.AudioProjector(small_audio), arguments("AudioProjector", small_audio)
    found, variables = sister.init_with_output(jax.random.key(1), *rows)
    np.testing.assert_allclose(sister.apply(variables, *rows), found, atol=1e-6)
    weight = variables["params"]["proj1"]["weight"]
    np.testing.assert_array_equal(sister.init(jax.random.key(1), *rows)["params"]["proj1"]["weight"], weight)
    assert np.abs(sister.init(jax.random.key(2), *rows)["params"]["proj1"]["weight"] - weight).max() > 0.01
    assert np.abs(weight).max() > 0.01
    half = linen.AudioProjector(small_audio, dtype=jnp.bfloat16).init(jax.random.key(1), *rows)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.bfloat16)}


def test_gradients_reach_every_parameter(case):
    module, sister, rows = case

    def score(params):
        return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(sister.apply({"params": params}, *rows)))

    for path, slope in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(score))(linen.to_linen(module))):
        assert np.isfinite(slope).all(), path
        # A bias on every key moves all scores of a query alike, which the softmax does not see.
        assert np.abs(slope).max() > 1e-4 or [key.key for key in path[-2:]] == ["k_proj", "bias"], path


class Listener(nn.Module):
    """A bigger Linen module: a tower made of parts, a projector used twice, and a head of its own."""

    config: encoders.AudioConfig

    def setup(self):
        self.encoder = linen.AudioEncoder(self.config)
        self.projector = linen.AudioProjector(self.config)
        self.head = nn.Dense(3)

    def __call__(self, *rows):
        hidden = self.encoder(*rows)
        tokens = self.projector(hidden)
        return self.head(tokens + self.projector(hidden / 2)), tokens


def test_inside_a_bigger_linen_module(draw, small_audio, apply):
    rows = arguments("AudioEncoder", small_audio)
    tower = draw(lambda: encoders.AudioTower(small_audio, rngs=nnx.Rngs(0)))
    listener = Listener(small_audio)
    params = jax.eval_shape(listener.init, jax.random.key(0), *rows)["params"]
    assert set(params) == {"encoder", "projector", "head"}
    params |= {name: linen.to_linen(getattr(tower, name)) for name in ("encoder", "projector")}
    params["head"] = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params["head"])
    scores, tokens = jax.jit(listener.apply)({"params": params}, *rows)
    assert scores.shape == (2, 6, 3)
    np.testing.assert_allclose(tokens, apply(tower, *rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: params.pop("proj2"), "differ in proj2.bias, proj2.weight"),
        (lambda params: params.update(proj3={"weight": np.zeros(2)}), "differ in proj3.weight"),
        (lambda params: params["proj1"].update(bias=np.zeros(7)), r"proj1.bias has the shape \(7,\) where"),
    ],
)
def test_foreign_parameters_are_refused(small_audio, change, message):
    module = encoders.AudioProjector(small_audio, rngs=nnx.Rngs(0))
    params = linen.to_linen(module)
    change(params)
    with pytest.raises(ValueError, match=message):
        linen.from_linen(module, params)
    with pytest.raises(ValueError, match=message):
        linen.AudioProjector(small_audio).apply({"params": params}, *arguments("AudioProjector", small_audio))
