"""Attention over the slots of a cache, against a plain NumPy one."""

import jax.numpy as jnp
import numpy as np
import pytest

from omni.decoder import attention
from omni.decoder.attention import attend
from omni.decoder.cache import KVCache


def plainly(q, k, v, q_slots, lengths):
    out = np.zeros(q.shape)
    group = q.shape[2] // k.shape[2]
    for b, t, n in np.ndindex(*q.shape[:3]):
        end = min(q_slots[b, t] + 1, lengths[b])
        scores = k[b, :end, n // group].astype(np.float64) @ q[b, t, n] / np.sqrt(q.shape[3])
        weights = np.exp(scores - scores.max(initial=-np.inf))
        out[b, t, n] = weights / max(weights.sum(), 1e-30) @ v[b, :end, n // group]
    return out


def draw(tokens=19, slots=40):
    dice = np.random.default_rng(0)
    before, counts = np.array([0, 11]), np.array([tokens, 7])
    lengths = (before + counts).astype(np.int32)
    real = np.arange(tokens) < counts[:, None]
    q_slots = np.where(real, before[:, None] + np.arange(tokens), slots).astype(np.int32)
    q = dice.normal(size=(2, tokens, 6, 8)).astype(np.float32)
    k, v = dice.normal(size=(2, 2, slots, 3, 8)).astype(np.float32)
    free = np.arange(slots) >= lengths[:, None]
    k[free], v[free] = np.nan, np.inf
    return (q, k, v, q_slots, lengths), real


def run(arguments, **options):
    q, k, v, q_slots, lengths = map(jnp.asarray, arguments)
    cache = KVCache(jnp.stack([k * jnp.nan, k]), jnp.stack([v * jnp.nan, v]), lengths)
    return np.asarray(attend(q, cache, jnp.int32(1), q_slots, lengths, **options))


@pytest.mark.parametrize("rows", [512, 8, 1])
@pytest.mark.parametrize("slots", [512, 16, 7])
@pytest.mark.parametrize("fixed", [False, True])
def test_in_blocks(monkeypatch, rows, slots, fixed):
    for name, value in {"_CHUNK_ROWS": rows, "_BLOCK_SLOTS": slots, "_BLOCK_SCORES": 1}.items():
        monkeypatch.setattr(attention, name, value)
    arguments, real = draw()
    found = run(arguments, fixed=fixed)
    assert np.isfinite(found).all()
    assert np.abs(found - plainly(*arguments))[real].max() < 1e-6


def test_the_form_of_accelerators(monkeypatch):
    monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")
    arguments, real = draw()
    assert np.abs(run(arguments) - plainly(*arguments))[real].max() < 1e-6
