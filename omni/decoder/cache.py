"""What a decoder remembers of the tokens read so far: keys and values of attention, states of linear layers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32, UInt16

from encoders.nn.mesh import apart, constrain, on_mesh
from omni.decoder.config import TextConfig
from omni.decoder.gated_delta_net import GatedDeltaState

Stored = Float[Array, "layers slots kv_heads width"] | UInt16[Array, "layers slots kv_heads width"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False)
class HybridCache:
    """A pool of slots, one a token, for each layer with full attention; for each linear layer a state a row.

    A row of a batch owns a region of neighbouring slots, and fills it from its first slot on; which rows a batch has is
    data, so one program serves any of them. A state sums up all tokens of its row, whatever their number. Donate the
    cache to the jitted call that updates it, and the update is in place.

    Attributes:
        keys: rotated keys. bfloat16 is kept as its bits: XLA on the CPU writes to a bfloat16 array by converting all
            of it to float32 and back.
        values: values, likewise.
        offsets: first slot of each row of the batch.
        lengths: filled slots of each row.
        places: where each row's states stand; beyond them all for a row that only fills up the batch.
        states: of the linear layers, in float32, a stack [layers, places, ...] for each block of them that the config
            lists.
        span: slots of a region, where all have the same number; None where they differ.
    """

    keys: Stored
    values: Stored
    offsets: Int32[Array, "batch"]
    lengths: Int32[Array, "batch"]
    places: Int32[Array, "batch"]
    states: tuple[GatedDeltaState, ...] = ()
    span: int | None = field(default=None)

    @classmethod
    def create(cls, config: TextConfig, batch: int, capacity: int, dtype: Any = jnp.float32) -> "HybridCache":
        """An empty cache for a batch whose rows have `capacity` slots each."""
        full = config.layers_with("full_attention")
        shape = (full, batch * capacity, config.num_key_value_heads, config.head_width)
        stored = jnp.uint16 if dtype == jnp.bfloat16 else dtype
        rows = jnp.arange(batch, dtype=jnp.int32)
        return cls(
            jnp.zeros(shape, stored),
            jnp.zeros(shape, stored),
            rows * capacity,
            jnp.zeros(batch, jnp.int32),
            rows,
            _fresh_states(config, batch),
            capacity,
        )

    @property
    def slots(self) -> int:
        """Of all rows together."""
        return self.keys.shape[1]

    def grow(self, slots: int, places: int) -> "HybridCache":
        """The same content in a pool of so many slots and states.

        Raises:
            ValueError: that is less than now.
        """
        before = self.states[0].tail.shape[1] if self.states else 0
        if slots < self.slots or places < before:
            raise ValueError(f"a cache of {self.slots} slots and {before} states cannot grow to {slots} and {places}")

        def widen(pool: Array, size: int) -> Array:
            return jnp.pad(pool, [(0, 0), (0, size - pool.shape[1]), *[(0, 0)] * (pool.ndim - 2)])

        states = jax.tree.map(lambda leaf: widen(leaf, places), self.states)
        return replace(self, keys=widen(self.keys, slots), values=widen(self.values, slots), states=states, span=None)

    def write(
        self,
        layer: Int[Array, ""] | int,
        slots: Int32[Array, "batch tokens"],
        keys: Float[Array, "batch tokens kv_heads width"],
        values: Float[Array, "batch tokens kv_heads width"],
    ) -> "HybridCache":
        """Fills slots of one layer, counted from the beginning of each row's region; pads stand beyond every slot."""
        limit = self.slots if self.span is None else self.span
        at = jnp.where(slots < limit, self.offsets[:, None] + slots, self.slots)

        def fill(stored: Array, new: Array, layer: Array, at: Array) -> Array:
            return stored.at[layer, at].set(_to_stored(new, stored.dtype), mode="drop")

        def filled(stored: Array, new: Array) -> Array:
            # Every device has slots of all rows, for heads of its own.
            axes = (_POOL, (None, None, "heads", None), (), (None, None))
            return apart(fill, (stored, new, jnp.asarray(layer, jnp.int32), at), axes, _POOL)

        return replace(self, keys=filled(self.keys, keys), values=filled(self.values, values))

    def rows(
        self, layer: Int[Array, ""] | int, span: int
    ) -> tuple[Float[Array, "batch span kv_heads width"], Float[Array, "batch span kv_heads width"]]:
        """The first keys and values of each row in one layer, free slots included."""
        at = self.offsets[:, None] + jnp.arange(span)
        return tuple(_from_stored(pool[layer].at[at].get(mode="clip")) for pool in (self.keys, self.values))  # pyright: ignore[reportReturnType]

    def block(
        self, layer: Int[Array, ""] | int, head: Int[Array, ""], start: Int[Array, ""], size: int
    ) -> tuple[Float[Array, "size width"], Float[Array, "size width"]]:
        """Keys and values of one head in `size` slots of the pool from `start` on."""

        def cut(stored: Array) -> Array:
            block = lax.dynamic_slice(stored, (layer, start, head, 0), (1, size, 1, stored.shape[-1]))
            return _from_stored(block.reshape(size, -1))

        return cut(self.keys), cut(self.values)

    def heads(
        self, layer: Int[Array, ""] | int, start: Int[Array, ""], size: int
    ) -> tuple[Float[Array, "size kv_heads width"], Float[Array, "size kv_heads width"]]:
        """Keys and values of all heads in `size` slots of the pool from `start` on."""

        def cut(stored: Array) -> Array:
            block = lax.dynamic_slice(stored, (layer, start, 0, 0), (1, size, *stored.shape[2:]))
            return _from_stored(block[0])

        return cut(self.keys), cut(self.values)

    def state(self, block: int, layer: Int[Array, ""] | int) -> GatedDeltaState:
        """The states of the batch's rows in one linear layer; zeros for a row that has read nothing."""

        def take(stack: Array) -> Array:
            rows = stack.at[layer, self.places].get(mode="clip")
            return jnp.where((self.lengths > 0).reshape(-1, *[1] * (rows.ndim - 1)), rows, 0)

        return jax.tree.map(take, self.states[block])

    def keep_state(self, block: int, layer: Int[Array, ""] | int, state: GatedDeltaState) -> "HybridCache":
        """Replaces the states of the batch's rows in one linear layer."""
        kept = jax.tree.map(
            lambda stack, rows: stack.at[layer, self.places].set(rows, mode="drop"), self.states[block], state
        )
        kept = _constrain_state(kept)
        return replace(self, states=(*self.states[:block], kept, *self.states[block + 1 :]))

    def constrained(self) -> "HybridCache":
        """The same, cut along the mesh that the program which is being traced runs on: heads one from another."""
        states = tuple(map(_constrain_state, self.states))
        return replace(self, keys=constrain(self.keys, *_POOL), values=constrain(self.values, *_POOL), states=states)

    def tree_flatten(self) -> tuple[tuple[Any, ...], int | None]:
        """The arrays; the span is static."""
        return tuple(getattr(self, name) for name in _ARRAYS), self.span

    @classmethod
    def tree_unflatten(cls, span: int | None, leaves: tuple[Any, ...]) -> "HybridCache":
        """Not through the constructor: what JAX puts in the place of arrays need not be arrays."""
        cache = object.__new__(cls)
        for name, leaf in zip(_ARRAYS, leaves, strict=True):
            object.__setattr__(cache, name, leaf)
        object.__setattr__(cache, "span", span)
        return cache


_POOL = (None, None, "heads", None)
_STATE: Any = ((None,) * 4, (None, None, "heads", None, None))  # tail, delta
_ARRAYS = ("keys", "values", "offsets", "lengths", "places", "states")


def create_cache(config: TextConfig, batch: int, capacity: int, dtype: Any, mesh: Mesh | None) -> HybridCache:
    """An empty cache, as `HybridCache.create` makes it; one for a mesh never lies on a single device."""
    if mesh is None:
        return HybridCache.create(config, batch, capacity, dtype)
    return _create_on_mesh(config, batch, capacity, jnp.dtype(dtype), mesh)


@partial(jax.jit, static_argnums=range(5))
def _create_on_mesh(config: TextConfig, batch: int, capacity: int, dtype: Any, mesh: Mesh) -> HybridCache:
    with on_mesh(mesh):
        return HybridCache.create(config, batch, capacity, dtype).constrained()


def named_arrays(cache: HybridCache) -> Iterator[tuple[Any, tuple[str | None, ...]]]:
    """Each array of a cache and its logical axes."""
    yield cache.keys, _POOL
    yield cache.values, _POOL
    for array in (cache.offsets, cache.lengths, cache.places):
        yield array, (None,)
    for state in cache.states:
        yield from zip(state, _STATE, strict=True)


def _constrain_state(state: GatedDeltaState) -> GatedDeltaState:
    return GatedDeltaState(*(constrain(leaf, *names) for leaf, names in zip(state, _STATE, strict=True)))


def _fresh_states(config: TextConfig, places: int) -> tuple[GatedDeltaState, ...]:
    def fresh(layers: int) -> GatedDeltaState:
        one = jax.eval_shape(lambda: GatedDeltaState.create(config.linear, places))
        return jax.tree.map(lambda leaf: jnp.zeros((layers, *leaf.shape), leaf.dtype), one)

    linear = (block for block in config.blocks if block.kind.attention == "linear_attention")
    return tuple(fresh(len(block.layers)) for block in linear)


def _to_stored(new: Array, dtype: Any) -> Array:
    return lax.bitcast_convert_type(new.astype(jnp.bfloat16), dtype) if dtype == jnp.uint16 else new.astype(dtype)


def _from_stored(stored: Array) -> Array:
    return lax.bitcast_convert_type(stored, jnp.bfloat16) if stored.dtype == jnp.uint16 else stored
