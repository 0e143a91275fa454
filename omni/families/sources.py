"""Where the parameters of each part lie in the files, under the names that most families share."""

from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.families.family import Source


def _with_bias(prefix: str, pattern: str, stacked: int = 0) -> dict[str, Source]:
    return {f"{prefix}.{leaf}": Source(f"{pattern}.{leaf}", stacked) for leaf in ("weight", "bias")}


def vision_sources(config: VisionConfig) -> dict[str, Source]:
    """The vision tower."""
    found = {"vision.encoder.pos_embed.weight": Source("visual.pos_embed.weight")}
    found |= _with_bias("vision.encoder.patch_embed.proj", "visual.patch_embed.proj")
    for name in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"):
        found |= _with_bias(f"vision.encoder.blocks.{name}", f"visual.blocks.{{0}}.{name}", stacked=1)
    for ours, theirs in (("norm", "ln_q"), ("linear_fc1", "mlp.0"), ("linear_fc2", "mlp.2")):
        found |= _with_bias(f"vision.projector.merger.{ours}", f"visual.merger.{theirs}")
        if config.deepstack_visual_indexes:
            ours = f"vision.projector.deepstack_mergers.{ours}"
            found |= _with_bias(ours, f"visual.merger_list.{{0}}.{theirs}", stacked=1)
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


def text_sources(config: TextConfig) -> dict[str, Source]:
    """The text decoder."""
    found = {
        "text.embed_tokens.weight": Source("model.embed_tokens.weight"),
        "text.norm.weight": Source("model.norm.weight"),
    }
    projections = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    layers = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm", *projections]
    if config.is_sparse:
        layers.append("mlp.gate")
        experts = "model.layers.{0}.mlp.experts.{1}"
        joined = Source(experts + ".{part}.weight", stacked=2, parts=("gate_proj", "up_proj"))
        found["text.layers.mlp.experts.gate_up_proj"] = joined
        found["text.layers.mlp.experts.down_proj"] = Source(f"{experts}.down_proj.weight", stacked=2)
    else:
        layers += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    for name in layers:
        found[f"text.layers.{name}.weight"] = Source(f"model.layers.{{0}}.{name}.weight", stacked=1)
    for name in projections if config.attention_bias else ():
        found[f"text.layers.{name}.bias"] = Source(f"model.layers.{{0}}.{name}.bias", stacked=1)
    if not config.tie_word_embeddings:
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
