"""The audio tower equals the reference stage by stage, and a clip's tokens depend on nothing but the clip."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders import AudioConfig, AudioEmbedder, AudioTower
from encoders.audio import DownsamplingConvolution, sinusoids
from encoders.buckets import AudioRows, audio_calls, audio_token_count
from processors import AudioProcessor
from tests.golden import media
from tests.golden.load import relative_error

TOLERANCE = 5e-6  # relative L2 to the reference, which computes in float32 too


@pytest.fixture(scope="module")
def tower(draw, small_audio):
    return draw(lambda: AudioTower(small_audio, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def golden_tower(golden_towers):
    return golden_towers("float32").audio


@pytest.fixture(scope="module")
def mels(tiny_checkpoint):
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    return {name: processor(media.audio(name), media.RATE).mel for name in media.AUDIO}


def noise(frames, bins=20, seed=0):
    return np.random.default_rng(seed).standard_normal((bins, frames)).astype(np.float32)


def row_of(mel, config) -> AudioRows:
    (call,) = audio_calls([mel], config)
    return call.rows


def tokens_of(apply, tower, rows):
    """Valid tokens of rows, one array a row."""
    found = np.asarray(apply(tower, *rows))
    return [found[i, :n] for i, n in enumerate(rows.lengths)]


def windows_of(apply, tower, mels):
    """Tokens of each window of clips, several windows to a call."""
    found = {}
    for call in audio_calls(mels, tower.config):
        found |= zip(call.members, tokens_of(apply, tower, call.rows), strict=True)
    return [found[i] for i in range(len(found))]


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(golden_tower, mels):
    """Every golden clip, encoded in one call, the shortest beside the longest."""
    return dict(zip(mels, AudioEmbedder(golden_tower).encode(list(mels.values())), strict=True))


@pytest.mark.parametrize("name", media.AUDIO)
def test_tokens_are_the_references(heard, mels, golden, name):
    assert mels[name].shape[1] == golden.audio[f"{name}/frames"]
    assert heard[name].dtype == np.float32
    assert len(heard[name]) == audio_token_count(mels[name].shape[1], AudioConfig())
    assert relative_error(heard[name], golden.audio[f"{name}/tokens"]) < TOLERANCE


class Same(nnx.Module):
    """In the place of the last norm: shows what goes in."""

    def __call__(self, x):
        return x


def up_to(encoder, layers):
    """The encoder's hidden states after its first layers: the others add nothing, and no norm follows."""
    copy = nnx.clone(encoder)
    for last in (copy.layers.self_attn.out_proj, copy.layers.fc2):
        for parameter in (last.weight, last.bias):
            parameter.set_value(parameter[...].at[layers:].set(0))
    copy.ln_post = Same()
    return copy


def test_every_stage_is_the_references(golden_tower, golden, mels, apply):
    encoder, rows = golden_tower.encoder, row_of(mels["uneven"], golden_tower.config)
    count = int(rows.lengths[0])
    placed = np.asarray(apply(up_to(encoder, 0), *rows))[0]
    convolved = placed.reshape(-1, 13, placed.shape[-1]) - sinusoids(13, placed.shape[-1])
    assert relative_error(convolved, golden.stages["audio/conv_out"]) < TOLERANCE
    assert relative_error(placed[:count], golden.stages["audio/positions_added"]) < TOLERANCE
    for i in range(encoder.config.encoder_layers):
        hidden = apply(up_to(encoder, i + 1), *rows)[0, :count]
        assert relative_error(hidden, golden.stages[f"audio/layer{i}"]) < TOLERANCE, i
    assert relative_error(encoder.ln_post(hidden), golden.stages["audio/ln_post"]) < TOLERANCE


def test_bfloat16_stays_near_the_reference(golden_towers, golden, mels, cosines):
    names = ["tenth", "second", "middle"]
    embedder = AudioEmbedder(golden_towers("bfloat16").audio)
    for name, tokens in zip(names, embedder.encode([mels[name] for name in names]), strict=True):
        assert tokens.dtype == np.float32
        assert cosines(tokens, golden.audio[f"{name}/tokens"]).min() > 0.999, name


# --- a clip by itself -------------------------------------------------------------------------------------------------


def test_alone_equals_beside_others_whatever_the_order(tower, apply):
    """Lengths below a chunk, whole chunks, tails, one window and several; chunks of 24 frames, windows of 96."""
    clips = [noise(n, seed=n) for n in (1, 7, 17, 23, 24, 25, 48, 65, 96, 97, 250, 700)]
    alone = [np.concatenate(windows_of(apply, tower, [clip])) for clip in clips]
    assert [len(tokens) for tokens in alone] == [audio_token_count(clip.shape[1], tower.config) for clip in clips]
    for order in ([*range(12)], [*range(11, -1, -1)], [0, 11, 3, 10, 0, 0], [11, 8, 9, 2, 8]):
        together = np.concatenate(windows_of(apply, tower, [clips[i] for i in order]))
        np.testing.assert_allclose(together, np.concatenate([alone[i] for i in order]), atol=1e-5, rtol=0)


def test_other_clips_show(tower, apply):
    one, other, louder = windows_of(apply, tower, [noise(48, seed=1), noise(48, seed=2), 2 * noise(48, seed=1)])
    assert relative_error(other, one) > 0.2
    assert relative_error(louder, one) > 0.1


def test_windows_do_not_mix(tower, apply):
    """Windows of 96 frames: only the tokens of the one that changes change, to the last bit."""
    before = noise(4 * 96)
    after = before.copy()
    after[:, 96:192] *= -1
    one, other = (np.stack(windows_of(apply, tower, [mel])) for mel in (before, after))
    np.testing.assert_array_equal(other[[0, 2, 3]], one[[0, 2, 3]])
    assert relative_error(other[1], one[1]) > 0.2
    # And each is what it is as a clip of its own.
    for i, tokens in enumerate(one):
        (own,) = windows_of(apply, tower, [before[:, 96 * i : 96 * (i + 1)]])
        np.testing.assert_allclose(own, tokens, atol=1e-5, rtol=0)


def test_chunks_of_a_window_see_one_another(tower, apply):
    before = noise(96)
    after = before.copy()
    after[:, 72:] *= -1
    one, other = (windows_of(apply, tower, [mel])[0] for mel in (before, after))
    assert relative_error(other[:3], one[:3]) > 0.01


def test_a_clip_below_a_chunk_is_convolved_at_its_own_length(tower, apply):
    """As the tower with chunks exactly that long, and not as if silence came after it."""
    for frames in (1, 17):
        mel = noise(frames)
        (found,) = tokens_of(apply, tower, row_of(mel, tower.config))
        exact = AudioRows(mel[None, None], np.asarray([[frames]], np.int32), np.asarray([len(found)], np.int32))
        (wanted,) = tokens_of(apply, tower, exact)
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
        padded = row_of(np.pad(mel, ((0, 0), (0, 24 - frames))), tower.config)
        silence = tokens_of(apply, tower, padded._replace(lengths=exact.lengths))[0]
        assert relative_error(silence, found) > 1e-3, frames


def test_the_tail_of_a_longer_clip_is_padded_to_a_whole_chunk(tower, apply):
    """As if silence came after it, and not at its own length."""
    mel = noise(41)
    rows = row_of(mel, tower.config)
    (found,) = tokens_of(apply, tower, rows)
    assert len(found) == 3 + 3  # 17 frames give 3 tokens
    silence = row_of(np.pad(mel, ((0, 0), (0, 7))), tower.config)
    np.testing.assert_array_equal(tokens_of(apply, tower, silence._replace(lengths=rows.lengths))[0], found)
    own = rows._replace(conv_frames=np.asarray([[24, 17]], np.int32))
    assert relative_error(tokens_of(apply, tower, own)[0], found) > 1e-3


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_garbage_beyond_a_clip_reaches_no_token(tower, apply, garbage):
    short, long = row_of(noise(17), tower.config), row_of(noise(60), tower.config)
    spoilt = AudioRows(*(a.copy() for a in short))
    spoilt.mel[..., 17:] = garbage
    np.testing.assert_array_equal(tokens_of(apply, tower, spoilt)[0], tokens_of(apply, tower, short)[0])
    # The fourth chunk of the long one is padding as a whole.
    assert long.mel.shape[1] == 4 and long.lengths[0] == audio_token_count(60, tower.config)
    spoilt = AudioRows(*(a.copy() for a in long))
    spoilt.mel[:, 3] = garbage
    np.testing.assert_array_equal(tokens_of(apply, tower, spoilt)[0], tokens_of(apply, tower, long)[0])


def test_the_padded_length_changes_nothing(tower, apply):
    rows = row_of(noise(24), tower.config)
    longer = AudioRows(np.pad(rows.mel, ((0, 0), (0, 3), (0, 0), (0, 0))), np.full((1, 4), 24, np.int32), rows.lengths)
    (found,), (wanted,) = (tokens_of(apply, tower, r) for r in (longer, rows))
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_other_backends_formulation_is_the_same(tower, apply, compiled, monkeypatch):
    clips = [noise(n, seed=n) for n in (90, 80, 96, 60)]
    (call,) = audio_calls(clips, tower.config)
    here = tokens_of(apply, tower, call.rows)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    elsewhere = compiled()
    for ours, theirs in zip(tokens_of(elsewhere, tower, call.rows), here, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


# --- parts ------------------------------------------------------------------------------------------------------------


def lax_convolution(x, weight, bias):
    layout = ("NHWC", "OIHW", "NHWC")
    y = jax.lax.conv_general_dilated(x, weight, (2, 2), ((1, 1), (1, 1)), dimension_numbers=layout)
    return jax.nn.gelu(y + bias, approximate=False)


@pytest.mark.parametrize("bins, frames", [(128, 100), (64, 50), (5, 25), (1, 1), (2, 13)])
def test_convolution_is_laxs(draw, apply, bins, frames):
    convolution = draw(lambda: DownsamplingConvolution(3, 4, rngs=nnx.Rngs(0), dtype=jnp.float32))
    x = np.random.default_rng(0).standard_normal((2, bins, frames, 3)).astype(np.float32)
    wanted = jax.jit(lax_convolution)(x, convolution.weight[...], convolution.bias[...])
    found = apply(convolution, x)
    assert found.shape == (2, (bins + 1) // 2, (frames + 1) // 2, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_sinusoids():
    found = sinusoids(13, 64)
    assert found.dtype == np.float32 and found.shape == (13, 64)
    for place in range(13):
        for i in range(32):
            angle = place / 10_000 ** (i / 31)
            np.testing.assert_allclose(found[place, [i, 32 + i]], (math.sin(angle), math.cos(angle)), atol=2e-6)


def test_bfloat16_stays_near_float32(draw, apply, cosines, small_audio, tower):
    half = draw(lambda: AudioTower(small_audio, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    rows = row_of(noise(90), small_audio)
    rough = apply(half, *rows)
    assert rough.dtype == jnp.bfloat16
    count = int(rows.lengths[0])
    assert cosines(rough[0, :count], apply(tower, *rows)[0, :count]).min() > 0.999


def test_the_configs_activation_is_used(draw, small_audio, tower):
    other = draw(lambda: AudioTower(replace(small_audio, activation_function="silu"), rngs=nnx.Rngs(0)))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 32)).astype(np.float32))
    for built, act in ((tower, lambda a: jax.nn.gelu(a, approximate=False)), (other, jax.nn.silu)):
        proj1, proj2 = built.projector.proj1, built.projector.proj2
        np.testing.assert_allclose(built.projector(x), proj2(act(proj1(x))), atol=1e-6)
        assert built.encoder.layers.act(jnp.float32(0.7)) == act(jnp.float32(0.7))


def test_the_released_size_builds_without_memory():
    tower = nnx.eval_shape(lambda: AudioTower(AudioConfig(), rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    leaves = jax.tree.leaves(nnx.state(tower))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) and leaf.dtype == jnp.bfloat16 for leaf in leaves)
    assert round(sum(leaf.size for leaf in leaves) / 1e9, 2) == 0.65
