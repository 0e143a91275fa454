"""The text decoder: token embedding, scanned layers, final norm and output head."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Float, Int32

from encoders.nn.layers import Linear
from encoders.nn.mesh import constrain
from encoders.nn.weights import layer_of, matmul
from omni.decoder.cache import HybridCache
from omni.decoder.config import TextConfig
from omni.decoder.depth import Block, Run
from omni.decoder.layer import DecoderLayer
from omni.decoder.media_rows import MediaRows
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import Rotation, rotation

# What every layer is told of the tokens: turns, slots, lengths of the rows, and which are real.
Reading = tuple[Rotation, jax.Array, jax.Array, jax.Array]


class Embedding(nnx.Module):
    """A row of weights for each token."""

    def __init__(self, vocabulary: int, width: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.weight: nnx.Param[Any] = nnx.Param(
            nnx.initializers.normal(0.02)(rngs.params(), (vocabulary, width), dtype)
        )

    def __call__(self, ids: Int32[jax.Array, "*shape"]) -> Float[jax.Array, "*shape width"]:
        """The rows of tokens."""
        return self.weight[ids]


class TextDecoder(nnx.Module):
    """A Qwen3 decoder.

    Rows of a batch are padded on the right, and `counts` says how many of a row's tokens are real: pads change nothing.
    Layers are stacks of parameters with a leading layer axis, applied by a scan: one stack where all layers are of one
    kind, else a list with one for each of `config.blocks`.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden state.
        scan_layers: whether layers are applied by a scan, or one by one in a longer program.
        checkpoint_policy: what each layer keeps for its gradient where there is no cache, one of
            `jax.checkpoint_policies`; the rest is computed again. None keeps all.
    """

    def __init__(
        self,
        config: TextConfig,
        *,
        rngs: nnx.Rngs,
        dtype: Any = jnp.float32,
        scan_layers: bool = True,
        checkpoint_policy: Callable[..., Any] | None = None,
    ):
        self.config = config
        self.dtype = dtype
        self.scan_layers = scan_layers
        self.checkpoint_policy = checkpoint_policy
        self.embed_tokens: Embedding = Embedding(config.vocab_size, config.hidden_size, rngs=rngs, dtype=dtype)

        def stack(block: Block) -> DecoderLayer:
            @nnx.split_rngs(splits=len(block.layers))
            @nnx.vmap
            def stacked(rngs: nnx.Rngs) -> DecoderLayer:
                return DecoderLayer(config, block.kind, rngs=rngs, dtype=dtype)

            return stacked(rngs)

        stacks = [stack(block) for block in config.blocks]
        self.layers: Any = stacks[0] if len(stacks) == 1 else nnx.List(stacks)
        self.norm: RMSNorm = RMSNorm(
            config.hidden_size, config.rms_norm_eps, zero_centered=config.zero_centered_norms, dtype=dtype
        )
        if config.untied_head:
            self.lm_head: Linear = Linear(config.hidden_size, config.vocab_size, use_bias=False, rngs=rngs, dtype=dtype)

    def embed(self, token_ids: Int32[jax.Array, "batch tokens"]) -> Float[jax.Array, "batch tokens width"]:
        """The hidden state that each token starts from."""
        return constrain(self.embed_tokens(token_ids).astype(self.dtype), "batch", None, None)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        positions: Float[jax.Array, "3 batch tokens"],
        cache: HybridCache | None,
        counts: Int32[jax.Array, "batch"],
        media: MediaRows | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], HybridCache | None]:
        """Reads tokens after those of the cache.

        Args:
            x: embeddings, of text or of anything projected to the same width.
            positions: rotary positions in time, height and width.
            cache: what each row has read; it must have slots for `counts` more tokens. None when nothing came before
                and nothing will come after, as in training.
            counts: how many tokens of each row are real; the rest, on the right, are pads.
            media: whose deepstack levels are added to the hidden state after the first layers, one level a layer. Its
                rows are in `x` already.

        Returns:
            The hidden state after the final norm, and the cache with the new tokens. Donate the cache to the jitted
            call around this one, and it is updated in place.

        Raises:
            ValueError: more deepstack levels than layers.
        """
        depth = self.config.num_hidden_layers
        if media is not None and media.levels is not None and len(media.levels) > depth:
            raise ValueError(f"{len(media.levels)} deepstack levels for num_hidden_layers={depth}")
        reading, lengths_B = self._reading(x, positions, cache, counts)
        if cache is None:
            return self.norm(self._read(x, reading, media)), None
        x, cache, _ = self._read_on(x, cache, reading, media)
        return self.norm(x), replace(cache, lengths=lengths_B)

    def states(
        self,
        x: Float[jax.Array, "batch tokens width"],
        positions: Float[jax.Array, "3 batch tokens"],
        cache: HybridCache,
        counts: Int32[jax.Array, "batch"],
        media: MediaRows | None = None,
    ) -> tuple[Float[jax.Array, "layers batch tokens width"], HybridCache]:
        """As a call, with the hidden state after every layer, deepstack's rows added, in place of the last alone."""
        reading, lengths_B = self._reading(x, positions, cache, counts)
        _, cache, kept = self._read_on(x, cache, reading, media, keep=True)
        # From steps and blocks of each run to layers: a run of several blocks goes through them in turn.
        layers = [number for run in self.config.runs for block in run for number in block.layers]
        return jnp.concatenate(kept)[np.argsort(layers)], replace(cache, lengths=lengths_B)

    def _reading(
        self, x: jax.Array, positions: jax.Array, cache: HybridCache | None, counts: jax.Array
    ) -> tuple[Reading, jax.Array]:
        """What layers are told of the tokens, and the lengths of the rows with them."""
        config = self.config
        place_T = jnp.arange(x.shape[1])
        real_BT = place_T < counts[:, None]
        before_B = jnp.zeros_like(counts) if cache is None else cache.lengths
        capacity = x.shape[1] if cache is None else cache.slots
        slots_BT = jnp.where(real_BT, before_B[:, None] + place_T, capacity).astype(jnp.int32)
        turns = rotation(positions, config.rotary_width, config.rope_theta, config.mrope_section)

        lengths_B = before_B + counts
        return (turns, slots_BT, lengths_B, real_BT), lengths_B

    def _read(self, x: jax.Array, reading: Reading, media: MediaRows | None) -> jax.Array:
        """Weights are the scan's inputs: each layer is copied out of its stack, and its gradient is written once."""

        def apply(graph: Any, weights: Any, x: jax.Array) -> jax.Array:
            return nnx.merge(graph, weights)(x, *reading)[0]

        if self.checkpoint_policy is not None:
            apply = jax.checkpoint(
                apply, policy=self.checkpoint_policy, prevent_cse=not self.scan_layers, static_argnums=0
            )
        for run, stacks in self._runs():
            graphs, weights = zip(*map(nnx.split, stacks), strict=True)

            def forward(x: jax.Array, scanned: Any, run: Run = run, graphs: Any = graphs) -> tuple[jax.Array, None]:
                weights, i = scanned
                for block, graph, own in zip(run, graphs, weights, strict=True):
                    x = _add_level(apply(graph, own, x), media, block, i)
                return x, None

            x, _ = self._scan(forward, x, (weights, jnp.arange(len(run[0].layers))))
        return x

    def _read_on(
        self, x: jax.Array, cache: HybridCache, reading: Reading, media: MediaRows | None, *, keep: bool = False
    ) -> tuple[jax.Array, HybridCache, list[jax.Array]]:
        """Weights are constants of the scan: each layer reads from its stack what it multiplies, and copies no more.

        The cache is carried from layer to layer and written in place. `keep` also gives what each block's layers left,
        one stack a block.
        """
        kept, linear = [], 0
        carry = x, cache
        for run, stacks in self._runs():

            def step(carry: Any, i: Any, run: Run = run, stacks: Any = stacks, linear: int = linear) -> tuple[Any, Any]:
                x, cache = carry
                reached = []
                for block, stack in zip(run, stacks, strict=True):
                    layer = layer_of(stack, i)
                    if block.kind.attention == "linear_attention":
                        x, state = layer(x, *reading, cache.state(linear, i))
                        cache, linear = cache.keep_state(linear, i, state), linear + 1
                    else:
                        x, cache = layer(x, *reading, cache, _at(block.places, i))
                    x = _add_level(x, media, block, i)
                    reached.append(x)
                return (x, cache), tuple(reached) if keep else ()

            carry, reached = self._scan(step, carry, jnp.arange(len(run[0].layers)))
            linear += sum(block.kind.attention == "linear_attention" for block in run)
            kept += reached
        x, cache = carry
        return x, cache, kept

    def _runs(self) -> Iterator[tuple[Run, list[DecoderLayer]]]:
        """Each run of the depth, with the stack of each of its blocks."""
        stacks = iter([self.layers] if isinstance(self.layers, DecoderLayer) else self.layers)
        for run in self.config.runs:
            yield run, list(islice(stacks, len(run)))

    def _scan(self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, scanned: Any) -> tuple[Any, Any]:
        """As `lax.scan`, and one step after another where layers are not to be scanned."""
        if self.scan_layers:
            return lax.scan(step, carry, scanned)
        found = []
        for i in range(len(jax.tree.leaves(scanned)[0])):
            carry, out = step(carry, jax.tree.map(lambda leaf, i=i: leaf[i], scanned))
            found.append(out)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

    def logits(self, hidden: Float[jax.Array, "*rows width"]) -> Float[jax.Array, "*rows vocabulary"]:
        """Scores of the next token, in float32."""
        head = self.lm_head if self.config.untied_head else self.embed_tokens
        return matmul(hidden, head.weight.get_value())


def _at(numbers: range, i: jax.Array) -> jax.Array:
    """`numbers[i]`."""
    return i if numbers.start == 0 and numbers.step == 1 else numbers.start + numbers.step * i


def _add_level(x: jax.Array, media: MediaRows | None, block: Block, i: jax.Array) -> jax.Array:
    """Adds what deepstack has for the layer `i` of a block."""
    if media is None or media.levels is None or block.layers[0] >= len(media.levels):
        return x
    return media.add_level(x, _at(block.layers, i))
