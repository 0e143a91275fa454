"""A sparse mixture of gated experts (arXiv:1701.06538, arXiv:2101.03961)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int32

from encoders.nn.layers import Linear
from omni.decoder.config import TextConfig
from omni.decoder.mlp import MLP
from omni.decoder.ops.experts import visit


class Experts(nnx.Module):
    """The matrices of all experts: gate above up, and down."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        E, D, F = config.num_experts, config.hidden_size, config.moe_intermediate_size
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=0)
        self.gate_up_proj: nnx.Param[Any] = nnx.Param(init(rngs.params(), (E, 2 * F, D), dtype))
        self.down_proj: nnx.Param[Any] = nnx.Param(init(rngs.params(), (E, D, F), dtype))


class SparseMoeBlock(nnx.Module):
    """Routes each token to a few of many experts, and sums what they say by the router's weights.

    Where there is a shared expert, every token visits it, and a sigmoid of the token weighs what it says
    (arXiv:2401.06066).
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.gate: Linear = Linear(config.hidden_size, config.num_experts, use_bias=False, rngs=rngs, dtype=dtype)
        self.experts: Experts = Experts(config, rngs=rngs, dtype=dtype)
        self.top_k: int = config.num_experts_per_tok
        self.normalise: bool = config.norm_topk_prob
        self.balance: float = config.router_aux_loss_coef if config.output_router_logits else 0.0
        self.has_shared: bool = config.shared_expert_intermediate_size > 0
        if self.has_shared:
            self.shared_expert: MLP = MLP(
                config.hidden_size, config.shared_expert_intermediate_size, rngs=rngs, dtype=dtype
            )
            self.shared_expert_gate: Linear = Linear(config.hidden_size, 1, use_bias=False, rngs=rngs, dtype=dtype)

    def __call__(
        self, x: Float[jax.Array, "batch tokens width"], real: Bool[jax.Array, "batch tokens"]
    ) -> Float[jax.Array, "batch tokens width"]:
        """Keeps the shape.

        Args:
            x: normalised hidden states.
            real: False for pads, which visit no expert.
        """
        x_TD, real_T1 = x.reshape(-1, x.shape[-1]), real.reshape(-1, 1)
        weights_Tk, experts_Tk = self.route(x_TD, real_T1)
        out_TD = visit(
            jnp.where(real_T1, x_TD, 0),
            jnp.where(real_T1, experts_Tk, -1),
            jnp.where(real_T1, weights_Tk, 0),
            self.experts.gate_up_proj.get_value(),
            self.experts.down_proj.get_value(),
        )
        if self.has_shared:
            weight_T1 = jax.nn.sigmoid(self.shared_expert_gate(x_TD).astype(jnp.float32))
            out_TD = out_TD + weight_T1 * self.shared_expert(x_TD)
        return out_TD.astype(x.dtype).reshape(x.shape)

    def route(
        self, x: Float[jax.Array, "tokens width"], real: Bool[jax.Array, "tokens 1"]
    ) -> tuple[Float[jax.Array, "tokens chosen"], Int32[jax.Array, "tokens chosen"]]:
        """The weights and ids of the chosen experts: softmax over all experts in float32, then the largest."""
        probabilities_TE = jax.nn.softmax(self.gate(x).astype(jnp.float32), axis=-1)
        weights_Tk, experts_Tk = jax.lax.top_k(probabilities_TE, self.top_k)
        if self.balance:
            pull_TE = self.balance * balance_gradient(experts_Tk, real, probabilities_TE.shape[-1])
            probabilities_TE = _pulled(probabilities_TE, pull_TE)
            weights_Tk = jnp.take_along_axis(probabilities_TE, experts_Tk, axis=-1)
        if self.normalise:
            weights_Tk = weights_Tk / weights_Tk.sum(-1, keepdims=True)
        return weights_Tk, experts_Tk


def balance_gradient(
    experts: Int32[jax.Array, "tokens chosen"], real: Bool[jax.Array, "tokens 1"], count: int
) -> Float[jax.Array, "tokens experts"]:
    """The gradient of a layer's load balancing loss to the router's probabilities.

    The loss is E · Σₑ fₑ · pₑ: fₑ the visits of an expert and pₑ its mean probability, each a mean over real tokens
    (arXiv:2101.03961, equations 4 to 6). It is least when all experts are visited alike.
    """
    visits_TE = (experts[..., None] == jnp.arange(count)).sum(1) * real
    total = jnp.maximum(real.sum(), 1)
    return jnp.where(real, count * visits_TE.sum(0) / total / total, 0.0)


@jax.custom_vjp
def _pulled(probabilities: jax.Array, pull: jax.Array) -> jax.Array:
    """The probabilities as they are; a loss beside the loss acts through what is added to their gradient.

    So no sum of losses has to leave the layers, and a decoder computes one thing whether it is trained or not.
    """
    return probabilities


_pulled.defvjp(lambda probabilities, pull: (probabilities, pull), lambda pull, change: (change + pull, None))
