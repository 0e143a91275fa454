"""Both towers can be trained: every weight has a finite gradient, and it is the slope of the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders import AudioTower, VisionTower
from encoders.buckets import AudioRows, VisionRows

# A bias on every key moves all scores of a query alike, which the softmax does not see.
WITHOUT_SLOPE = {"encoder.layers.self_attn.k_proj.bias"}


def vision(draw, config):
    """A frame of 24 patches and one of 8, in rows of 32."""
    random = np.random.default_rng(0)
    rows = VisionRows(
        random.standard_normal((2, 32, 1536)).astype(np.float32),
        random.integers(0, 6, (2, 32, 2)).astype(np.int32),
        random.integers(0, 64, (2, 32, 4)).astype(np.int32),
        random.dirichlet(np.ones(4), (2, 32)).astype(np.float32),
        np.asarray([24, 8], np.int32),
    )
    return draw(lambda: VisionTower(config, rngs=nnx.Rngs(0))), rows, np.asarray([6, 2])


def audio(draw, config):
    """A window of two chunks, the second a tail, and a clip below a chunk."""
    mel = np.random.default_rng(0).standard_normal((2, 2, 20, 24)).astype(np.float32)
    lengths = np.asarray([5, 3], np.int32)
    rows = AudioRows(mel, np.asarray([[24, 24], [17, 17]], np.int32), lengths)
    return draw(lambda: AudioTower(config, rngs=nnx.Rngs(0))), rows, lengths


@pytest.mark.parametrize("make, config", [(vision, "small_vision"), (audio, "small_audio")])
def test_gradients_are_slopes(make, config, draw, request):
    tower, rows, counts = make(draw, request.getfixturevalue(config))
    rows = [jnp.asarray(a) for a in rows]
    graph, weights = nnx.split(tower)
    leaves, tree = jax.tree.flatten(jax.device_get(weights))
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(weights)]
    random = np.random.default_rng(1)

    def loss(leaves):
        found = nnx.merge(graph, tree.unflatten(leaves))(*rows)
        total = 0.0
        for i, out in enumerate(jax.tree.leaves(found)):
            out = jnp.where((jnp.arange(out.shape[-2]) < counts[:, None])[..., None], out, 0)
            total += (out * np.random.default_rng(i).standard_normal(out.shape)).mean()
        return total

    run = jax.jit(jax.value_and_grad(loss))
    gradients = jax.device_get(run(leaves)[1])
    assert len(names) == len(leaves)
    for i, (name, leaf, gradient) in enumerate(zip(names, leaves, gradients, strict=True)):
        assert np.isfinite(gradient).all(), name
        if name in WITHOUT_SLOPE:
            assert np.abs(gradient).max() < 1e-6, name
            continue
        assert np.abs(gradient).max() > 1e-5, name
        # Along the gradient and something random, in steps of 0.3 % of the weight.
        norm = np.linalg.norm(gradient)
        direction = gradient / norm + random.standard_normal(leaf.shape) / np.sqrt(leaf.size)
        step = 3e-3 * np.linalg.norm(leaf) / np.linalg.norm(direction)
        slope = (direction * gradient).sum()
        ahead, behind = (run([*leaves[:i], leaf + sign * step * direction, *leaves[i + 1 :]])[0] for sign in (1, -1))
        measured = float(ahead - behind) / (2 * step)
        assert measured == pytest.approx(float(slope), rel=0.02, abs=1e-6), name
