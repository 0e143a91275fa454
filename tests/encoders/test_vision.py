"""The vision tower equals the reference stage by stage, and a frame's tokens depend on nothing but the frame."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders import VisionConfig, VisionEmbedder, VisionEncoder, VisionTower
from encoders.buckets import VisionRows, vision_calls
from processors import ImageProcessor, VideoProcessor
from tests.golden import media
from tests.golden.load import relative_error

TOLERANCE = 5e-6  # relative L2 to the reference, which computes in float32 too; 1.5e-6 is reached


@pytest.fixture(scope="module")
def tower(draw, small_vision):
    return draw(lambda: VisionTower(small_vision, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def golden_tower(golden_towers):
    return golden_towers("float32").vision


def pictures(*sizes, values=768, seed=0):
    """uint8 patches of stills, or of clips of one frame, with their grids."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (sum(h * w for h, w in sizes), values), np.uint8)
    return pixels, np.asarray([(1, h, w) for h, w in sizes], np.int32)


def row_of(pixels, height, width, config) -> VisionRows:
    (call,) = vision_calls(pixels, np.asarray([(1, height, width)], np.int32), config, 1)
    return call.rows


def normalised(pixels, mean=0.5, std=0.5):
    """float32 pixel values of uint8 patches; mean and std one number, or one a channel."""
    levels = pixels.reshape(len(pixels), 3, -1) / 255
    mean, std = (np.broadcast_to(np.asarray(a), 3)[:, None] for a in (mean, std))
    return ((levels - mean) / std).reshape(pixels.shape).astype(np.float32)


def twice(pixels):
    """A still's patches as those of a clip that shows it in both frames."""
    return np.repeat(pixels.reshape(len(pixels), 3, 1, -1), 2, axis=2).reshape(len(pixels), -1)


def frames_of(apply, tower, pixels, grid, at_once):
    """Tokens and deepstack of each frame, several frames to a call where they fit."""
    found = {}
    for call in vision_calls(pixels, grid, tower.config, at_once):
        tokens, deepstack = jax.device_get(apply(tower, *call.rows))
        for row, i in enumerate(call.members):
            count = call.rows.lengths[row] // tower.config.merge_unit
            found[i] = np.concatenate([tokens[None, row, :count], deepstack[:, row, :count]])
    return [found[i] for i in range(len(found))]


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(golden_tower, golden, tiny_checkpoint):
    """Every golden picture, encoded in one call, and every golden film, in another."""
    embedder = VisionEmbedder(golden_tower)
    images = {name: ImageProcessor.from_pretrained(tiny_checkpoint)([media.image(name)]) for name in media.IMAGES}
    processor = VideoProcessor.from_pretrained(tiny_checkpoint)
    films = {name: processor(frames, fps=fps) for name in media.VIDEO for frames, fps in [media.video(name)]}
    found = {}
    for group in (images, films):
        grids = np.concatenate([features.grid_thw for features in group.values()])
        pixels = np.concatenate([features.pixels for features in group.values()])
        for name, grid, embedding in zip(group, grids, embedder.encode(pixels, grids), strict=True):
            np.testing.assert_array_equal(grid, golden.vision[f"{name}/grid_thw"])
            found[name] = embedding
    return found


@pytest.mark.parametrize("name", [*media.IMAGES, *media.VIDEO])
def test_tokens_and_deepstack_are_the_references(seen, golden, name):
    tokens, deepstack = seen[name]
    assert tokens.dtype == deepstack.dtype == np.float32
    assert relative_error(tokens, golden.vision[f"{name}/tokens"]) < TOLERANCE
    every = 4 if name in media.VIDEO else 1
    for ours, theirs in zip(deepstack[:, ::every], golden.vision[f"{name}/deepstack"], strict=True):
        assert relative_error(ours, theirs) < TOLERANCE


def with_every_block_kept(encoder):
    """The same encoder, whose deepstack is the hidden states after every block."""
    config = replace(encoder.config, deepstack_visual_indexes=tuple(range(encoder.config.depth)))
    graph, _ = nnx.split(nnx.eval_shape(lambda: VisionEncoder(config, rngs=nnx.Rngs(0))))
    return nnx.merge(graph, nnx.split(encoder)[1])


def test_every_stage_is_the_references(golden_tower, golden, apply):
    encoder, pixels = golden_tower.encoder, golden.vision["small/pixels"]
    count = len(pixels)
    rows = row_of(pixels, *golden.vision["small/grid_thw"][1:].tolist(), encoder.config)
    embedded = encoder.patch_embed(jnp.asarray(rows.pixels))
    placed = embedded + encoder.pos_embed(jnp.asarray(rows.table_indices), jnp.asarray(rows.table_weights))
    hidden = apply(with_every_block_kept(encoder), *rows)
    stages = {"patch_embed": embedded[0], "positions_added": placed[0]}
    stages |= {f"block{i}": block[0] for i, block in enumerate(hidden.deepstack)}
    assert len(stages) == 2 + encoder.config.depth
    for name, stage in stages.items():
        assert relative_error(stage[:count], golden.stages[f"vision/{name}"]) < TOLERANCE, name
    np.testing.assert_array_equal(hidden.last, hidden.deepstack[-1])


def test_bfloat16_stays_near_the_reference(golden_towers, golden, cosines):
    embedder = VisionEmbedder(golden_towers("bfloat16").vision)
    names = [name for name in media.IMAGES if name != "large"]
    pixels = np.concatenate([golden.vision[f"{name}/pixels"] for name in names])
    grids = np.stack([golden.vision[f"{name}/grid_thw"] for name in names])
    for name, (tokens, deepstack) in zip(names, embedder.encode(pixels, grids), strict=True):
        assert tokens.dtype == deepstack.dtype == np.float32
        assert cosines(tokens, golden.vision[f"{name}/tokens"]).min() > 0.9995, name
        assert cosines(deepstack, golden.vision[f"{name}/deepstack"]).min() > 0.9995, name


# --- a frame by itself ------------------------------------------------------------------------------------------------


def test_alone_equals_in_a_batch_whatever_the_neighbours_and_order(tower, apply):
    sizes = [(4, 6), (16, 16), (2, 2), (20, 24), (2, 60), (10, 14), (30, 4)]
    pixels, grid = pictures(*sizes)
    parts = np.split(pixels, np.cumsum([h * w for h, w in sizes])[:-1])
    alone = [frames_of(apply, tower, part, grid[i : i + 1], 1)[0] for i, part in enumerate(parts)]
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 3, 0, 5, 1, 4, 2], [2, 2, 2, 2, 2, 1, 3]):
        mixed = np.concatenate([parts[i] for i in order])
        together = frames_of(apply, tower, mixed, grid[order], 1024)
        for i, found in zip(order, together, strict=True):
            assert found.shape == alone[i].shape
            np.testing.assert_allclose(found, alone[i], atol=1e-5, rtol=0)


def test_other_frames_show(tower, apply):
    """What the test above would not see: outputs that do not depend on the input."""
    (one,) = frames_of(apply, tower, *pictures((4, 6), seed=1), 1)
    (other,) = frames_of(apply, tower, *pictures((4, 6), seed=2), 1)
    for ours, theirs in zip(one, other, strict=True):
        assert relative_error(ours, theirs) > 0.2


@pytest.mark.parametrize("length", [320, 576])
def test_the_padded_length_changes_nothing(tower, apply, length):
    rows = row_of(*pictures((14, 18))[:1], 14, 18, tower.config)
    longer = VisionRows(
        *(np.pad(a, ((0, 0), (0, length - a.shape[1]), (0, 0))) for a in rows[:4]), lengths=rows.lengths
    )
    short, long = apply(tower, *rows), apply(tower, *longer)
    tokens = 14 * 18 // 4
    np.testing.assert_allclose(long.tokens[:, :tokens], short.tokens[:, :tokens], atol=1e-5, rtol=0)
    np.testing.assert_allclose(long.deepstack[:, :, :tokens], short.deepstack[:, :, :tokens], atol=1e-5, rtol=0)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_garbage_in_pads_reaches_no_token(tower, apply, garbage):
    pixels, _ = pictures((6, 8), values=1536)
    rows = row_of(normalised(pixels), 6, 8, tower.config)
    spoilt = VisionRows(*(a.copy() for a in rows))
    spoilt.pixels[:, 48:] = spoilt.table_weights[:, 48:] = garbage
    spoilt.coordinates[:, 48:] = 10**6
    clean, found = apply(tower, *rows), apply(tower, *spoilt)
    assert np.isfinite(clean.tokens[:, :12]).all()
    np.testing.assert_array_equal(found.tokens[:, :12], clean.tokens[:, :12])
    np.testing.assert_array_equal(found.deepstack[:, :, :12], clean.deepstack[:, :, :12])


def test_frames_do_not_mix(tower, apply):
    """Three frames of a clip, side by side in one call: only the one that changes changes."""
    random = np.random.default_rng(0)
    pixels, grid = random.integers(0, 256, (4 * 48, 1536), np.uint8), np.asarray([(4, 6, 8)], np.int32)
    changed = pixels.copy()
    changed[48:96] = 255 - changed[48:96]
    before, after = (frames_of(apply, tower, p, grid, 1024) for p in (pixels, changed))
    for i in (0, 2, 3):
        np.testing.assert_array_equal(after[i], before[i])
    assert relative_error(after[1], before[1]) > 0.2


def test_the_place_of_a_patch_matters(tower, apply):
    """The same patches in another grid, or in another order, give other tokens."""
    pixels, grid = pictures((4, 6))
    (wide,) = frames_of(apply, tower, pixels, grid, 1)
    (tall,) = frames_of(apply, tower, pixels, grid[:, [0, 2, 1]], 1)
    (turned,) = frames_of(apply, tower, pixels[::-1].copy(), grid, 1)
    assert relative_error(tall, wide) > 0.05
    assert relative_error(turned[:, ::-1], wide) > 0.05


def test_other_backends_formulation_is_the_same(tower, apply, compiled, monkeypatch):
    pixels, grid = pictures((6, 8), (16, 16), (10, 14), (2, 2))
    here = frames_of(apply, tower, pixels, grid, 1024)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere = compiled()
    there = frames_of(elsewhere, tower, pixels, grid, 1024)
    for ours, theirs in zip(there, here, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    rows = row_of(normalised(twice(pixels[:48])), 6, 8, tower.config)
    rows.pixels[:, 48:] = np.nan
    np.testing.assert_allclose(elsewhere(tower, *rows).tokens[0, :12], here[0][0], atol=1e-5, rtol=0)


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_a_still_equals_the_clip_that_repeats_it(tower, apply):
    """As bytes of one frame, bytes of two, float values of one and of two.

    Sums of 768 products and of 1,536 are rounded in different orders, which depend on the processor.
    """
    pixels, _ = pictures((6, 8))
    embed = tower.encoder.patch_embed
    still = apply(embed, pixels[None])
    assert np.abs(still).max() > 3
    for form in (twice(pixels), normalised(pixels), normalised(twice(pixels))):
        assert relative_error(apply(embed, form[None]), still) < 2e-6


def test_both_frames_of_a_patch_count(tower, apply):
    pixels, _ = pictures((6, 8), values=1536)
    swapped = pixels.reshape(48, 3, 2, 256)[:, :, ::-1].reshape(48, 1536)
    one, other = (apply(tower.encoder.patch_embed, p[None]) for p in (pixels, swapped))
    assert relative_error(other, one) > 0.2


@pytest.mark.parametrize("values", [768, 1536])
def test_bytes_are_normalised_by_the_towers_own_mean_and_deviation(draw, apply, small_vision, values):
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    tower = draw(lambda: VisionTower(small_vision, rngs=nnx.Rngs(0), image_mean=mean, image_std=std))
    embed, (pixels, _) = tower.encoder.patch_embed, pictures((6, 8), values=values)
    found, wanted, halves = (apply(embed, p[None]) for p in (pixels, normalised(pixels, mean, std), normalised(pixels)))
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=0)
    assert relative_error(found, halves) > 0.2


# --- blocks -----------------------------------------------------------------------------------------------------------


def cut(encoder, depth):
    """The first blocks of an encoder."""
    config = replace(encoder.config, depth=depth, deepstack_visual_indexes=())
    graph, _ = nnx.split(nnx.eval_shape(lambda: VisionEncoder(config, rngs=nnx.Rngs(0))))
    weights = nnx.split(encoder)[1]
    weights["blocks"] = jax.tree.map(lambda a: a[:depth], weights["blocks"])
    return nnx.merge(graph, weights)


def test_deepstack_is_the_hidden_states_after_its_blocks(tower, apply):
    encoder, rows = tower.encoder, row_of(pictures((6, 8))[0], 6, 8, tower.config)
    hidden = apply(encoder, *rows)
    assert encoder.config.deepstack_visual_indexes == (0, 2) and hidden.deepstack.shape == (2, *hidden.last.shape)
    shallow = apply(cut(encoder, 1), *rows)
    assert shallow.deepstack is None
    np.testing.assert_allclose(hidden.deepstack[0, :, :48], shallow.last[:, :48], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(hidden.deepstack[1], hidden.last)
    assert relative_error(hidden.deepstack[0], hidden.last) > 0.2


def test_without_deepstack_there_are_no_such_mergers(draw, apply, small_vision):
    config = replace(small_vision, deepstack_visual_indexes=())
    tower = draw(lambda: VisionTower(config, rngs=nnx.Rngs(0)))
    assert not hasattr(tower.projector, "deepstack_mergers")
    (embedding,) = VisionEmbedder(tower).encode(*pictures((4, 6)))
    assert embedding.deepstack is None and embedding.tokens.shape == (6, 48)


def test_bfloat16_stays_near_float32(draw, apply, cosines, small_vision, tower):
    half = draw(lambda: VisionTower(small_vision, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    rows = row_of(pictures((14, 18))[0], 14, 18, small_vision)
    exact, rough = apply(tower, *rows), apply(half, *rows)
    assert rough.tokens.dtype == rough.deepstack.dtype == jnp.bfloat16
    assert cosines(rough.tokens, exact.tokens)[:, :63].min() > 0.999
    assert cosines(rough.deepstack, exact.deepstack)[:, :, :63].min() > 0.999


def test_the_released_size_builds_without_memory():
    tower = nnx.eval_shape(lambda: VisionTower(VisionConfig(), rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    leaves = jax.tree.leaves(nnx.state(tower))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) and leaf.dtype == jnp.bfloat16 for leaf in leaves)
    assert round(sum(leaf.size for leaf in leaves) / 1e9, 2) == 0.54
