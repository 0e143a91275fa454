"""Where the parameters of each part lie in the files, under the names that most families share."""

from collections.abc import Mapping

from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.decoder.depth import Block
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
FUSED = {name: Source(f"{EXPERTS}.{name}", stacked=1) for name in ("gate_up_proj", "down_proj")}
"""All experts of a layer in one tensor."""
ONE_BY_ONE = {
    "gate_up_proj": Source(
        EXPERTS + ".{1}.{part}.weight", stacked=2, parts=("gate_proj", "up_proj"), otherwise=FUSED["gate_up_proj"]
    ),
    "down_proj": Source(EXPERTS + ".{1}.down_proj.weight", stacked=2, otherwise=FUSED["down_proj"]),
}
"""Each expert's matrices by themselves, or fused where files have them so."""


def text_sources(config: TextConfig, experts: Mapping[str, Source] = ONE_BY_ONE) -> dict[str, Source]:
    """The text decoder, a stack of layers for each of its blocks.

    Args:
        config: the decoder's.
        experts: where the two matrices of all experts lie, where it has any.
    """
    found = {
        "text.embed_tokens.weight": Source("model.embed_tokens.weight"),
        "text.norm.weight": Source("model.norm.weight"),
    }
    for i, block in enumerate(config.blocks):
        prefix = "text.layers" if len(config.blocks) == 1 else f"text.layers.{i}"
        found |= {f"{prefix}.{name}": source for name, source in _layer_sources(config, block, experts).items()}
    if config.untied_head:
        found["text.lm_head.weight"] = Source("lm_head.weight")
    return found


def _layer_sources(config: TextConfig, block: Block, experts: Mapping[str, Source]) -> dict[str, Source]:
    """The parameters of one stack of layers, each layer under its own number in the files."""
    numbers = block.layers
    found: dict[str, Source] = {}
    weights = ["input_layernorm", "post_attention_layernorm"]
    if block.kind.attention == "linear_attention":
        inputs = {"separate": ("qkv", "z", "b", "a"), "interleaved": ("qkvz", "ba")}[config.linear_projections]
        weights += [f"linear_attn.{name}" for name in ("conv1d", "norm", "out_proj", *(f"in_proj_{i}" for i in inputs))]
        for name in ("linear_attn.A_log", "linear_attn.dt_bias"):
            found[name] = Source(f"model.layers.{{0}}.{name}", 1, numbers=numbers)
    else:
        projections = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
        weights += ["self_attn.q_norm", "self_attn.k_norm", *projections]
        for name in projections if config.attention_bias else ():
            found[f"{name}.bias"] = Source(f"model.layers.{{0}}.{name}.bias", 1, numbers=numbers)
    gated = ("gate_proj", "up_proj", "down_proj")
    if block.kind.sparse:
        weights.append("mlp.gate")
        if config.shared_expert_intermediate_size:
            weights += ["mlp.shared_expert_gate", *(f"mlp.shared_expert.{name}" for name in gated)]
        found |= {f"mlp.experts.{name}": source.numbered(numbers) for name, source in experts.items()}
    else:
        weights += [f"mlp.{name}" for name in gated]
    for name in weights:
        found[f"{name}.weight"] = Source(f"model.layers.{{0}}.{name}.weight", 1, numbers=numbers)
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
