"""How tokens visit experts, with the weights left where they are.

`sum over k of weight[t, k] * down[e] @ (silu(gate[e] @ x[t]) * (up[e] @ x[t]))` with `e = expert[t, k]`, in four forms.
One is chosen here. All are equal and all differentiate; they differ in what they read and copy:

- `one_by_one`: an expert's matrices against one row, pair after pair of token and expert. Few tokens on a CPU.
- `in_blocks`: pairs sorted by expert, then a block of rows of one expert at a time. Many tokens on a CPU.
- `gathered`: the chosen matrices side by side in one batched product. Few tokens on an accelerator.
- `ragged`: pairs sorted by expert, then one grouped product. Many tokens on an accelerator; a CPU would run every
  expert on every row.

All take the matrices of one layer, which may lie in a stack of layers: cutting a layer out first would copy all of its
experts. An expert of -1 is none, and its weight must be 0.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int32

from encoders.nn.mesh import current_mesh, mesh_axes, on_each
from encoders.nn.platform import platform
from encoders.nn.weights import LayerWeight, Weight
from omni.decoder.ops.experts.blocks import in_blocks
from omni.decoder.ops.experts.gathered import gathered
from omni.decoder.ops.experts.one_by_one import one_by_one
from omni.decoder.ops.experts.ragged import ragged

Implementation = Literal["one_by_one", "in_blocks", "gathered", "ragged"]
IMPLEMENTATIONS: dict[str, Callable[..., jax.Array]] = {
    "one_by_one": one_by_one,
    "in_blocks": in_blocks,
    "gathered": gathered,
    "ragged": ragged,
}
# Pairs of token and expert, a multiple of the experts of a layer, up to which a form for few tokens is the faster.
_FEW = 1.5


def visit(
    x: Float[jax.Array, "tokens width"],
    experts: Int32[jax.Array, "tokens chosen"],
    weights: Float[jax.Array, "tokens chosen"],
    gate_up: Weight,
    down: Weight,
    *,
    implementation: Implementation | None = None,
) -> Float[jax.Array, "tokens width"]:
    """The weighted sum of what each token's experts say, in float32, in one of several forms.

    Args:
        x: hidden states.
        experts: of each token.
        weights: of what they say.
        gate_up: [experts, 2 * hidden, width], gate above up.
        down: [experts, width, hidden].
        implementation: which form; chosen by where programs run, and by how many visits there are, when None.
    """
    mesh = current_mesh()
    if mesh is not None:
        return _visit_on_mesh(mesh, x, experts, weights, gate_up, down, implementation)
    form = IMPLEMENTATIONS[implementation or _choice(experts.size, gate_up.shape[0])]
    return form(x, experts, weights, gate_up, down)


def _visit_on_mesh(
    mesh: Mesh,
    x: jax.Array,
    experts: jax.Array,
    weights: jax.Array,
    gate_up: Weight,
    down: Weight,
    implementation: Implementation | None,
) -> jax.Array:
    """Each device lets the tokens of its rows visit the experts that it has; what all of them say is summed."""
    count = gate_up.shape[0]
    axes = mesh_axes("experts", count, mesh)
    rows = mesh_axes("batch", len(x), mesh, axes)
    if mesh_axes("width", x.shape[-1], mesh) and isinstance(gate_up, LayerWeight) and isinstance(down, LayerWeight):
        # The rest of the width lies on other devices: of one layer it is fetched, and not of the whole stack.
        gate_up, down = (_cut_out(weight) for weight in (gate_up, down))

    def spec(leaf: jax.Array, weight: Weight) -> PartitionSpec:
        stacked = isinstance(weight, LayerWeight) and leaf.ndim > 0
        return PartitionSpec(*([None] if stacked else []), axes or None) if leaf.ndim else PartitionSpec()

    def local(x: jax.Array, experts: jax.Array, weights: jax.Array, gate_up: Weight, down: Weight) -> jax.Array:
        if not axes:
            return visit(x, experts, weights, gate_up, down, implementation=implementation)
        own = gate_up.shape[0]
        numbers = experts - lax.axis_index(axes) * own
        mine = (experts >= 0) & (0 <= numbers) & (numbers < own)
        found = visit(
            x,
            jnp.where(mine, numbers, -1),
            jnp.where(mine, weights, 0),
            gate_up,
            down,
            implementation=implementation or _choice(experts.size, count),
        )
        return lax.psum(found, axes)

    tokens = PartitionSpec(rows or None)
    matrices = (jax.tree.map(lambda leaf, weight=weight: spec(leaf, weight), weight) for weight in (gate_up, down))
    return on_each(local, mesh, (tokens, tokens, tokens, *matrices), tokens)(x, experts, weights, gate_up, down)


def _cut_out(weight: LayerWeight) -> Weight:
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, weight.layer, keepdims=False), weight.stack)


def _choice(visits: int, experts: int) -> Implementation:
    few = visits <= _FEW * experts
    if platform() == "cpu":
        return "one_by_one" if few else "in_blocks"
    return "gathered" if few else "ragged"
