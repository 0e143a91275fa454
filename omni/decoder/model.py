"""The text decoder: token embedding, scanned layers, final norm and output head."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Float, Int32

from encoders.layers import Linear, matmul
from omni.decoder.cache import KVCache
from omni.decoder.config import TextConfig
from omni.decoder.layer import DecoderLayer
from omni.decoder.norm import RMSNorm
from omni.decoder.rotary import rotation


class Embedding(nnx.Module):
    """A row of weights for each token."""

    def __init__(self, vocabulary: int, width: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.weight = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (vocabulary, width), dtype))

    def __call__(self, ids: Int32[jax.Array, "*shape"]) -> Float[jax.Array, "*shape width"]:
        """The rows of tokens."""
        return self.weight[...][ids]


class TextDecoder(nnx.Module):
    """A Qwen3 decoder.

    Rows of a batch are padded on the right, and `counts` says how many of a row's tokens are real: pads change nothing.
    All layers are one stack of parameters with a leading layer axis, applied by a scan.

    Args:
        config: sizes.
        rngs: for the initial weights.
        dtype: of the weights and the hidden state.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.config = config
        self.dtype = dtype
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, rngs=rngs, dtype=dtype)

        @nnx.split_rngs(splits=config.num_hidden_layers)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> DecoderLayer:
            return DecoderLayer(config, rngs=rngs, dtype=dtype)

        self.layers = stacked(rngs)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype=dtype)
        if config.own_head:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, use_bias=False, rngs=rngs, dtype=dtype)

    def embed(self, token_ids: Int32[jax.Array, "batch tokens"]) -> Float[jax.Array, "batch tokens width"]:
        """The hidden state that each token starts from."""
        return self.embed_tokens(token_ids)

    def __call__(
        self,
        x: Float[jax.Array, "batch tokens width"],
        positions: Float[jax.Array, "3 batch tokens"],
        cache: KVCache | None,
        counts: Int32[jax.Array, "batch"],
        deepstack: Float[jax.Array, "levels batch tokens width"] | None = None,
    ) -> tuple[Float[jax.Array, "batch tokens width"], KVCache | None]:
        """Reads tokens after those of the cache.

        Args:
            x: embeddings, of text or of anything projected to the same width.
            positions: rotary positions in time, height and width.
            cache: what each row has read; it must have room for `counts` more tokens. None when nothing came before
                and nothing will come after, as in training.
            counts: how many tokens of each row are real; the rest, on the right, are pads.
            deepstack: added to the hidden state after the first layers, one level a layer; zeros for tokens that
                have none.

        Returns:
            The hidden state after the final norm, and the cache with the new tokens. Donate the cache to the jitted
            call around this one, and it is updated in place.

        Raises:
            ValueError: more deepstack levels than layers.
        """
        config = self.config
        if deepstack is not None and len(deepstack) > config.num_hidden_layers:
            raise ValueError(f"{len(deepstack)} deepstack levels for num_hidden_layers={config.num_hidden_layers}")
        place_T = jnp.arange(x.shape[1])
        real_BT = place_T < counts[:, None]
        before_B = jnp.zeros_like(counts) if cache is None else cache.lengths
        capacity = x.shape[1] if cache is None else cache.capacity
        slots_BT = jnp.where(real_BT, before_B[:, None] + place_T, capacity).astype(jnp.int32)
        turns = rotation(positions, config.head_width, config.rope_theta, config.mrope_section)

        def add_level(x: jax.Array, index: jax.Array) -> jax.Array:
            if deepstack is None:
                return x
            level = deepstack[jnp.minimum(index, len(deepstack) - 1)].astype(x.dtype)
            return x + jnp.where(index < len(deepstack), level, 0)

        indices = jnp.arange(config.num_hidden_layers)
        if cache is None:
            # Weights are the scan's inputs: each layer is copied out of the stack, and its gradient is written once.
            graph, weights = nnx.split(self.layers)

            def forward(x: jax.Array, scanned: tuple[Any, jax.Array]):
                weights, index = scanned
                x, _ = nnx.merge(graph, weights)(x, turns, slots_BT, counts, real_BT)
                return add_level(x, index), None

            x, _ = lax.scan(forward, x, (weights, indices))
            return self.norm(x), None

        # Weights are constants of the scan: each layer reads from the stack what it multiplies, and copies no more.
        lengths_B = before_B + counts

        def step(carry: tuple[jax.Array, Any], index: jax.Array) -> tuple[tuple[jax.Array, Any], None]:
            x, cache = self.layers(carry[0], turns, slots_BT, lengths_B, real_BT, carry[1], index)
            return (add_level(x, index), cache), None

        (x, filled), _ = lax.scan(step, (x, cache), indices)
        return self.norm(x), replace(filled, lengths=lengths_B)

    def logits(self, hidden: Float[jax.Array, "*rows width"]) -> Float[jax.Array, "*rows vocabulary"]:
        """Scores of the next token, in float32."""
        head = self.lm_head if self.config.own_head else self.embed_tokens
        return matmul(hidden, head.weight[...])
