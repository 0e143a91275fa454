"""What a text config says, and what it may not say."""

import pytest

from omni.decoder import TextConfig

RAW = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "rope_theta": 1000000,
    "rope_scaling": {"interleaved": True, "mrope_interleaved": True, "mrope_section": [4, 2, 2], "type": "default"},
    "model_type": "qwen3_omni_moe_text",
}


def test_reads_old_and_new_rotary_fields():
    old = TextConfig.from_dict(RAW)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    new = {name: value for name, value in RAW.items() if not name.startswith("rope")} | {"rope_parameters": rope}
    assert old == TextConfig.from_dict(new)
    assert (old.rope_theta, old.mrope_section, old.head_width) == (1e6, (4, 2, 2), 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"attention_sink": True}, "attention_sink=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type='yarn'"),
        ({"rope_scaling": {"mrope_section": [4, 2, 2], "mrope_interleaved": False}}, "mrope_interleaved=False"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok=9"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step=0"),
        ({"head_dim": 7}, "head_dim=7"),
        ({"partial_rotary_factor": 0.4}, "turns 3 channels"),
        ({"partial_rotary_factor": 2}, "turns 16 channels"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 2}, "sliding_attention"),
        ({"layer_types": ["linear_attention"] * 3}, "3 layer_types for num_hidden_layers=4"),
        ({"full_attention_interval": 0}, "full_attention_interval=0"),
        ({"mamba_ssm_dtype": "bfloat16"}, "mamba_ssm_dtype='bfloat16'"),
        ({"output_gate_type": "sigmoid"}, "output_gate_type='sigmoid'"),
        ({"vocab_size": None}, "vocab_size missing"),
    ],
)
def test_refuses_what_it_does_not_implement(change, message):
    with pytest.raises(ValueError, match=message):
        TextConfig.from_dict({**RAW, **change})


def test_layers_without_experts():
    assert not TextConfig.from_dict({**RAW, "mlp_only_layers": [0, 1, 2, 3]}).is_sparse
    assert not TextConfig.from_dict({**RAW, "num_experts": 0}).is_sparse
    assert TextConfig.from_dict({**RAW, "mlp_only_layers": []}).is_sparse


def test_layers_with_and_without_experts():
    def sparse(**change):
        return [kind.sparse for kind in TextConfig.from_dict({**RAW, **change}).kinds]

    assert sparse(mlp_only_layers=[0]) == [False, True, True, True]
    assert sparse(decoder_sparse_step=2) == [False, True, False, True]
    assert sparse(decoder_sparse_step=2, mlp_only_layers=[1]) == [False, False, False, True]


def test_layer_types_come_before_an_interval():
    every = TextConfig.from_dict({**RAW, "full_attention_interval": 2})
    assert every.layer_types == ("linear_attention", "full_attention") * 2
    types = ["full_attention", "linear_attention", "linear_attention", "linear_attention"]
    given = TextConfig.from_dict({**RAW, "full_attention_interval": 2, "layer_types": types})
    assert list(given.layer_types) == types
    assert (given.layers_with("full_attention"), given.layers_with("linear_attention")) == (1, 3)


def test_a_partial_rotation_is_read_beside_and_within_the_rotary_fields():
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    without = {name: value for name, value in RAW.items() if name != "rope_scaling"}
    within = TextConfig.from_dict({**without, "rope_parameters": rope, "partial_rotary_factor": 1.0})
    assert (within.partial_rotary_factor, within.rotary_width) == (0.5, 4)
    assert TextConfig.from_dict({**RAW, "partial_rotary_factor": 0.5}).rotary_width == 4
    assert TextConfig.from_dict(RAW).rotary_width == 8


def test_sizes_of_a_linear_layer():
    linear = TextConfig.from_dict({**RAW, "linear_num_value_heads": 6, "linear_num_key_heads": 3}).linear
    assert (linear.hidden_size, linear.linear_num_value_heads, linear.conv_width) == (32, 6, 2 * 3 * 128 + 6 * 128)
    with pytest.raises(ValueError, match="linear_num_value_heads=5"):
        TextConfig.from_dict({**RAW, "layer_types": ["linear_attention"] * 4, "linear_num_value_heads": 5})
