"""Prefill and decode of a batch of token sequences over one cache.

The engine knows token ids, positions and embedding rows; it knows no text. Rows are padded on the right to a few
bucket lengths, long prompts go through in chunks, so the number of compiled programs and the memory stay bounded
whatever lengths users bring.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Float32, Int32

from encoders.programs import Program, is_small
from omni.decoder.cache import KVCache
from omni.decoder.model import TextDecoder
from omni.errors import InputError
from omni.generation.sampling import Sampling, sample

PREFILL_LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
# Slots of a new cache.
_FIRST_CAPACITY = 256
# Small decoders read so many tokens of a few rows as soon as fewer, and have so many slots as cheaply: each length and
# each capacity is a program, and to compile one takes longer than many answers.
_LEAST_LENGTH_IF_SMALL, _FIRST_CAPACITY_IF_SMALL, _FEW_ROWS = 128, 1024, 4

Wanted = Literal["logits", "every_logits", "hidden", "states"]
"""What a prefill gives: scores after the last tokens or after all, the last tokens' hidden states, or all states."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """Embedding rows that take the place of token embeddings.

    Attributes:
        indices: token indices that receive a row each.
        tokens: the rows.
        deepstack: rows added to the hidden state after the first decoder layers; None for audio.
    """

    indices: Int32[np.ndarray, "rows"]
    tokens: Float[np.ndarray, "rows width"]
    deepstack: Float[np.ndarray, "levels rows width"] | None = None


@dataclass(frozen=True, eq=False)
class Prompt:
    """What the decoder reads for one sequence.

    Attributes:
        token_ids: ids, placeholders included.
        position_ids: rotary positions in time, height and width.
        next_position: position of the first token after the prompt.
        overlays: media rows.
    """

    token_ids: Int32[np.ndarray, "tokens"]
    position_ids: Float[np.ndarray, "3 tokens"]
    next_position: float
    overlays: tuple[Overlay, ...] = ()

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, eq=False)
class States:
    """What a prompt goes through in the decoder, in float32.

    Attributes:
        embedded: what the first layer reads: rows of tokens and of media.
        layers: hidden states after each layer, deepstack's rows added.
        normed: the last of them after the final norm.
    """

    embedded: Float32[np.ndarray, "tokens width"]
    layers: Float32[np.ndarray, "layers tokens width"]
    normed: Float32[np.ndarray, "tokens width"]


@dataclass(eq=False)
class Session:
    """A batch in flight: the cache, and where each row stands on the host."""

    cache: KVCache
    lengths: Int32[np.ndarray, "batch"]
    next_positions: Float[np.ndarray, "batch"]
    logits: jax.Array | None = None

    def rewind(self, length: int) -> int:
        """Forgets every token from `length` on, of a session of one row; returns how many are still held.

        That is none where a linear layer has read beyond: its state cannot be cut back.
        """
        self.cache = self.cache.rewind(jnp.full(1, length, jnp.int32))
        self.lengths = np.asarray(self.cache.lengths)
        self.logits = None
        return int(self.lengths[0])


class Engine:
    """Runs one decoder.

    Args:
        decoder: the text decoder.
        media_levels: deepstack levels of the media that prompts are likely to hold; None when they hold text only. With
            such media or without any, prompts of one length go through one program.
    """

    def __init__(self, decoder: TextDecoder, media_levels: int | None = None):
        self._graph, self._state = nnx.split(decoder)
        self._config = decoder.config
        self._dtype = decoder.dtype
        self._max_tokens = decoder.config.max_position_embeddings
        self._media_levels = media_levels
        self._small = is_small(self._state)

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        return self._config.hidden_size

    def start(self, prompts: Sequence[Prompt]) -> Session:
        """Prefills a batch; its `logits` are those of each row's last token."""
        self._check_lengths(prompts)
        session = self._session(len(prompts), max(len(prompt) for prompt in prompts) + 1)
        self.extend(session, prompts, [0] * len(prompts))
        return session

    def extend(self, session: Session, prompts: Sequence[Prompt], starts: Sequence[int]) -> None:
        """Reads each prompt from its `start` on into a session that holds what came before."""
        self._check_lengths(prompts)
        for logits in self._chunks(session, prompts, starts, "logits"):
            session.logits = logits

    def logits(self, prompt: Prompt) -> Float[np.ndarray, "tokens vocabulary"]:
        """Next-token scores after every token of a prompt; `not_finite` where they are NaN or infinite."""
        self._check_lengths([prompt])
        chunks = self._chunks(self._session(1, len(prompt)), [prompt], [0], "every_logits")
        return _finite(np.concatenate([np.asarray(chunk[0]) for chunk in chunks])[: len(prompt)])

    def hidden(self, prompts: Sequence[Prompt]) -> Float32[np.ndarray, "batch width"]:
        """The hidden state of each prompt's last token, after the final norm."""
        self._check_lengths(prompts)
        session = self._session(len(prompts), max(len(prompt) for prompt in prompts))
        (found,) = self._chunks(session, prompts, [0] * len(prompts), "hidden")
        return _finite(np.asarray(found))

    def states(self, prompt: Prompt) -> States:
        """Everything that a prompt goes through on its way to the scores."""
        self._check_lengths([prompt])
        chunks = list(self._chunks(self._session(1, len(prompt)), [prompt], [0], "states"))
        embedded, layers, normed = (
            np.concatenate([np.asarray(chunk[i]) for chunk in chunks], axis=-2)[..., : len(prompt), :] for i in range(3)
        )
        return States(embedded, layers, normed)

    def scores(self, hidden: Float[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows vocabulary"]:
        """Next-token scores of hidden states after the final norm."""
        if not self._config.output_head:
            raise InputError("no_output_head", "this model makes embeddings: it has no output head to write with")
        return np.asarray(_score(self._small, self._graph, self._state, jnp.asarray(hidden)))

    def decode(
        self,
        session: Session,
        sampling: Sampling,
        seeds: Sequence[int],
        max_new_tokens: int,
        ends: frozenset[int],
        active: Bool[np.ndarray, "batch"],
    ) -> Iterator[Int32[np.ndarray, "batch"]]:
        """Yields one token a row and step until every row has ended; -1 where a row ended before.

        The token that ends a row is yielded, and is not read into the cache.

        Args:
            session: prefilled rows.
            sampling: how to choose tokens.
            seeds: one a row; a row's tokens depend on its own seed only.
            max_new_tokens: most steps.
            ends: tokens that end a row.
            active: rows still going, kept up to date; the caller may clear a row between steps to end it.

        Raises:
            InputError: `not_finite`, the scores of a row hold NaN or infinity.
        """
        if session.logits is None:
            raise ValueError("decode needs the logits of a prefill")
        keys = jnp.asarray(np.asarray(seeds, np.uint64).astype(np.uint32))
        tokens = _choose(session.logits, keys, np.int32(0), sampling)
        for step in range(1, max_new_tokens + 1):
            chosen = np.asarray(tokens)
            if (chosen[active] < 0).any():
                raise _not_finite()
            found = np.where(active, chosen, -1).astype(np.int32)
            yield found
            active &= ~np.isin(found, list(ends)) & (session.lengths < self._max_tokens)
            if step == max_new_tokens or not active.any():
                return
            self._make_room(session, 1)
            session.cache, logits = _step(
                self._small,
                self._graph,
                self._state,
                session.cache,
                jnp.asarray(np.maximum(found, 0)),
                jnp.asarray(session.next_positions),
                jnp.asarray(active.astype(np.int32)),
            )
            tokens = _choose(logits, keys, np.int32(step), sampling)
            session.lengths = session.lengths + active
            session.next_positions = session.next_positions + active
            session.logits = None

    def _session(self, batch: int, tokens: int) -> Session:
        """Rows that have read nothing, with room for so many tokens."""
        cache = KVCache.create(self._config, batch, self._capacity(tokens, batch), self._dtype)
        return Session(cache, np.zeros(batch, np.int32), np.zeros(batch, np.float32))

    def _chunks(
        self, session: Session, prompts: Sequence[Prompt], starts: Sequence[int], wanted: Wanted
    ) -> Iterator[Any]:
        """Reads prompts chunk by chunk; yields what is wanted of all tokens chunk by chunk, of the last ones once."""
        if wanted.endswith("logits") and not self._config.output_head:
            raise InputError("no_output_head", "this model makes embeddings: it has no output head to write with")
        starts_now = np.asarray(starts, np.int32)
        ends = np.asarray([len(prompt) for prompt in prompts], np.int32)
        overlays = [overlay for prompt in prompts for overlay in prompt.overlays]
        known = [] if self._media_levels is None else [self._media_levels]
        levels = max([*known, *(_levels(overlay) for overlay in overlays)], default=None)
        least = _LEAST_LENGTH_IF_SMALL if self._small and len(prompts) <= _FEW_ROWS else 1
        last: jax.Array | None = None
        while (starts_now < ends).any():
            most = int((ends - starts_now).max())
            length = next((n for n in PREFILL_LENGTHS if n >= max(most, least)), PREFILL_LENGTHS[-1])
            counts = np.minimum(ends - starts_now, length).astype(np.int32)
            self._make_room(session, length)
            arrays = _gather(prompts, starts_now, counts, length, self._config.hidden_size, levels)
            session.cache, found = _prefill(
                self._small, self._graph, self._state, session.cache, *arrays, jnp.asarray(counts), wanted
            )
            session.lengths = session.lengths + counts
            starts_now = starts_now + counts
            if wanted in ("every_logits", "states"):
                yield found
            else:
                # A row that ended in an earlier chunk keeps what it got there.
                last = found if last is None else jnp.where(jnp.asarray(counts > 0)[:, None], found, last)
        session.next_positions = np.asarray([prompt.next_position for prompt in prompts], np.float32)
        if last is not None:
            yield last

    def _check_lengths(self, prompts: Sequence[Prompt]) -> None:
        longest = max(len(prompt) for prompt in prompts)
        if longest > self._max_tokens:
            raise InputError(
                "too_many_tokens", f"the conversation is {longest} tokens long, the model reads {self._max_tokens}"
            )

    def _make_room(self, session: Session, tokens: int) -> None:
        needed = int(session.lengths.max()) + tokens
        if needed > session.cache.capacity:
            session.cache = session.cache.grow(self._capacity(needed, len(session.lengths)))

    def _capacity(self, tokens: int, batch: int) -> int:
        capacity = _FIRST_CAPACITY_IF_SMALL if self._small and batch <= _FEW_ROWS else _FIRST_CAPACITY
        while capacity < tokens:
            capacity *= 2
        return capacity


def _finite(values: np.ndarray) -> np.ndarray:
    # bfloat16 has no isfinite of its own in NumPy.
    if not np.isfinite(values.astype(np.float32, copy=False)).all():
        raise _not_finite()
    return values


def _not_finite() -> InputError:
    return InputError("not_finite", "the model's scores hold NaN or infinity: its weights are damaged")


def _levels(overlay: Overlay) -> int:
    return 0 if overlay.deepstack is None else len(overlay.deepstack)


def _gather(
    prompts: Sequence[Prompt],
    starts: np.ndarray,
    counts: np.ndarray,
    length: int,
    width: int,
    levels: int | None,
) -> tuple:
    """One padded chunk of every prompt: ids, positions, and the media rows that fall into it (None for text only)."""
    batch = len(prompts)
    ids = np.zeros((batch, length), np.int32)
    positions = np.zeros((3, batch, length), np.float32)
    rows = np.zeros((batch, length, width), np.float32)
    covered = np.zeros((batch, length), bool)
    deepstack = np.zeros((levels or 0, batch, length, width), np.float32)
    for b, (prompt, start, count) in enumerate(zip(prompts, starts, counts, strict=True)):
        ids[b, :count] = prompt.token_ids[start : start + count]
        positions[:, b, :count] = prompt.position_ids[:, start : start + count]
        for overlay in prompt.overlays:
            here = (overlay.indices >= start) & (overlay.indices < start + count)
            at = overlay.indices[here] - start
            rows[b, at] = overlay.tokens[here]
            covered[b, at] = True
            if overlay.deepstack is not None:
                deepstack[:, b, at] = overlay.deepstack[:, here]
    media = None if levels is None else (jnp.asarray(rows), jnp.asarray(covered))
    return jnp.asarray(ids), jnp.asarray(positions), media, jnp.asarray(deepstack) if levels else None


def _read(graph, state, cache, ids, positions, media, deepstack, counts, wanted):
    decoder = nnx.merge(graph, state)
    x = decoder.embed(ids)
    if media is not None:
        rows, covered = media
        x = jnp.where(covered[..., None], rows.astype(x.dtype), x)
    if deepstack is not None:
        deepstack = deepstack.astype(x.dtype)
    if wanted == "states":
        layers, cache = decoder.states(x, positions, cache, counts, deepstack)
        return cache, tuple(a.astype(jnp.float32) for a in (x[0], layers[:, 0], decoder.norm(layers[-1, 0])))
    hidden, cache = decoder(x, positions, cache, counts, deepstack)
    if wanted != "every_logits":
        last = jnp.maximum(counts - 1, 0)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    return cache, hidden.astype(jnp.float32) if wanted == "hidden" else decoder.logits(hidden)


def _scored(graph, state, hidden):
    decoder = nnx.merge(graph, state)
    return decoder.logits(hidden.astype(decoder.dtype))


def _read_one(graph, state, cache, tokens, positions, counts):
    decoder = nnx.merge(graph, state)
    x = decoder.embed(tokens[:, None])
    where = jnp.broadcast_to(positions[None, :, None], (3, *x.shape[:2]))
    hidden, cache = decoder(x, where, cache, counts)
    return cache, decoder.logits(hidden[:, 0])


def _sample(logits, seeds, step, sampling):
    tokens = sample(logits, seeds, jnp.full(len(seeds), step), sampling)
    # No token can be chosen from such scores, and argmax would choose one all the same.
    return jnp.where(jnp.isfinite(logits.max(axis=-1)), tokens, -1)


_prefill = Program(_read, static_argnums=(0, 8), donate_argnums=(2,))
_step = Program(_read_one, static_argnums=(0,), donate_argnums=(2,))
_score = Program(_scored, static_argnums=(0,))
# A program of its own: another temperature compiles this one anew, and not the decoder.
_choose = jax.jit(_sample, static_argnums=(3,))
