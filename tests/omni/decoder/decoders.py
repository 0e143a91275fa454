"""Small decoders with weights that make each part count, and how tests run them."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni.decoder import TextConfig, TextDecoder
from omni.decoder.media_rows import MediaRows

CONFIG = TextConfig(
    vocab_size=61,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=48,
    num_experts=8,
    num_experts_per_tok=2,
    moe_intermediate_size=24,
    mrope_section=(4, 2, 2),
)
DENSE = replace(CONFIG, num_experts=0, tie_word_embeddings=True, attention_bias=True)
# A dense layer, which fits no cycle, and then two cycles of a linear and a full one.
_TYPES = ("linear", "linear", "full", "linear", "full")
HYBRID = replace(
    CONFIG,
    num_hidden_layers=5,
    layer_types=tuple(f"{kind}_attention" for kind in _TYPES),
    mlp_only_layers=(0,),
    num_experts_per_tok=8,  # all of them: where a choice tips, results jump
    shared_expert_intermediate_size=20,
    attn_output_gate=True,
    zero_centered_norms=True,
    partial_rotary_factor=0.5,
    mrope_section=(2, 1, 1),
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=12,
)


def make(config, dtype=jnp.float32):
    decoder = nnx.eval_shape(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=dtype))
    dice = np.random.default_rng(1)

    def spread(path, leaf):
        width = leaf.shape[-1]
        values = dice.normal(size=leaf.shape) * (0.3 if path[-1] == "bias" else width**-0.5)
        if "norm" in str(path[-2]):
            centered = config.zero_centered_norms and "linear_attn" not in path
            values = 0.2 * dice.normal(size=leaf.shape) + (0 if centered else 1)
        # Queries and keys are made unit length: what is small beforehand makes for steep slopes.
        values = 2 * dice.normal(size=leaf.shape) if "conv1d" in path else values
        # Linear layers that remember.
        values = values - 2 if "A_log" in path else values
        return leaf.replace(jnp.asarray(values, dtype))

    nnx.update(decoder, nnx.map_state(spread, nnx.state(decoder)))
    return decoder


@functools.partial(jax.jit, static_argnums=0)
def read_split(graph, state, *arguments):
    return nnx.merge(graph, state)(*arguments)


def read(decoder, *arguments):
    return read_split(*nnx.split(decoder), *arguments)


def draw(decoder, batch, tokens, seed=0):
    """Embeddings, and positions that differ between the axes."""
    dice = np.random.default_rng(seed)
    x = jnp.asarray(dice.normal(size=(batch, tokens, decoder.config.hidden_size)), jnp.float32)
    positions = jnp.asarray(np.cumsum(dice.uniform(0, 3, (3, batch, tokens)), -1), jnp.float32)
    return x, positions


def rows_of(deepstack):
    """Levels [levels, batch, tokens, width] as a table that gives every token its own row."""
    levels, batch, tokens, width = deepstack.shape
    sources = 1 + jnp.arange(batch * tokens, dtype=jnp.int32).reshape(batch, tokens)
    return MediaRows(jnp.zeros((batch * tokens, width)), deepstack.reshape(levels, -1, width), sources)


def full(batch, tokens):
    return jnp.full(batch, tokens, jnp.int32)


def near(found, wanted, tolerance=2e-6):
    error = np.linalg.norm(np.asarray(found) - np.asarray(wanted)) / np.linalg.norm(np.asarray(wanted))
    assert error < tolerance, error
