"""Attention weights, computed once more and plainly: which patches an image's patches, and an answer, look at."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32

from encoders.buckets import VisionRows, vision_calls
from encoders.nn.context import in_own_context
from encoders.nn.rotary import axial_rotation
from encoders.nn.rotary import rotate as rotate_axial
from encoders.nn.weights import layer_of
from encoders.vision import VisionAttention, VisionEncoder
from omni.decoder.attention import SelfAttention
from omni.decoder.layer import DecoderLayer
from omni.decoder.rotary import Rotation, rotate, rotation
from omni.errors import InputError
from omni.media.encoder import as_medium
from omni.model import Model
from omni.prompt.inputs import Inputs
from processors.image import ImageFeatures


@in_own_context
def patch_attention(model: Model, image: Any) -> Float32[np.ndarray, "layers patches patches"]:
    """Return how much of each patch every patch of an image reads in the vision tower, as the mean of the heads.

    Args:
        model: with a vision tower.
        image: one image, as `Model.encode` takes it, or what the processor made of it.

    Returns:
        For each layer and each patch the shares of all patches, which add up to 1. Patches are numbered row by row, and
        not in the order of merge blocks.

    Raises:
        InputError: `wrong_medium`, it is another medium, or several images; it cannot be read.
    """
    features = image if isinstance(image, ImageFeatures) else model.media.read(as_medium(image))
    if not isinstance(features, ImageFeatures) or len(features.grid_thw) != 1:
        raise InputError("wrong_medium", "attention over patches is shown of one image")
    parts: Any = model.parts
    encoder, (_, height, width) = parts.vision.encoder, features.grid_thw[0].tolist()
    rows: Any = next(iter(vision_calls(features.pixels, features.grid_thw, encoder.config, 1))).rows
    weights = np.asarray(_vision_weights(encoder, rows))[:, : height * width, : height * width]
    places = np.asarray(rows.coordinates)[0, : height * width]
    order = np.argsort(places[:, 0] * width + places[:, 1])
    return weights[:, order][:, :, order]


@in_own_context
def token_attention(model: Model, inputs: Inputs) -> Float32[np.ndarray, "layers tokens"]:
    """Return how much of each token the decoder reads where it begins to answer, as the mean of the heads.

    Args:
        model: with a text decoder.
        inputs: a conversation, as `Model.prepare` makes it; `inputs.spans` tells which tokens are a medium's.

    Returns:
        For each layer the shares of all tokens, which add up to 1; NaN for layers of linear attention, which have none.
    """
    parts: Any = model.parts
    decoder, states = parts.text, model.engine.states(inputs.to_prompt())
    config = decoder.config
    # What each layer reads is what the layer before it leaves.
    read = np.concatenate([states.embedded[None], states.layers[:-1]])
    positions = jnp.asarray(inputs.position_ids, jnp.float32)[:, None]
    turns = rotation(positions, config.rotary_width, config.rope_theta, config.mrope_section)
    shares = np.full((config.num_hidden_layers, len(inputs.token_ids)), np.nan, np.float32)
    stacks = [decoder.layers] if isinstance(decoder.layers, DecoderLayer) else list(decoder.layers)
    for block, stack in zip(config.blocks, stacks, strict=True):
        if block.kind.attention == "linear_attention":
            continue
        for place, number in enumerate(block.layers):
            layer = layer_of(stack, jnp.int32(place))
            x = layer.input_layernorm(jnp.asarray(read[number])[None].astype(decoder.dtype))
            shares[number] = np.asarray(_last_weights(layer.self_attn, x, turns))
    return shares


@nnx.jit
def _vision_weights(encoder: VisionEncoder, rows: VisionRows) -> Float[Array, "layers length length"]:
    """Every block as the tower runs it, and its weights beside it."""
    config = encoder.config
    pixels, coordinates, table_indices, table_weights, lengths = (jnp.asarray(a) for a in rows)
    x = encoder.patch_embed(pixels)
    x = x + encoder.pos_embed(table_indices, table_weights).astype(x.dtype)
    turns = axial_rotation(coordinates, config.hidden_size // config.num_heads, config.rope_theta)
    graph, weights = nnx.split(encoder.blocks)

    def step(x: Array, own: Any) -> tuple[Array, Array]:
        block = nnx.merge(graph, own)
        return block(x, turns, lengths), _block_weights(block.attn, block.norm1(x), turns, lengths)

    return lax.scan(step, x, weights)[1]


def _block_weights(attention: VisionAttention, x: Array, turns: Any, lengths: Array) -> Float[Array, "length length"]:
    _, L, D = x.shape
    q, k, _ = jnp.moveaxis(attention.qkv(x).reshape(L, 3, attention.heads, D // attention.heads), 1, 0)
    q_LNH, k_LNH = (rotate_axial(a[None], turns)[0].astype(jnp.float32) for a in (q, k))
    scores = jnp.einsum("qnh,knh->nqk", q_LNH, k_LNH) / jnp.sqrt(jnp.float32(q_LNH.shape[-1]))
    return jax.nn.softmax(jnp.where(jnp.arange(L) < lengths[0], scores, -jnp.inf)).mean(axis=0)


def _last_weights(attention: SelfAttention, x: Array, turns: Rotation) -> Float[Array, "tokens"]:
    """Of the last token, which sees all."""
    _, T, _ = x.shape
    q = attention.q_proj(x).reshape(1, T, -1, attention.head_width)
    if attention.gated:
        q = q[:, :, 0::2]
    k = attention.k_proj(x).reshape(1, T, -1, attention.head_width)
    q_NH = rotate(attention.q_norm(q), turns)[0, -1].astype(jnp.float32)
    k_TKH = rotate(attention.k_norm(k), turns)[0].astype(jnp.float32)
    q_KGH = q_NH.reshape(k_TKH.shape[1], -1, q_NH.shape[-1])
    scores = jnp.einsum("kgh,tkh->kgt", q_KGH, k_TKH) / jnp.sqrt(jnp.float32(q_NH.shape[-1]))
    return jax.nn.softmax(scores).mean(axis=(0, 1))
