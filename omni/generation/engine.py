"""The device side of generation: programs that read chunks of prompts, read one token a row, and choose the next.

The engine knows token ids, positions and embedding rows; it knows no text, and not who runs next. Which rows a program
reads, where they stand in the pool and how their tokens are chosen are data, so a bounded number of programs serves any
lengths, batches and settings.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int32, UInt32

from encoders.nn.compile import is_small
from encoders.nn.context import in_own_context
from encoders.nn.module_weights import Graph, Weights
from omni.decoder.cache import create_cache
from omni.decoder.media_rows import MediaRows
from omni.decoder.model import TextDecoder
from omni.errors import InputError
from omni.generation import programs
from omni.generation.buckets import Buckets
from omni.generation.media_table import gather_media
from omni.generation.memory import CacheRow, Memory, MemoryBudget
from omni.generation.penalties import AdjustmentArrays, history
from omni.generation.sampling import Settings
from omni.options import Sampling
from omni.prompt.sequence import Overlay, Prompt

__all__ = ["Choice", "Engine", "Overlay", "Prompt", "States"]

# Slots that the pool begins with: a small decoder's cost nothing, and each size of the pool is a program.
_FIRST_SLOTS, _FIRST_SLOTS_IF_SMALL = 1024, 4096
# Rows that run together where nobody asked for more.
_PLACES = 8
# What is wanted of every token of one prompt goes through a cache of its own. Each size of it is a program, and to
# compile one takes a small decoder longer than to read a prompt: nearly all of its prompts share the first size.
_LEAST_CAPACITY, _LEAST_SLOTS_IF_SMALL = 256, 2048

Wanted = Literal["logits", "every_logits", "hidden", "states"]
"""What reading gives: scores after the last tokens or after all, the last tokens' hidden states, or all states."""


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


@dataclass(frozen=True, eq=False)
class Choice:
    """The tokens that rows go on with.

    Attributes:
        tokens: one a row; -1 where the scores are not finite.
        logprobs: the log-probability of each; 0 for rows that did not ask.
        top_ids: the most likely tokens, for rows that asked.
        top_logprobs: their log-probabilities.
    """

    tokens: Int32[np.ndarray, "rows"]
    logprobs: Float32[np.ndarray, "rows"]
    top_ids: Int32[np.ndarray, "rows top"]
    top_logprobs: Float32[np.ndarray, "rows top"]


class Engine:
    """Runs one decoder.

    Each call uses the weights that the decoder has when it begins.

    Args:
        decoder: the text decoder.
        media_levels: deepstack levels of the media that prompts are likely to hold; None when they hold text only. With
            such media or without any, prompts of one length go through one program.
        budget: bytes that conversations may take.
        buckets: shapes of programs; those that suit the decoder's size when None.
        slots: of the pool to begin with; a few when None.
        places: rows that can run together.
    """

    def __init__(
        self,
        decoder: TextDecoder,
        media_levels: int | None = None,
        *,
        budget: MemoryBudget | None = None,
        buckets: Buckets | None = None,
        slots: int | None = None,
        places: int = _PLACES,
    ):
        self.decoder = decoder
        self._weights = Weights(decoder)
        self._config = decoder.config
        self._dtype = decoder.dtype
        self.media_levels = media_levels
        self._small = is_small(self._weights.read()[1])
        self.max_tokens: int = decoder.config.max_position_embeddings
        self.buckets: Buckets = buckets or Buckets.of(self._small)
        first = slots or (_FIRST_SLOTS_IF_SMALL if self._small else _FIRST_SLOTS)
        mesh = self._weights.read()[0].mesh
        self.memory: Memory = Memory(decoder.config, decoder.dtype, budget or MemoryBudget.of(), first, places, mesh)
        # While rows run, those that they began with, and of which version is what is held of earlier ones.
        self._taken: tuple[Graph, list[Any]] | None = None
        self._read_with: object = None
        self._history: jax.Array | None = None
        self._settled: tuple[list[Sampling], int, tuple[Settings, AdjustmentArrays]] | None = None

    @property
    def width(self) -> int:
        """Width of the hidden state."""
        return self._config.hidden_size

    @property
    def vocabulary(self) -> int:
        """Tokens that there are scores for."""
        return self._config.vocab_size

    def check_length(self, prompt: Prompt) -> None:
        """Refuse what is longer than the model reads: `too_many_tokens`."""
        if len(prompt) > self.max_tokens:
            raise InputError(
                "too_many_tokens", f"the conversation is {len(prompt)} tokens long, the model reads {self.max_tokens}"
            )

    def check_head(self) -> None:
        """Refuse to score where there is nothing to score with: `no_output_head`."""
        if not self._config.output_head:
            raise InputError("no_output_head", "this model makes embeddings: it has no output head to write with")

    # --- rows that run --------------------------------------------------------------------------------------------

    @in_own_context
    def open(self, prompt: Prompt, slots: int, sampling: Sampling, reply: Sequence[int] = ()) -> CacheRow | None:
        """A row for a prompt, and for what was written of its reply; None where there is no memory now.

        Args:
            prompt: what is to be read.
            slots: tokens that memory is kept for.
            sampling: how tokens will be chosen.
            reply: tokens at the end of the prompt that were chosen before.
        """
        if not self._take_weights():
            return None
        row = self.memory.open(prompt, slots)
        if row is not None and sampling.adjustments.counts_tokens:
            ids = prompt.token_ids[: len(prompt) - len(reply)]
            counts = jnp.asarray(history(ids, reply, self.vocabulary))
            self._history = programs.set_history(self._tokens_before(), jnp.int32(row.place), counts)
        return row

    @in_own_context
    def read(self, rows: Sequence[CacheRow], counts: Sequence[int], length: int, batch: int) -> jax.Array:
        """Read the next tokens of prompts; return the scores after the last of each.

        Args:
            rows: with something left to read.
            counts: how many tokens of each.
            length: tokens of the program.
            batch: rows of the program.
        """
        prompts, starts = [row.prompt for row in rows], np.asarray([row.length for row in rows])
        arrays = self._gather(prompts, starts, np.asarray(counts), length, batch)
        cache = self.memory.lend(list(rows), batch)
        cache, logits = programs.prefill(self._small, *self._running_weights(), cache, *arrays, "logits")
        self.memory.put_back(cache)
        for row, tokens in zip(rows, counts, strict=True):
            row.length += int(tokens)
        return logits

    @in_own_context
    def step(self, rows: Sequence[CacheRow], tokens: Sequence[int], positions: Sequence[float]) -> jax.Array:
        """Read one token a row; return the scores after it."""
        batch = self.buckets.batch(len(rows))
        fill = [0] * (batch - len(rows))
        cache, logits = programs.step(
            self._small,
            *self._running_weights(),
            self.memory.lend(list(rows), batch),
            jnp.asarray([*tokens, *fill], jnp.int32),
            jnp.asarray([*positions, *fill], jnp.float32),
            jnp.asarray([1] * len(rows) + fill, jnp.int32),
        )
        self.memory.put_back(cache)
        for row in rows:
            row.length += 1
        return logits

    @in_own_context
    def choose(
        self,
        logits: jax.Array,
        rows: Sequence[CacheRow | None],
        how: Sequence[Sampling],
        steps: Sequence[int],
        masks: Sequence[UInt32[np.ndarray, "words"] | None] = (),
    ) -> Choice:
        """Choose a token for each row.

        Args:
            logits: of a program's rows, of which these are the first.
            rows: None for those whose token is not wanted.
            how: settings, one a row.
            steps: how many tokens each reply has.
            masks: a bit for each token, 1 where it may be chosen now; None for as the settings say.
        """
        batch = logits.shape[0]
        places = [self.memory.places if row is None else row.place for row in rows]
        fill = [0] * (batch - len(rows))
        settings, adjustments = self._settings(list(how), batch)
        if any(mask is not None for mask in masks):
            adjustments = adjustments.masked([sampling.adjustments for sampling in how], masks, self.vocabulary)
        self._history, *found = programs.choose(
            logits,
            self._tokens_before(),
            jnp.asarray([*places, *[self.memory.places] * len(fill)], jnp.int32),
            settings,
            adjustments,
            jnp.asarray([sampling.logprobs is not None for sampling in how] + [False] * len(fill)),
            jnp.asarray([*steps, *fill], jnp.int32),
        )
        return Choice(*(np.asarray(a)[: len(rows)] for a in found))

    @property
    def version(self) -> object:
        """Another object after each edit of the decoder; what was read before is then out of date."""
        return self._weights.version

    @in_own_context
    def make_places(self, rows: int) -> None:
        """Let so many rows run together; before a first row runs this costs nothing."""
        places = self.memory.places
        if rows <= places:
            return
        while places < rows:
            places *= 2
        self.memory.make_places(places)
        if self._history is not None:
            self._history = jnp.pad(self._history, [(0, places - self._history.shape[0]), (0, 0)])

    @in_own_context
    def close(self, row: CacheRow) -> None:
        """End a row; what it read is held until the memory is needed."""
        self.memory.close(row)
        if not self.memory.running:
            self._taken = None  # weights that were replaced meanwhile are not kept

    def _take_weights(self) -> bool:
        """Whether a row may begin: after an edit, only when all that began before it have ended."""
        version = self.version
        if version is not self._read_with:
            if self.memory.running:
                return False
            self.memory.forget()
            self._read_with = version
        if self._taken is None:
            self._taken = self._weights.read()
        return True

    def _running_weights(self) -> tuple[Graph, list[Any]]:
        return self._weights.read() if self._taken is None else self._taken

    @in_own_context
    def recover(self) -> None:
        """Forget what was read, after a program was interrupted: what it had been given is lost."""
        self.memory.reset()
        self._history = None

    def _tokens_before(self) -> jax.Array:
        if self._history is None:
            self._history = jnp.zeros((self.memory.places, self.vocabulary), jnp.uint16)
        return self._history

    def _settings(self, how: list[Sampling], batch: int) -> tuple[Settings, AdjustmentArrays]:
        """As arrays; those of the last step serve on while the rows are the same."""
        if self._settled is not None:
            before, size, arrays = self._settled
            if size == batch and len(before) == len(how) and all(a is b for a, b in zip(before, how, strict=True)):
                return arrays
        adjustments = AdjustmentArrays.of([sampling.adjustments for sampling in how], batch, self.vocabulary)
        arrays = Settings.of(how, batch), adjustments
        self._settled = how, batch, arrays
        return arrays

    # --- prompts by themselves ------------------------------------------------------------------------------------

    @in_own_context
    def logits(self, prompt: Prompt) -> Float[np.ndarray, "tokens vocabulary"]:
        """Next-token scores after every token of a prompt; `not_finite` where they are NaN or infinite."""
        self.check_head()
        chunks = self._read_alone([prompt], "every_logits")
        return _finite(np.concatenate([np.asarray(chunk[0]) for chunk in chunks])[: len(prompt)])

    @in_own_context
    def hidden(self, prompts: Sequence[Prompt]) -> Float32[np.ndarray, "batch width"]:
        """The hidden state of each prompt's last token, after the final norm."""
        (found,) = self._read_alone(prompts, "hidden")
        return _finite(np.asarray(found)[: len(prompts)])

    @in_own_context
    def next_logits(self, prompts: Sequence[Prompt], tokens: Sequence[int]) -> Float32[np.ndarray, "batch tokens"]:
        """Scores of some tokens after each prompt; `not_finite` where they are NaN or infinite."""
        self.check_head()
        (found,) = self._read_alone(prompts, "logits")
        return _finite(np.asarray(found)[: len(prompts), list(tokens)].astype(np.float32))

    @in_own_context
    def states(self, prompt: Prompt) -> States:
        """Everything that a prompt goes through on its way to the scores."""
        chunks = list(self._read_alone([prompt], "states"))
        embedded, layers, normed = (
            np.concatenate([np.asarray(chunk[i]) for chunk in chunks], axis=-2)[..., : len(prompt), :] for i in range(3)
        )
        return States(embedded, layers, normed)

    @in_own_context
    def scores(self, hidden: Float[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows vocabulary"]:
        """Next-token scores of hidden states after the final norm."""
        self.check_head()
        return np.asarray(programs.score(self._small, *self._weights.read(), jnp.asarray(hidden)))

    def _read_alone(self, prompts: Sequence[Prompt], wanted: Wanted) -> Iterator[Any]:
        """Reads whole prompts into a cache of their own; yields what is wanted of all tokens chunk by chunk, of the
        last ones once."""
        for prompt in prompts:
            self.check_length(prompt)
        graph, weights = self._weights.read()
        batch = max(self.buckets.batch(min(len(prompts), self.buckets.rows)), len(prompts))
        ends, capacity = np.asarray([len(prompt) for prompt in prompts]), _LEAST_CAPACITY
        while capacity < max(ends.max(), _LEAST_SLOTS_IF_SMALL // batch if self._small else 0):
            capacity *= 2
        cache = create_cache(self._config, batch, capacity, self._dtype, graph.mesh)
        starts, last = np.zeros_like(ends), None
        while (starts < ends).any():
            length = self.buckets.length(int((ends - starts).max()))
            counts = np.minimum(ends - starts, length)
            arrays = self._gather(prompts, starts, counts, length, batch)
            cache, found = programs.prefill(self._small, graph, weights, cache, *arrays, wanted)
            starts = starts + counts
            if wanted in ("every_logits", "states"):
                yield found
            else:
                # A row that ended in an earlier chunk keeps what it got there.
                read = jnp.asarray(np.pad(counts, (0, batch - len(counts))) > 0)[:, None]
                last = found if last is None else jnp.where(read, found, last)
        if last is not None:
            yield last

    def _gather(
        self, prompts: Sequence[Prompt], starts: np.ndarray, counts: np.ndarray, length: int, batch: int
    ) -> tuple[jax.Array, jax.Array, MediaRows | None, jax.Array]:
        """One padded chunk of every prompt: ids, positions, its media rows, and numbers of real tokens."""
        known = [] if self.media_levels is None else [self.media_levels]
        levels = max([*known, *(prompt.levels for prompt in prompts if prompt.levels is not None)], default=None)
        ids = np.zeros((batch, length), np.int32)
        positions = np.zeros((3, batch, length), np.float32)
        for b, (prompt, start, tokens) in enumerate(zip(prompts, starts, counts, strict=True)):
            ids[b, :tokens] = prompt.token_ids[start : start + tokens]
            positions[:, b, :tokens] = prompt.position_ids[:, start : start + tokens]
        media = None
        if levels is not None:
            media = gather_media(prompts, starts, counts, length, batch, self.width, levels)
        padded = np.pad(counts, (0, batch - len(counts))).astype(np.int32)
        return jnp.asarray(ids), jnp.asarray(positions), media, jnp.asarray(padded)


def _finite(values: np.ndarray) -> np.ndarray:
    # bfloat16 has no isfinite of its own in NumPy.
    if not np.isfinite(values.astype(np.float32, copy=False)).all():
        raise not_finite()
    return values


def not_finite() -> InputError:
    """The error of scores that no token can be chosen from."""
    return InputError("not_finite", "the model's scores hold NaN or infinity: its weights are damaged")
