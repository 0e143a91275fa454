"""Where the parameters of each part lie in the files, under the names that most families share."""

from collections.abc import Mapping

from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.families.family import Source

OMNI_MERGERS = {"norm": "ln_q", "linear_fc1": "mlp.0", "linear_fc2": "mlp.2", "deepstack_mergers": "merger_list"}
VL_MERGERS = {
    "norm": "norm",
    "linear_fc1": "linear_fc1",
    "linear_fc2": "linear_fc2",
    "deepstack_mergers": "deepstack_merger_list",
}


def _with_bias(prefix: str, pattern: str, stacked: int = 0) -> dict[str, Source]:
    return {f"{prefix}.{leaf}": Source(f"{pattern}.{leaf}", stacked) for leaf in ("weight", "bias")}


def vision_sources(config: VisionConfig, mergers: Mapping[str, str] = OMNI_MERGERS) -> dict[str, Source]:
    """The vision tower.

    Args:
        config: the tower's.
        mergers: our names in its projector -> theirs.
    """
    found = {"vision.encoder.pos_embed.weight": Source("visual.pos_embed.weight")}
    found |= _with_bias("vision.encoder.patch_embed.proj", "visual.patch_embed.proj")
    for name in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"):
        found |= _with_bias(f"vision.encoder.blocks.{name}", f"visual.blocks.{{0}}.{name}", stacked=1)
    for name in ("norm", "linear_fc1", "linear_fc2"):
        found |= _with_bias(f"vision.projector.merger.{name}", f"visual.merger.{mergers[name]}")
        if config.deepstack_visual_indexes:
            pattern = f"visual.{mergers['deepstack_mergers']}.{{0}}.{mergers[name]}"
            found |= _with_bias(f"vision.projector.deepstack_mergers.{name}", pattern, stacked=1)
    return found


def audio_sources(_: AudioConfig) -> dict[str, Source]:
    """The audio tower."""
    found = {"audio.encoder.conv_out.weight": Source("audio_tower.conv_out.weight")}
    for name in ("conv2d1", "conv2d2", "conv2d3", "ln_post"):
        found |= _with_bias(f"audio.encoder.{name}", f"audio_tower.{name}")
    attention = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    for name in (*attention, "self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"):
        found |= _with_bias(f"audio.encoder.layers.{name}", f"audio_tower.layers.{{0}}.{name}", stacked=1)
    for name in ("proj1", "proj2"):
        found |= _with_bias(f"audio.projector.{name}", f"audio_tower.{name}")
    return found


EXPERTS = "model.layers.{0}.mlp.experts"
ONE_BY_ONE = {
    "gate_up_proj": Source(EXPERTS + ".{1}.{part}.weight", stacked=2, parts=("gate_proj", "up_proj")),
    "down_proj": Source(EXPERTS + ".{1}.down_proj.weight", stacked=2),
}
"""Each expert's matrices by themselves."""


def text_sources(config: TextConfig, experts: Mapping[str, Source] = ONE_BY_ONE) -> dict[str, Source]:
    """The text decoder.

    Args:
        config: the decoder's.
        experts: where the two matrices of all experts lie, where it has any.
    """
    found = {
        "text.embed_tokens.weight": Source("model.embed_tokens.weight"),
        "text.norm.weight": Source("model.norm.weight"),
    }
    projections = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    layers = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm", *projections]
    if config.is_sparse:
        layers.append("mlp.gate")
        found |= {f"text.layers.mlp.experts.{name}": source for name, source in experts.items()}
    else:
        layers += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    for name in layers:
        found[f"text.layers.{name}.weight"] = Source(f"model.layers.{{0}}.{name}.weight", stacked=1)
    for name in projections if config.attention_bias else ():
        found[f"text.layers.{name}.bias"] = Source(f"model.layers.{{0}}.{name}.bias", stacked=1)
    if config.own_head:
        found["text.lm_head.weight"] = Source("lm_head.weight")
    return found


def sources(config: ModelConfig) -> dict[str, Source]:
    """All parts that the config has."""
    found: dict[str, Source] = {}
    if config.vision is not None:
        found |= vision_sources(config.vision)
    if config.audio is not None:
        found |= audio_sources(config.audio)
    if config.text is not None:
        found |= text_sources(config.text)
    return found
