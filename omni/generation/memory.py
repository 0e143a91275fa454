"""The decoder's memory: a pool that rows share, and what is kept of sequences that were read before.

A row takes a region of the pool. When it ends, its region stays as it is until the memory is needed: a prompt that
begins like a sequence that is held, or like one that runs, is given what was read already. Keys and values serve any
beginning; the states of linear layers only the one they were taken at, so they are copied at the ends of messages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Int32

from omni.checkpoint.plan import host_bytes
from omni.decoder.cache import HybridCache, create_cache
from omni.decoder.config import TextConfig
from omni.generation.regions import GRANULE, Regions, rounded
from omni.prompt.sequence import Prompt

# A held sequence is read on in place where little of it is lost: so many tokens, or this share of the beginning.
_LOST_TOKENS, _LOST_SHARE = 64, 4
_MOST_HELD = 8192

States = tuple[Any, ...]


@dataclass(eq=False)
class CacheRow:
    """A sequence in the pool.

    Attributes:
        prompt: the tokens that are to be read, those of the reply added as they are chosen.
        offset: first slot of its region.
        capacity: slots of its region.
        length: tokens that are in the cache.
        place: where its states and its history stand; None when it does not run.
        states: copies of the states of linear layers after so many tokens.
        is_current: whether it was read with the weights that the decoder has now.
    """

    prompt: Prompt
    offset: int
    capacity: int
    length: int = 0
    place: int | None = None
    states: dict[int, States] = field(default_factory=dict)
    is_current: bool = True


@dataclass(frozen=True)
class MemoryBudget:
    """How much memory conversations may take.

    Attributes:
        most: bytes of all keys, values and states; a row that needs more waits or is refused.
        held: bytes up to which the memory grows for what was read before, and not only for rows that run; no more than
            8,192 tokens take.
    """

    most: int
    held: int

    @classmethod
    def of(cls, most: int | None = None) -> "MemoryBudget":
        """So many bytes, a quarter of the machine's memory when None; of those 256 MiB for what was read before."""
        most = host_bytes() // 4 if most is None else most
        return cls(most, min(most, 256 << 20))


class Memory:
    """The pool and who has what of it.

    Args:
        config: of the decoder.
        dtype: of keys and values.
        budget: in bytes.
        slots: of the pool to begin with.
        places: rows that can run at the same time.
        mesh: what the decoder's weights lie on; None for a single device.
    """

    def __init__(
        self,
        config: TextConfig,
        dtype: Any,
        budget: MemoryBudget,
        slots: int,
        places: int,
        mesh: Mesh | None = None,
    ):
        self._config, self._dtype, self._budget, self._mesh = config, dtype, budget, mesh
        self._first_slots = rounded(slots)
        self.places: int = places
        one = jax.eval_shape(lambda: HybridCache.create(config, 1, 1, dtype))
        self._slot_bytes = max(1, sum(a.size * a.dtype.itemsize for a in (one.keys, one.values)))
        self._state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one.states))
        self.running: list[CacheRow] = []
        self.held: list[CacheRow] = []  # the least recently used first
        self.reset()

    def reset(self) -> None:
        """Forget everything; rows that run keep their places and have everything to read again."""
        self._pool: HybridCache | None = None
        self._regions = Regions(0)
        self.held = []
        for row in self.running:
            row.offset, row.capacity, row.length, row.states = 0, 0, 0, {}
            row.is_current = True
        self._free_places = [p for p in reversed(range(self.places)) if all(r.place != p for r in self.running)]

    def forget(self) -> None:
        """Give back the memory of all that does not run."""
        for row in self.held:
            self._regions.give_back(row.offset, row.capacity)
        self.held = []
        for row in self.running:
            row.states, row.is_current = {}, False

    def fix(self) -> None:
        """Begin with the whole pool, as far as the budget allows, and never let it grow."""
        self._first_slots = min(self._first_slots, self.most_slots // GRANULE * GRANULE)
        self._budget = replace(
            self._budget, most=self._first_slots * self._slot_bytes + self.places * self._state_bytes
        )

    def make_places(self, places: int) -> None:
        """Let more rows run together."""
        self._free_places = [*reversed(range(self.places, places)), *self._free_places]
        self.places = places
        if self._pool is not None:
            self._pool = self._pool.grow(self._pool.slots, places)

    @property
    def is_hybrid(self) -> bool:
        """Whether there are linear layers, whose states cannot be cut back."""
        return self._state_bytes > 0

    @property
    def most_slots(self) -> int:
        """That the budget allows."""
        return max(GRANULE, (self._budget.most - self.places * self._state_bytes) // self._slot_bytes)

    @property
    def pool(self) -> HybridCache:
        """The arrays; `lend` and `put_back` keep them from being used twice."""
        if self._pool is None:
            self._grow(self._first_slots)
        assert self._pool is not None
        return self._pool

    def lend(self, rows: list[CacheRow], batch: int) -> HybridCache:
        """The pool with the regions of a batch's rows, for a program that is given it for good."""
        places = [self.places if row.place is None else row.place for row in rows]

        def column(values: Iterable[int], otherwise: int) -> Int32[Array, "batch"]:
            return jnp.asarray([*values, *[otherwise] * (batch - len(rows))], jnp.int32)

        return replace(
            self.pool,
            offsets=column((row.offset for row in rows), 0),
            lengths=column((row.length for row in rows), 0),
            places=column(places, self.places),
        )

    def put_back(self, pool: HybridCache) -> None:
        """Keep what a program made of the pool."""
        self._pool = pool

    # --- rows -----------------------------------------------------------------------------------------------------

    def open(self, prompt: Prompt, slots: int) -> CacheRow | None:
        """A running row for a prompt with memory for so many tokens, and what is known of its beginning.

        None where there is no place or no memory for it now.
        """
        if not self._free_places:
            return None
        source, known = self._find(prompt)
        row = CacheRow(prompt, 0, 0)
        if source is not None and source.place is None and self._is_read_on(source, known):
            self.held.remove(source)
            row.offset, row.capacity, row.length = source.offset, source.capacity, known
            row.states = {at: states for at, states in source.states.items() if at <= known}
            if not self.reserve(row, slots):
                self.held.append(source)
                return None
        else:
            region = self._take(rounded(slots), keep=source)
            if region is None:
                return None
            row.offset, row.capacity = region, rounded(slots)
            if source is not None and known:
                self._copy(source.offset, row.offset, known)
                row.states = {at: states for at, states in source.states.items() if at <= known}
        row.place = self._free_places.pop()
        row.length = known
        if known and self.is_hybrid:
            self._pool = _put_states(self.pool, jnp.int32(row.place), row.states[known])
        self.running.append(row)
        return row

    def reserve(self, row: CacheRow, slots: int) -> bool:
        """Make a row's region hold so many tokens, elsewhere in the pool if need be; whether it could be done."""
        more = rounded(slots) - row.capacity
        if more <= 0:
            return True
        if row.capacity and self._regions.extend(row.offset + row.capacity, more):
            row.capacity += more
            return True
        region = self._take(rounded(slots))
        if region is None:
            return False
        if row.length:
            self._copy(row.offset, region, row.length)
        if row.capacity:
            self._regions.give_back(row.offset, row.capacity)
        row.offset, row.capacity = region, rounded(slots)
        return True

    def keep_states(self, row: CacheRow) -> None:
        """Copy the states of a row as they are now, for prompts that begin like it."""
        if not self.is_hybrid or row.place is None or row.length in row.states or not row.length:
            return
        while self._kept_bytes() + self._state_bytes > self._budget.held:
            oldest = next((one for one in (*self.held, row, *self.running) if one.states), None)
            if oldest is None:
                return
            del oldest.states[min(oldest.states)]
        row.states[row.length] = _take_states(self.pool, jnp.int32(row.place))

    def close(self, row: CacheRow, *, hold: bool = True) -> None:
        """End a row; what it read is held until the memory is needed."""
        self.running.remove(row)
        if hold and row.is_current:
            self.keep_states(row)
        if row.place is not None:
            self._free_places.append(row.place)
        row.place = None
        if not row.capacity:
            return
        if not hold or not row.length or not row.is_current or (self.is_hybrid and not row.states):
            self._regions.give_back(row.offset, row.capacity)
            return
        # What it kept beyond its tokens is free again.
        kept = rounded(row.length)
        if kept < row.capacity:
            self._regions.give_back(row.offset + kept, row.capacity - kept)
            row.capacity = kept
        self.held = [one for one in self.held if not self._is_within(one, row)]
        self.held.append(row)

    def warm_up(self) -> int:
        """Run the programs that move what rows hold, with nothing to move; return how many there are."""
        zero = jnp.int32(0)
        self._pool = _copy_slots(self.pool, zero, zero, zero)
        if not self.is_hybrid:
            return 1
        self._pool = _put_states(self.pool, zero, _take_states(self.pool, zero))
        return 3

    # --- what is held ---------------------------------------------------------------------------------------------

    def _find(self, prompt: Prompt) -> tuple[CacheRow | None, int]:
        """The sequence that begins like a prompt for longest, and for how many tokens; one token is left to read."""
        best, most = None, 0
        for row in (*self.held, *(row for row in self.running if row.is_current)):
            shared = min(row.prompt.shared_prefix(prompt), row.length, len(prompt) - 1)
            if self.is_hybrid:
                shared = max((at for at in row.states if at <= shared), default=0)
            if shared > most:
                best, most = row, shared
        return best, most

    @staticmethod
    def _is_read_on(source: CacheRow, known: int) -> bool:
        return source.length - known <= max(_LOST_TOKENS, known // _LOST_SHARE)

    def _is_within(self, one: CacheRow, row: CacheRow) -> bool:
        """Whether a held sequence is only the beginning of another, and so of no more use."""
        if one.length > row.length or one.prompt.shared_prefix(row.prompt) < one.length:
            return False
        row.states = one.states | row.states
        self._regions.give_back(one.offset, one.capacity)
        return True

    # --- memory ---------------------------------------------------------------------------------------------------

    def _take(self, size: int, keep: CacheRow | None = None) -> int | None:
        pool = self.pool
        while (region := self._regions.take(size)) is None:
            grown = self._first_slots
            while grown < pool.slots + size - self._regions.free or grown <= pool.slots:
                grown *= 2
            grown = min(grown, self.most_slots // GRANULE * GRANULE)
            if grown > pool.slots and grown <= min(_MOST_HELD, self._budget.held // self._slot_bytes):
                self._grow(grown)
            elif oldest := next((row for row in self.held if row is not keep), None):
                self.held.remove(oldest)
                self._regions.give_back(oldest.offset, oldest.capacity)
            elif grown > pool.slots:
                self._grow(grown)
            else:
                return None
            pool = self.pool
        return region

    def _grow(self, slots: int) -> None:
        if self._pool is None:
            even = create_cache(self._config, 1, slots, self._dtype, self._mesh)
            self._pool = replace(even, span=None).grow(slots, self.places)
        else:
            self._pool = self._pool.grow(slots, self.places)
        self._regions.grow(slots)

    def _copy(self, source: int, target: int, tokens: int) -> None:
        blocks = rounded(tokens) // GRANULE
        self._pool = _copy_slots(self.pool, jnp.int32(source), jnp.int32(target), jnp.int32(blocks))

    def _kept_bytes(self) -> int:
        copies = {id(states) for row in (*self.held, *self.running) for states in row.states.values()}
        return len(copies) * self._state_bytes


def _copied(pool: HybridCache, source: Array, target: Array, blocks: Array) -> HybridCache:
    def copy(i: Array, pools: tuple[Array, Array]) -> tuple[Array, Array]:
        at, to = source + i * GRANULE, target + i * GRANULE
        return tuple(
            lax.dynamic_update_slice_in_dim(a, lax.dynamic_slice_in_dim(a, at, GRANULE, 1), to, 1) for a in pools
        )  # pyright: ignore[reportReturnType]

    keys, values = lax.fori_loop(0, blocks, copy, (pool.keys, pool.values))
    return replace(pool, keys=keys, values=values)


def _with_states(pool: HybridCache, place: Array, states: States) -> HybridCache:
    kept = jax.tree.map(lambda stack, own: stack.at[:, place].set(own), pool.states, states)
    return replace(pool, states=kept)


_copy_slots = jax.jit(_copied, donate_argnums=0)
_put_states = jax.jit(_with_states, donate_argnums=0)
_take_states = jax.jit(lambda pool, place: jax.tree.map(lambda stack: stack[:, place], pool.states))
