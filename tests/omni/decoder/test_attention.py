"""Attention over the slots of a cache, against a plain NumPy one."""

import jax.numpy as jnp
import numpy as np
import pytest

from omni.decoder.cache import HybridCache
from omni.decoder.ops.attention import api, attend, blocks, one_query


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


def run(arguments, span=True, **options):
    """Rows side by side, or in a pool where others' slots lie between them."""
    q, k, v, q_slots, lengths = map(jnp.asarray, arguments)
    B, S, *_ = k.shape
    offsets = [0, S] if span else [S + 13, 5]
    pool = jnp.full((2, 2 * S + (0 if span else 13), *k.shape[2:]), jnp.nan)
    k, v = (_scatter(pool, offsets, a) for a in (k, v))
    cache = HybridCache(
        k, v, jnp.asarray(offsets, jnp.int32), lengths, jnp.arange(B, dtype=jnp.int32), span=S if span else None
    )
    return np.asarray(attend(q, cache, jnp.int32(1), q_slots, lengths, **options))


def _scatter(pool, offsets, rows):
    for offset, row in zip(offsets, rows, strict=True):
        pool = pool.at[1, offset : offset + len(row)].set(row)
    return pool


@pytest.mark.parametrize("rows", [512, 8, 1])
@pytest.mark.parametrize("slots", [512, 16, 7])
@pytest.mark.parametrize("scores", [1, 1 << 7])
@pytest.mark.parametrize(("fixed", "span"), [(False, True), (True, True), (False, False)])
def test_in_blocks(monkeypatch, rows, slots, scores, fixed, span):
    sizes = {"_CHUNK_ROWS": rows, "_BLOCK_SLOTS": slots, "_BLOCK_SCORES": scores, "FEW_SLOTS": min(slots, 64)}
    for name, value in sizes.items():
        monkeypatch.setattr(blocks, name, value)
    arguments, real = draw()
    found = run(arguments, span, fixed=fixed, implementation="blocks")
    assert np.isfinite(found).all()
    assert np.abs(found - plainly(*arguments))[real].max() < 1e-6


@pytest.mark.parametrize("few", [1, 5, 64])
@pytest.mark.parametrize("many", [4, 7, 1024])
@pytest.mark.parametrize("span", [True, False])
def test_one_query(monkeypatch, few, many, span):
    monkeypatch.setattr(one_query, "FEW_SLOTS", few)
    monkeypatch.setattr(one_query, "_MANY_SLOTS", many)
    (q, k, v, q_slots, lengths), _ = draw()
    last = lengths - 1
    arguments = q[:, :1], k, v, last[:, None], lengths
    found = run(arguments, span, implementation="one_query")
    assert np.abs(found - plainly(*arguments)).max() < 1e-6
    # A row that only fills up the batch sees nothing.
    idle = q[:, :1], k, v, np.array([[last[0]], [q_slots.max()]], np.int32), lengths
    assert np.isfinite(run(idle, span, implementation="one_query")).all()
    assert not run(idle, span, implementation="one_query")[1].any()


def test_the_form_of_accelerators():
    arguments, real = draw()
    assert np.abs(run(arguments, implementation="whole") - plainly(*arguments))[real].max() < 1e-6


@pytest.mark.parametrize(
    ("platform", "tokens", "span", "fixed", "chosen"),
    [
        ("cpu", 1, None, False, "one_query"),
        ("cpu", 1, 64, True, "blocks"),
        ("cpu", 9, None, False, "blocks"),
        ("gpu", 1, 64, False, "whole"),
        ("gpu", 9, None, False, "blocks"),
        ("tpu", 8192, 8192, False, "blocks"),
    ],
)
def test_the_form_suits_where_programs_run(platform, tokens, span, fixed, chosen, monkeypatch):
    monkeypatch.setattr(api, "platform", lambda: platform)
    assert api._choice((1, tokens, 8, 4), span, fixed) == chosen
