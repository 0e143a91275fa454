"""Configurations: the released ones are the defaults, and what would change the numbers unseen is refused."""

import json
from pathlib import Path

import pytest

from encoders import AudioConfig, VisionConfig
from encoders.config_fields import UnsupportedField

RELEASED = json.loads((Path(__file__).parents[1] / "golden" / "omni_30b_config.json").read_text())["thinker_config"]

# What transformers writes beside the fields that matter.
NOISE = {
    "_name_or_path": "",
    "architectures": None,
    "chunk_size_feed_forward": 0,
    "dtype": "bfloat16",
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "return_dict": True,
}


def test_the_released_configurations_are_the_defaults():
    assert VisionConfig.from_dict(RELEASED["vision_config"]) == VisionConfig()
    assert AudioConfig.from_dict(RELEASED["audio_config"]) == AudioConfig()


def test_an_absent_field_has_its_default():
    assert VisionConfig.from_dict({}) == VisionConfig()
    assert AudioConfig.from_dict({"d_model": None}) == AudioConfig()


@pytest.mark.parametrize("config", [VisionConfig, AudioConfig])
def test_a_field_that_nothing_reads_is_told_of(config):
    with pytest.warns(UserWarning, match=r"nothing here reads: some_future_field$"):
        assert config.from_dict({"some_future_field": [1, 2], "_from": "x", "unsloth_version": "2026.4"}) == config()


@pytest.mark.parametrize("config", [VisionConfig, AudioConfig])
@pytest.mark.parametrize(
    "name, value",
    [("window_size", 112), ("mlp_bias", True), ("quantization_config", {"bits": 4}), ("layer_norm_eps", 1e-3)],
)
def test_a_field_that_would_change_the_numbers_is_refused(config, name, value):
    with pytest.raises(UnsupportedField, match=name):
        config.from_dict({name: value})


def test_released_sizes():
    vision, audio = VisionConfig(), AudioConfig()
    assert (vision.hidden_size, vision.depth, vision.num_heads, vision.intermediate_size) == (1152, 27, 16, 4304)
    assert (audio.d_model, audio.encoder_layers, audio.encoder_attention_heads, audio.encoder_ffn_dim) == (
        1280,
        32,
        20,
        5120,
    )
    assert (vision.merge_unit, audio.chunk_frames, audio.chunk_tokens, audio.window_chunks) == (4, 100, 13, 8)


@pytest.mark.parametrize(
    "name, value",
    [
        ("depth", 24),
        ("hidden_size", 1024),
        ("hidden_act", "gelu"),
        ("intermediate_size", 4096),
        ("num_heads", 12),
        ("in_channels", 4),
        ("patch_size", 14),
        ("spatial_merge_size", 3),
        ("temporal_patch_size", 1),
        ("out_hidden_size", 3584),
        ("num_position_embeddings", 1024),
        ("deepstack_visual_indexes", (5, 11, 17)),
    ],
)
def test_every_vision_field_is_read(name, value):
    raw = RELEASED["vision_config"] | {"deepstack_visual_indexes": [8, 16, 23], "spatial_patch_size": None} | NOISE
    assert getattr(VisionConfig.from_dict(raw | {name: value}), name) == value


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_mel_bins", 80),
        ("encoder_layers", 18),
        ("encoder_attention_heads", 16),
        ("encoder_ffn_dim", 3584),
        ("d_model", 1300),
        ("activation_function", "gelu_pytorch_tanh"),
        ("max_source_positions", 3000),
        ("n_window", 100),
        ("n_window_infer", 400),
        ("output_dim", 1024),
        ("downsample_hidden_size", 256),
    ],
)
def test_every_audio_field_is_read(name, value):
    assert getattr(AudioConfig.from_dict(RELEASED["audio_config"] | {name: value} | NOISE), name) == value


def test_deepstack_may_be_absent_or_a_list():
    assert VisionConfig.from_dict({"deepstack_visual_indexes": []}).deepstack_visual_indexes == ()
    assert VisionConfig.from_dict({"deepstack_visual_indexes": [1, 2]}).deepstack_visual_indexes == (1, 2)


@pytest.mark.parametrize("kind", ["axial", "default"])
def test_rope_parameters_as_new_files_have_them(kind):
    raw = {"rope_parameters": {"rope_theta": 5000.0, "rope_type": kind}}
    assert VisionConfig.from_dict(raw).rope_theta == 5000
    assert VisionConfig.from_dict({"rope_parameters": None}).rope_theta == 10_000


@pytest.mark.parametrize(
    "raw, field, value",
    [
        ({"hidden_act": "relu"}, "hidden_act", "'relu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type", "'yarn'"),
        ({"apply_vit_abs_pos_embed": False}, "apply_vit_abs_pos_embed", "False"),
        ({"patch_size": 16, "spatial_patch_size": 14}, "spatial_patch_size", "14"),
        ({"hidden_size": 1150}, "hidden_size", "1150"),
        ({"num_heads": 7}, "num_heads", "7"),
        ({"num_position_embeddings": 2300}, "num_position_embeddings", "2300"),
        ({"deepstack_visual_indexes": [8, 27]}, "deepstack_visual_indexes", "27"),
        ({"deepstack_visual_indexes": [-1]}, "deepstack_visual_indexes", r"\(-1,\)"),
        ({"deepstack_visual_indexes": [16, 8]}, "deepstack_visual_indexes", r"\(16, 8\)"),
        ({"deepstack_visual_indexes": [8, 8]}, "deepstack_visual_indexes", r"\(8, 8\)"),
    ],
)
def test_an_unsupported_vision_value_is_named(raw, field, value):
    with pytest.raises(ValueError, match=rf"{field}(=|.* ){value}"):
        VisionConfig.from_dict(raw)


@pytest.mark.parametrize(
    "raw, field, value",
    [
        ({"activation_function": "relu"}, "activation_function", "'relu'"),
        ({"scale_embedding": True}, "scale_embedding", "True"),
        ({"d_model": 1290}, "d_model", "1290"),
        ({"n_window_infer": 850}, "n_window_infer", "850"),
        ({"n_window": 60}, "n_window", "120"),
        ({"max_source_positions": 12}, "max_source_positions", "12"),
    ],
)
def test_an_unsupported_audio_value_is_named(raw, field, value):
    with pytest.raises(ValueError, match=rf"{field}(=|.* ){value}"):
        AudioConfig.from_dict(raw)


def test_a_patch_size_given_twice_may_be_given_once():
    """`spatial_patch_size` must agree with the patch size, which a file may leave to its default."""
    assert VisionConfig.from_dict({"spatial_patch_size": 16}) == VisionConfig()
    with pytest.raises(ValueError, match="spatial_patch_size=14"):
        VisionConfig.from_dict({"spatial_patch_size": 14})


def test_the_names_that_all_configs_share_are_read():
    assert VisionConfig.from_dict({"num_hidden_layers": 27, "num_attention_heads": 8}) == VisionConfig(num_heads=8)
    raw = {"num_hidden_layers": 18, "num_attention_heads": 14, "hidden_size": 896, "intermediate_size": 3584}
    assert AudioConfig.from_dict(raw) == AudioConfig(
        encoder_layers=18, encoder_attention_heads=14, d_model=896, encoder_ffn_dim=3584
    )
    with pytest.raises(ValueError, match=r"num_attention_heads is 8, but num_heads.* is 16"):
        VisionConfig.from_dict({"num_heads": 16, "num_attention_heads": 8})


def test_sizes_may_be_written_for_each_axis():
    assert VisionConfig.from_dict({"patch_size": [14, 14], "temporal_patch_size": [2]}) == VisionConfig(patch_size=14)
    with pytest.raises(ValueError, match=r"patch_size is \[16, 14\]"):
        VisionConfig.from_dict({"patch_size": [16, 14]})
