"""Reading one matrix of a stack of matrices inside a loop, in place."""

from typing import Any

import jax
from jax import lax
from jaxtyping import Int


def member(stacks: Any, index: Int[jax.Array, ""]) -> Any:
    """The arrays at `index` of the leading axis of each stack, in any tree of stacks.

    Two habits of XLA on the CPU make this more than indexing. It converts a bfloat16 array to float32 before it cuts,
    and, as the conversion of a whole stack does not depend on the loop, does so ahead of the loop: every layer, every
    expert. The barrier makes the stacks depend on the index. And it shares among threads what is cut by rows from a
    matrix, not what is cut from a stack of matrices.
    """
    stacks, index = lax.optimization_barrier((stacks, index))

    def cut(stack: jax.Array) -> jax.Array:
        if stack.ndim < 3:
            return lax.dynamic_index_in_dim(stack, index, keepdims=False)
        rows, *rest = stack.shape[1:]
        return lax.dynamic_slice_in_dim(stack.reshape(-1, *rest), index * rows, rows)

    return jax.tree.map(cut, stacks)
