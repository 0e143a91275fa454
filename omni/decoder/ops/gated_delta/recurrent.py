"""The gated delta rule token after token."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int32

from omni.decoder.ops.gated_delta.parts import Ready, begin, inputs_of, ready, shared_out


def recurrent(
    q: Float[jax.Array, "batch tokens key_heads key_width"],
    k: Float[jax.Array, "batch tokens key_heads key_width"],
    v: Float[jax.Array, "batch tokens heads value_width"],
    g: Float[jax.Array, "batch tokens heads"],
    beta: Float[jax.Array, "batch tokens heads"],
    initial_state: Float[jax.Array, "batch heads key_width value_width"] | None = None,
    *,
    counts: Int32[jax.Array, "batch"] | None = None,
    normalize_qk: bool = True,
) -> tuple[Float[jax.Array, "batch tokens heads value_width"], Float[jax.Array, "batch heads key_width value_width"]]:
    """One token after another, in float32.

    Args:
        q: queries; scaled here by 1 / sqrt(H).
        k: keys.
        v: values.
        g: logarithms of the gates, at most 0; -inf forgets everything.
        beta: how much of the difference is written, 0 to 1.
        initial_state: S of each head; zeros when None.
        counts: real tokens of each row; all when None.
        normalize_qk: whether queries and keys are first scaled to unit length.

    Returns:
        The outputs, in the dtype of `q`, and the state after the last real token, in float32.
    """
    made = shared_out(ready(inputs_of(q, k, v, g, beta, counts), normalize_qk))

    def step(S_BNHU: jax.Array, token: Ready) -> tuple[jax.Array, jax.Array]:
        q_BNH, k_BNH, v_BNU, g_BN, beta_BN = token
        S_BNHU = S_BNHU * jnp.exp(g_BN)[..., None, None]
        said_BNU = (S_BNHU * k_BNH[..., None]).sum(-2)
        change_BNU = beta_BN[..., None] * (v_BNU - said_BNU)
        S_BNHU = S_BNHU + k_BNH[..., None] * change_BNU[..., None, :]
        return S_BNHU, (S_BNHU * q_BNH[..., None]).sum(-2)

    tokens = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), made)
    S, out_TBNU = lax.scan(step, begin(k, v, initial_state), tokens)
    return jnp.moveaxis(out_TBNU, 0, 1).astype(q.dtype), S
