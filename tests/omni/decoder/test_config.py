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
        ({"attn_output_gate": True}, "attn_output_gate=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type='yarn'"),
        ({"rope_scaling": {"mrope_section": [4, 2, 2], "mrope_interleaved": False}}, "mrope_interleaved=False"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok=9"),
        ({"decoder_sparse_step": 2}, "decoder_sparse_step=2"),
        ({"mlp_only_layers": [1]}, "mlp_only_layers"),
        ({"head_dim": 7}, "head_dim=7"),
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
