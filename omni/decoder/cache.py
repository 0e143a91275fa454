"""What a decoder remembers of the tokens read so far."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Int32, UInt16

from omni.decoder.config import TextConfig
from omni.decoder.gated_delta_net import GatedDeltaState

Stored = Float[Array, "layers batch slots kv_heads width"] | UInt16[Array, "layers batch slots kv_heads width"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class KVCache:
    """One slot a token, for each layer with full attention and each row of the batch; for each linear layer, a state.

    Rows fill from slot 0 on, each to its own length; slots from there on are free. A state sums up all tokens of its
    row, whatever their number. Donate the cache to the jitted call that updates it, and the update is in place.

    Attributes:
        keys: rotated keys. bfloat16 is kept as its bits: XLA on the CPU writes to a bfloat16 array by converting all
            of it to float32 and back.
        values: values, likewise.
        lengths: filled slots of each row.
        states: of the linear layers, in float32, a stack for each block of them that the config lists.
    """

    keys: Stored
    values: Stored
    lengths: Int32[Array, "batch"]
    states: tuple[GatedDeltaState, ...] = ()

    @classmethod
    def create(cls, config: TextConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> "KVCache":
        """An empty cache with room for `capacity` tokens a row."""
        full = config.layers_with("full_attention")
        shape = (full, batch, capacity, config.num_key_value_heads, config.head_width)
        stored = jnp.uint16 if dtype == jnp.bfloat16 else dtype

        def fresh(layers: int) -> GatedDeltaState:
            one = jax.eval_shape(lambda: GatedDeltaState.create(config.linear, batch))
            return jax.tree.map(lambda leaf: jnp.zeros((layers, *leaf.shape), leaf.dtype), one)

        linear = (block for block in config.blocks if block.kind.attention == "linear_attention")
        states = tuple(fresh(len(block.layers)) for block in linear)
        return cls(jnp.zeros(shape, stored), jnp.zeros(shape, stored), jnp.zeros(batch, jnp.int32), states)

    @property
    def capacity(self) -> int:
        """Most tokens that a row can hold."""
        return self.keys.shape[2]

    def grow(self, capacity: int) -> "KVCache":
        """The same content with room for `capacity` tokens a row.

        Raises:
            ValueError: that is less room than now.
        """
        if capacity < self.capacity:
            raise ValueError(f"a cache of {self.capacity} slots cannot grow to {capacity}")
        room = [(0, 0), (0, 0), (0, capacity - self.capacity), (0, 0), (0, 0)]
        return replace(self, keys=jnp.pad(self.keys, room), values=jnp.pad(self.values, room))

    def rewind(self, lengths: Int32[Array, "batch"]) -> "KVCache":
        """Forgets tokens from `lengths` on; where there are states, a row that is cut at all is forgotten whole."""
        if not self.states:
            return replace(self, lengths=jnp.minimum(self.lengths, lengths))
        kept_B = lengths >= self.lengths

        def keep(state: Array) -> Array:
            return jnp.where(kept_B.reshape(1, -1, *[1] * (state.ndim - 2)), state, 0)

        return replace(self, lengths=jnp.where(kept_B, self.lengths, 0), states=jax.tree.map(keep, self.states))

    def write(
        self,
        layer: Int[Array, ""] | int,
        slots: Int32[Array, "batch tokens"],
        keys: Float[Array, "batch tokens kv_heads width"],
        values: Float[Array, "batch tokens kv_heads width"],
    ) -> "KVCache":
        """Fills slots of one layer with full attention; a slot beyond the capacity is a pad's, and is not written."""
        at = (layer, jnp.arange(slots.shape[0])[:, None], slots)

        def fill(stored: Array, new: Array) -> Array:
            return stored.at[at].set(_to_stored(new, stored.dtype), mode="drop")

        return replace(self, keys=fill(self.keys, keys), values=fill(self.values, values))

    def layer(
        self, layer: Int[Array, ""] | int
    ) -> tuple[Float[Array, "batch slots kv_heads width"], Float[Array, "batch slots kv_heads width"]]:
        """All keys and values of one layer, free slots included."""
        return _from_stored(self.keys[layer]), _from_stored(self.values[layer])

    def block(
        self,
        layer: Int[Array, ""] | int,
        row: Int[Array, ""],
        head: Int[Array, ""],
        start: Int[Array, ""],
        size: int,
    ) -> tuple[Float[Array, "size width"], Float[Array, "size width"]]:
        """Keys and values of one head in `size` slots from `start` on, free slots included."""

        def cut(stored: Array) -> Array:
            block = lax.dynamic_slice(stored, (layer, row, start, head, 0), (1, 1, size, 1, stored.shape[-1]))
            return _from_stored(block.reshape(size, -1))

        return cut(self.keys), cut(self.values)

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        """The arrays; nothing is static."""
        return (self.keys, self.values, self.lengths, self.states), None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: tuple[Any, ...]) -> "KVCache":
        """Not through the constructor: what JAX puts in the place of arrays need not be arrays."""
        cache = object.__new__(cls)
        for name, leaf in zip(("keys", "values", "lengths", "states"), leaves, strict=True):
            object.__setattr__(cache, name, leaf)
        return cache


def _to_stored(new: Array, dtype: Any) -> Array:
    return lax.bitcast_convert_type(new.astype(jnp.bfloat16), dtype) if dtype == jnp.uint16 else new.astype(dtype)


def _from_stored(stored: Array) -> Array:
    return lax.bitcast_convert_type(stored, jnp.bfloat16) if stored.dtype == jnp.uint16 else stored
