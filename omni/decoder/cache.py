"""Keys and values of the tokens read so far."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Int32

from omni.decoder.config import TextConfig


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class KVCache:
    """One slot a token, for each layer and each row of the batch.

    Rows fill from slot 0 on, each to its own length; slots from there on are free. Donate the cache to the jitted
    call that updates it, and the update is in place.

    Attributes:
        keys: rotated keys.
        values: values.
        lengths: filled slots of each row.
    """

    keys: Float[jax.Array, "layers batch slots kv_heads width"]
    values: Float[jax.Array, "layers batch slots kv_heads width"]
    lengths: Int32[jax.Array, "batch"]

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        """The arrays; nothing is static."""
        return (self.keys, self.values, self.lengths), None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: tuple[Any, ...]) -> "KVCache":
        """Not through the constructor: what JAX puts in the place of arrays need not be arrays."""
        cache = object.__new__(cls)
        for name, leaf in zip(("keys", "values", "lengths"), leaves, strict=True):
            object.__setattr__(cache, name, leaf)
        return cache

    @classmethod
    def create(cls, config: TextConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> "KVCache":
        """An empty cache with room for `capacity` tokens a row."""
        shape = (config.num_hidden_layers, batch, capacity, config.num_key_value_heads, config.head_width)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(batch, jnp.int32))

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

    def write(
        self,
        layer: Int[jax.Array, ""] | int,
        slots: Int32[jax.Array, "batch tokens"],
        keys: Float[jax.Array, "batch tokens kv_heads width"],
        values: Float[jax.Array, "batch tokens kv_heads width"],
    ) -> "KVCache":
        """Fills slots of one layer; a slot beyond the capacity is a pad's, and is not written."""
        rows = jnp.arange(slots.shape[0])[:, None]
        at = (layer, rows, slots)
        return replace(
            self,
            keys=self.keys.at[at].set(keys.astype(self.keys.dtype), mode="drop"),
            values=self.values.at[at].set(values.astype(self.values.dtype), mode="drop"),
        )
