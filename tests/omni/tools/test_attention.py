"""Shares of attention are those of a softmax over what is looked at."""

import jax.numpy as jnp
import numpy as np
import pytest

import omni
from omni.tools.attention import patch_attention, token_attention
from omni.tools.drawing.attention import attention_picture
from tests.golden import media


def conversation(image):
    content = [{"type": "image", "image": image}, {"type": "text", "text": "Where is it?"}]
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def own(tiny_checkpoint):
    """A model whose weights a test may edit."""
    return omni.load(tiny_checkpoint, dtype="float32")


def test_shares_of_patches_add_up_and_are_even_where_nothing_is_asked(own):
    features = own.media.read(media.image("odd"))
    layers, patches = own.config.vision.depth, len(features.pixels)
    shares = patch_attention(own, media.image("odd"))
    assert shares.shape == (layers, patches, patches) and patches > 4
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    assert (shares.std(axis=-1) > 1e-6).all()
    blocks = own.parts.vision.encoder.blocks
    weight, bias = blocks.attn.qkv.weight[...], blocks.attn.qkv.bias[...]
    blocks.attn.qkv.weight[...], blocks.attn.qkv.bias[...] = jnp.zeros_like(weight), jnp.zeros_like(bias)
    np.testing.assert_allclose(patch_attention(own, features), 1 / patches, rtol=1e-5)
    blocks.attn.qkv.weight[...], blocks.attn.qkv.bias[...] = weight, bias
    picture = attention_picture(features, {f"layer {i}": shares[i].mean(axis=0) for i in range(layers)})
    assert len(picture.figure().axes) == layers


def test_shares_of_tokens_add_up_and_follow_the_query(own):
    inputs = own.prepare(conversation(media.image("odd")))
    shares = token_attention(own, inputs)
    assert shares.shape == (own.config.text.num_hidden_layers, len(inputs.token_ids))
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    assert (shares.std(axis=-1) > 1e-6).all()


def test_other_media_have_no_patches_to_show(own):
    with pytest.raises(omni.InputError) as error:
        patch_attention(own, omni.Audio(media.audio("short"), media.RATE))
    assert error.value.code == "wrong_medium"
