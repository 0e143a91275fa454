"""The gated delta rule: three forms and one result, however the tokens are cut, padded and gated."""

import os
import subprocess
import sys
import textwrap
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni.decoder.ops.gated_delta.chunked import chunked
from omni.decoder.ops.gated_delta.chunked_fast import chunked_fast
from omni.decoder.ops.gated_delta.recurrent import recurrent
from tests.golden.load import relative_error

ROOT = Path(__file__).parents[3]

FORMS = {"recurrent": recurrent, "chunked": chunked, "chunked_fast": chunked_fast}
K, N, H, U = 2, 4, 16, 24


def draw(batch: int, tokens: int, seed: int = 0, lowest: float = -18.0, scale: float = 3.0) -> tuple[jax.Array, ...]:
    """q, k, v, g, beta: gates from exp(lowest) to nearly 1, even on a logarithmic scale of 1 - gate and of gate."""
    rng = np.random.RandomState(seed)
    q, k = rng.normal(0, scale, (2, batch, tokens, K, H))
    v = rng.normal(0, 1, (batch, tokens, N, U))
    near_0 = rng.uniform(lowest, 0, (batch, tokens, N))
    near_1 = np.log1p(-np.exp(rng.uniform(-14, 0, (batch, tokens, N))))
    g = np.where(rng.rand(batch, tokens, N) < 0.3, near_0, near_1)
    beta = 1 / (1 + np.exp(-rng.normal(0, 4, (batch, tokens, N))))
    return tuple(jnp.asarray(a, jnp.float32) for a in (q, k, v, g, beta))


def state(batch: int, seed: int = 9) -> jax.Array:
    return jnp.asarray(np.random.RandomState(seed).normal(0, 1, (batch, N, H, U)), jnp.float32)


@cache
def compiled(form: str, **options):
    return jax.jit(partial(FORMS[form], **options))


def run(form: str, x, counts=(150, 150)) -> tuple[jax.Array, jax.Array]:
    """Of 2 rows of 150 tokens, on from a state: one program for all such tests."""
    return compiled(form)(*x, counts=jnp.asarray(counts, jnp.int32))


def close(found, expected, bound: float = 1e-5) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < bound


def exact(q, k, v, g, beta, S) -> tuple[np.ndarray, np.ndarray]:
    """The rule as it is defined, in float64."""
    q, k, v, g, beta, S = (np.asarray(a, np.float64) for a in (q, k, v, g, beta, S))
    q, k = (a / np.sqrt((a * a).sum(-1, keepdims=True) + 1e-6) for a in (q, k))
    q, k = (a.repeat(v.shape[2] // a.shape[2], axis=2) for a in (q, k))
    out = np.empty_like(v)
    for t in range(v.shape[1]):
        S = S * np.exp(g[:, t])[..., None, None]
        change = beta[:, t, :, None] * (v[:, t] - np.einsum("bnh,bnhu->bnu", k[:, t], S))
        S = S + k[:, t, :, :, None] * change[:, :, None]
        out[:, t] = np.einsum("bnh,bnhu->bnu", q[:, t], S) / q.shape[-1] ** 0.5
    return out, S


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200, 1025, 4096])
def test_forms_agree_with_float64(tokens):
    x = draw(1, tokens)
    expected = exact(*x, state(1))
    for form in FORMS:
        close(compiled(form)(*x, state(1)), expected)


@pytest.mark.parametrize("form", FORMS)
def test_without_a_state_begins_at_zero(form):
    x = draw(2, 150)
    close(compiled(form)(*x), exact(*x, jnp.zeros((2, N, H, U))))


@pytest.mark.parametrize("gate", [0.0, -1e-7, -30.0, -1e4, -np.inf])
@pytest.mark.parametrize("form", FORMS)
def test_gates_that_keep_or_forget_everything(form, gate):
    q, k, v, g, beta = draw(2, 150)
    x = q, k, v, jnp.full_like(g, gate), beta, state(2)
    close(run(form, x), exact(*x))


@pytest.mark.parametrize("form", FORMS)
def test_equal_keys_written_in_full(form):
    """The hardest triangular system: powers of it exceed 1e17, its inverse has nothing above 1."""
    q, k, v, g, _ = draw(2, 150)
    x = q, jnp.broadcast_to(k[:, :1], k.shape), v, jnp.zeros_like(g), jnp.ones_like(g), state(2)
    close(run(form, x), exact(*x))


@pytest.mark.parametrize("chunk_size", [1, 128])
@pytest.mark.parametrize("form", ["chunked", "chunked_fast"])
def test_chunk_size_changes_nothing(form, chunk_size):
    x = draw(2, 150)
    close(compiled(form, chunk_size=chunk_size)(*x), compiled("recurrent")(*x))


def test_schedules_agree(monkeypatch):
    x = draw(2, 150)
    expected = compiled("chunked_fast")(*x)
    monkeypatch.setattr(sys.modules[chunked_fast.__module__], "platform", lambda: "tpu")
    close(jax.jit(lambda *x: chunked_fast(*x))(*x), expected, 1e-6)


def test_heads_spread_over_devices(tmp_path):
    """Each device works on its heads, and the results stay there."""
    code = f"""
        import sys
        import jax, numpy as np
        jax.config.update("jax_num_cpu_devices", 2)
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        from tests.omni.decoder.test_gated_delta import chunked_fast, draw
        heads = NamedSharding(Mesh(jax.devices(), "heads"), P(None, None, "heads"))
        results = {{}}
        for batch in (1, 2):
            out, S = jax.jit(chunked_fast)(*jax.device_put(draw(batch, 150), heads))
            assert {{a.data.shape for a in out.addressable_shards}} == {{(batch, 150, {N // 2}, {U})}}, out.sharding
            results |= {{f"out{{batch}}": np.asarray(out), f"S{{batch}}": np.asarray(S)}}
        np.savez(sys.argv[1], **results)
    """
    program = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "found.npz")]
    subprocess.run(program, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with np.load(tmp_path / "found.npz") as found:
        for batch in (1, 2):
            close((found[f"out{batch}"], found[f"S{batch}"]), compiled("recurrent")(*draw(batch, 150)))


def test_chunk_size_of_the_fast_form():
    with pytest.raises(ValueError, match="chunk_size=48 is not a power of two"):
        chunked_fast(*draw(1, 8), chunk_size=48)


@pytest.mark.parametrize("form", FORMS)
def test_unit_length_is_an_option(form):
    q, k, *rest = draw(2, 150, scale=0.1)
    unit = [a / jnp.sqrt((a * a).sum(-1, keepdims=True) + 1e-6) for a in (q, k)]
    plain = compiled(form, normalize_qk=False)
    close(plain(*unit, *rest), compiled(form)(q, k, *rest))
    assert relative_error(plain(q, k, *rest)[0], compiled(form)(q, k, *rest)[0]) > 0.1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [1, 40, 64, 99, 149])
def test_split_anywhere_equals_whole(form, cut):
    """Both parts stand at the start of arrays of one length, with pads behind them."""
    x = draw(2, 150)
    first, S = run(form, (*x, state(2)), (cut, cut))
    second, S = run(form, (*(jnp.roll(a, -cut, axis=1) for a in x), S), (150 - cut, 150 - cut))
    close((jnp.concatenate([first[:, :cut], second[:, : 150 - cut]], 1), S), exact(*x, state(2)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("counts", [(70, 0), (1, 64)])
def test_pads_change_nothing(form, counts):
    x = padded = draw(2, 150)
    for row, count in enumerate(counts):
        padded = tuple(a.at[row, count:].set(jnp.nan) for a in padded)
    out, S = run(form, (*padded, state(2)), counts)
    assert np.isfinite(np.asarray(out)).all()
    for row, count in enumerate(counts):
        alone = exact(*(a[row : row + 1, :count] for a in x), state(2)[row : row + 1])
        if count:
            close((out[row : row + 1, :count], S[row : row + 1]), alone)
        else:
            np.testing.assert_array_equal(S[row], state(2)[row])


def test_lower_precision_keeps_the_state():
    x = draw(2, 150)
    out, S = compiled("chunked_fast", dtype=jnp.bfloat16)(*x)
    close((out, S), compiled("recurrent")(*x), 0.02)
    halves = tuple(a.astype(jnp.bfloat16) for a in x)
    out, S = compiled("chunked_fast")(*halves)
    assert out.dtype == jnp.bfloat16 and S.dtype == jnp.float32


# --- gradients --------------------------------------------------------------------------------------------------------


def loss(form: str, *x: jax.Array) -> jax.Array:
    """A number that depends on all outputs and the state, each with a weight of its own."""
    out, S = FORMS[form](*x)
    return jnp.vdot(out, jnp.cos(jnp.arange(out.size)).reshape(out.shape)) + jnp.vdot(
        S, jnp.sin(jnp.arange(S.size)).reshape(S.shape)
    )


@cache
def gradient(form: str):
    return jax.jit(jax.grad(partial(loss, form), argnums=range(6)))


def test_gradients_agree():
    x = (*draw(1, 70), state(1))
    expected = gradient("recurrent")(*x)
    for form in ("chunked", "chunked_fast"):
        close(gradient(form)(*x), expected, 1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_against_differences(form):
    x = (*draw(1, 70, lowest=-4.0), state(1))
    direction = [jnp.asarray(np.random.RandomState(i).normal(0, 1, a.shape), jnp.float32) for i, a in enumerate(x)]
    slope = sum(float(jnp.vdot(a, b)) for a, b in zip(gradient(form)(*x), direction, strict=True))

    def at(step: float) -> float:
        moved = [np.asarray(a, np.float64) + step * np.asarray(b) for a, b in zip(x, direction, strict=True)]
        out, S = exact(*moved)
        return float(out.ravel() @ np.cos(np.arange(out.size)) + S.ravel() @ np.sin(np.arange(S.size)))

    assert slope == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("gate", [0.0, -1e-30, -100.0, -1e5, -np.inf])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite(form, gate):
    q, k, v, g, beta = draw(1, 70)
    mixed = g.at[:, ::3].set(gate)  # beside ordinary gates
    still = k.at[:, 5].set(0)
    for found in gradient(form)(q, still, v, mixed, beta.at[:, 7].set(0), state(1)):
        assert np.isfinite(np.asarray(found)).all()
