"""Linear attention by the gated delta rule, the layer of Qwen3-Next and Qwen3.5."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int32

from encoders.nn.layers import Linear
from omni.decoder.causal_conv import CausalConv
from omni.decoder.norm import RMSNorm
from omni.decoder.ops.gated_delta import gated_delta_rule


@dataclass(frozen=True)
class GatedDeltaConfig:
    """One layer; fields are named as in the reference's `Qwen3NextConfig`.

    Attributes:
        hidden_size: D, width of the hidden state.
        linear_num_value_heads: N, heads that keep a state.
        linear_num_key_heads: K, heads of queries and keys; each serves N / K value heads.
        linear_key_head_dim: H, width of a query or key.
        linear_value_head_dim: U, width of a value.
        linear_conv_kernel_dim: tokens that the convolution sees.
        rms_norm_eps: added to the mean square of the outputs.
    """

    hidden_size: int
    linear_num_value_heads: int = 32
    linear_num_key_heads: int = 16
    linear_key_head_dim: int = 128
    linear_value_head_dim: int = 128
    linear_conv_kernel_dim: int = 4
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.linear_num_value_heads % self.linear_num_key_heads:
            raise ValueError(
                f"linear_num_value_heads={self.linear_num_value_heads} is not a multiple of "
                f"linear_num_key_heads={self.linear_num_key_heads}"
            )

    @property
    def key_width(self) -> int:
        """Of the keys of all heads."""
        return self.linear_num_key_heads * self.linear_key_head_dim

    @property
    def value_width(self) -> int:
        """Of the values of all heads."""
        return self.linear_num_value_heads * self.linear_value_head_dim

    @property
    def conv_width(self) -> int:
        """Channels of the convolution: queries, keys and values."""
        return 2 * self.key_width + self.value_width


class GatedDeltaState(NamedTuple):
    """What a layer remembers of the tokens read so far, whatever their number.

    Attributes:
        tail: the last inputs of the convolution.
        delta: S of each head, float32.
    """

    tail: Float[jax.Array, "batch past channels"]
    delta: Float[jax.Array, "batch heads key_width value_width"]

    @classmethod
    def create(cls, config: GatedDeltaConfig, batch: int, dtype: Any = jnp.float32) -> "GatedDeltaState":
        """The state before the first token; `dtype` is that of the hidden state."""
        heads, width = config.linear_num_value_heads, config.linear_key_head_dim
        return cls(
            jnp.zeros((batch, config.linear_conv_kernel_dim - 1, config.conv_width), dtype),
            jnp.zeros((batch, heads, width, config.linear_value_head_dim), jnp.float32),
        )


class GatedDeltaNet(nnx.Module):
    """Projections, a short convolution, the gated delta rule, a gated norm, and a projection back (arXiv:2412.06464).

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights.
    """

    def __init__(self, config: GatedDeltaConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.config = config
        heads = config.linear_num_value_heads
        speeds = jax.random.uniform(rngs.params(), (heads,), minval=0.01, maxval=16.0)
        self.conv1d: CausalConv = CausalConv(config.conv_width, config.linear_conv_kernel_dim, rngs=rngs, dtype=dtype)
        self.A_log: nnx.Param[Any] = nnx.Param(jnp.log(speeds).astype(dtype))
        self.dt_bias: nnx.Param[Any] = nnx.Param(jnp.ones(heads, dtype))
        self.norm: RMSNorm = RMSNorm(config.linear_value_head_dim, config.rms_norm_eps, dtype=dtype)
        self.out_proj: Linear = Linear(config.value_width, config.hidden_size, use_bias=False, rngs=rngs, dtype=dtype)

    @abstractmethod
    def project(self, x: Float[jax.Array, "batch tokens width"]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values side by side as the convolution sees them [B, T, 2 K H + N U], the gate of the
        outputs z [B, T, N, U], and what writing b and forgetting a depend on [B, T, N]."""

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        state: GatedDeltaState | None = None,
        counts: Int32[jax.Array, "batch"] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], GatedDeltaState]:
        """Mixes each token with those before it.

        Args:
            x: normalised hidden states, padded on the right.
            state: what came before; None when nothing did.
            counts: real tokens of each row; all when None. Pads change neither the state nor another token.

        Returns:
            The mixed hidden states, and the state after the last real token of each row.
        """
        config = self.config
        K, H = config.linear_num_key_heads, config.linear_key_head_dim
        if state is None:
            state = GatedDeltaState.create(config, x.shape[0], x.dtype)
        qkv, z_BTNU, b_BTN, a_BTN = self.project(x)
        qkv, tail = self.conv1d(qkv, state.tail, counts)
        q, k, v = jnp.split(qkv, (config.key_width, 2 * config.key_width), axis=-1)
        q_BTKH, k_BTKH = (a.reshape(*x.shape[:2], K, H) for a in (q, k))
        out_BTNU, delta = gated_delta_rule(
            q_BTKH, k_BTKH, v.reshape(z_BTNU.shape), *self._gates(b_BTN, a_BTN), state.delta, counts=counts
        )
        gated = self.norm(out_BTNU).astype(jnp.float32) * jax.nn.silu(z_BTNU.astype(jnp.float32))
        out = self.out_proj(gated.astype(x.dtype).reshape(*x.shape[:2], -1))
        return out, GatedDeltaState(tail, delta)

    def _gates(self, b_BTN: jax.Array, a_BTN: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The logarithm of what is kept of the state, and how much of the difference is written; in float32."""
        A_log, dt_bias = (p[...].astype(jnp.float32) for p in (self.A_log, self.dt_bias))
        g = -jnp.exp(A_log) * jax.nn.softplus(a_BTN.astype(jnp.float32) + dt_bias)
        return g, jax.nn.sigmoid(b_BTN.astype(jnp.float32))


class SeparateGatedDeltaNet(GatedDeltaNet):
    """With a matrix for queries, keys and values, and one each for z, b and a: as Qwen3.5 has them."""

    def __init__(self, config: GatedDeltaConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        super().__init__(config, rngs=rngs, dtype=dtype)
        width, heads = config.hidden_size, config.linear_num_value_heads
        self.in_proj_qkv: Linear = Linear(width, config.conv_width, use_bias=False, rngs=rngs, dtype=dtype)
        self.in_proj_z: Linear = Linear(width, config.value_width, use_bias=False, rngs=rngs, dtype=dtype)
        self.in_proj_b: Linear = Linear(width, heads, use_bias=False, rngs=rngs, dtype=dtype)
        self.in_proj_a: Linear = Linear(width, heads, use_bias=False, rngs=rngs, dtype=dtype)

    def project(self, x: Float[jax.Array, "batch tokens width"]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        z_BTNU = self.in_proj_z(x).reshape(*x.shape[:2], -1, self.config.linear_value_head_dim)
        return self.in_proj_qkv(x), z_BTNU, self.in_proj_b(x), self.in_proj_a(x)


class InterleavedGatedDeltaNet(GatedDeltaNet):
    """With two matrices whose rows go by key head, as Qwen3-Next has them.

    The rows of a key head in one are its query and key, then the values, then the gates z of the value heads that it
    serves; in the other the b and the a of those heads.
    """

    def __init__(self, config: GatedDeltaConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        super().__init__(config, rngs=rngs, dtype=dtype)
        width, heads = config.hidden_size, config.linear_num_value_heads
        rows = config.conv_width + config.value_width
        self.in_proj_qkvz: Linear = Linear(width, rows, use_bias=False, rngs=rngs, dtype=dtype)
        self.in_proj_ba: Linear = Linear(width, 2 * heads, use_bias=False, rngs=rngs, dtype=dtype)

    def project(self, x: Float[jax.Array, "batch tokens width"]) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        B, T = x.shape[:2]
        K, H, U = (
            self.config.linear_num_key_heads,
            self.config.linear_key_head_dim,
            self.config.linear_value_head_dim,
        )
        values = self.config.value_width // K
        by_head = self.in_proj_qkvz(x).reshape(B, T, K, -1)
        q, k, v, z = jnp.split(by_head, (H, 2 * H, 2 * H + values), axis=-1)
        b, a = jnp.split(self.in_proj_ba(x).reshape(B, T, K, -1), 2, axis=-1)
        qkv = jnp.concatenate([part.reshape(B, T, -1) for part in (q, k, v)], axis=-1)
        return qkv, z.reshape(B, T, -1, U), b.reshape(B, T, -1), a.reshape(B, T, -1)
