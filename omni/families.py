"""One entry a family: which configuration it reads, and where each parameter lies in its files.

Nothing outside this file branches on a model's name. A family names its tensors once, in the form the parameter tree
has; `checkpoint.py` does the reading.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig, SpecialTokens
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError


@dataclass(frozen=True)
class Source:
    """Where one parameter lies on disk.

    Attributes:
        pattern: tensor name with `{0}`, `{1}` for the leading axes counted by `stacked`, and `{part}` when in parts.
        stacked: how many leading axes of the parameter are spread over tensors: 1 for layers, 2 for layers x experts.
        parts: names of the tensors that lie one after another along the next axis, such as gate and up projections.
    """

    pattern: str
    stacked: int = 0
    parts: tuple[str, ...] = ()

    def pieces(self, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int | slice, ...], tuple[int, ...]]]:
        """The tensors that make up a parameter: name, the place in the parameter, and the shape on disk."""
        rest = shape[self.stacked :]
        for lead in _indices(shape[: self.stacked]):
            if not self.parts:
                yield self.pattern.format(*lead), lead, rest
                continue
            size = rest[0] // len(self.parts)
            for i, part in enumerate(self.parts):
                place = (*lead, slice(i * size, (i + 1) * size))
                yield self.pattern.format(*lead, part=part), place, (size, *rest[1:])


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not shape:
        yield ()
        return
    for i in range(shape[0]):
        for rest in _indices(shape[1:]):
            yield (i, *rest)


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        name: for people.
        model_types: values of `model_type` in config.json.
        read: config.json -> ModelConfig.
        sources: ModelConfig -> {parameter path: Source}, in canonical names.
        prefixes: tensor prefixes found in files -> canonical ones; the longest that fits wins.
        skipped: prefixes of tensors that belong to parts this library does not run (speech output).
        template: file name of the default chat template in omni/assets/templates.
        saved_config: config.json -> config.json of a directory that lacks the skipped tensors.
    """

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], ModelConfig]
    sources: Callable[[ModelConfig], dict[str, Source]]
    prefixes: Mapping[str, str]
    skipped: tuple[str, ...]
    template: str
    saved_config: Callable[[Mapping[str, Any]], dict[str, Any]] = dict

    def canonical(self, name: str) -> str | None:
        """The canonical name of a tensor in a file, or None for one that is skipped knowingly."""
        if name.startswith(self.skipped):
            return None
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            if name.startswith(prefix):
                return self.prefixes[prefix] + name[len(prefix) :]
        return name


# --- Qwen3-Omni -------------------------------------------------------------------------------------------------


def _with_bias(prefix: str, pattern: str, stacked: int = 0) -> dict[str, Source]:
    return {f"{prefix}.{leaf}": Source(f"{pattern}.{leaf}", stacked) for leaf in ("weight", "bias")}


def _vision_sources(config: VisionConfig) -> dict[str, Source]:
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


def _audio_sources(_: AudioConfig) -> dict[str, Source]:
    found = {"audio.encoder.conv_out.weight": Source("audio_tower.conv_out.weight")}
    for name in ("conv2d1", "conv2d2", "conv2d3", "ln_post"):
        found |= _with_bias(f"audio.encoder.{name}", f"audio_tower.{name}")
    attention = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    for name in (*attention, "self_attn_layer_norm", "final_layer_norm", "fc1", "fc2"):
        found |= _with_bias(f"audio.encoder.layers.{name}", f"audio_tower.layers.{{0}}.{name}", stacked=1)
    for name in ("proj1", "proj2"):
        found |= _with_bias(f"audio.projector.{name}", f"audio_tower.{name}")
    return found


def _text_sources(config: TextConfig) -> dict[str, Source]:
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


def _sources(config: ModelConfig) -> dict[str, Source]:
    found: dict[str, Source] = {}
    if config.vision is not None:
        found |= _vision_sources(config.vision)
    if config.audio is not None:
        found |= _audio_sources(config.audio)
    if config.text is not None:
        found |= _text_sources(config.text)
    return found


def _read_omni(raw: Mapping[str, Any]) -> ModelConfig:
    thinker = raw.get("thinker_config", raw)
    parts = ("vision_config", "audio_config", "text_config")
    missing = [key for key in parts if not isinstance(thinker.get(key), Mapping)]
    if missing:
        raise CheckpointError(f"config.json of a Qwen3-Omni checkpoint lacks {', '.join(missing)}")
    text = {"tie_word_embeddings": thinker.get("tie_word_embeddings", False), **thinker["text_config"]}
    return ModelConfig(
        vision=VisionConfig.from_dict(thinker["vision_config"]),
        audio=AudioConfig.from_dict(thinker["audio_config"]),
        text=TextConfig.from_dict(text),
        tokens=SpecialTokens.from_dict(thinker),
        position_id_per_seconds=float(thinker.get("position_id_per_seconds", 25)),
        dtype=thinker.get("dtype") or thinker.get("torch_dtype") or raw.get("dtype") or raw.get("torch_dtype"),
    )


def _without_speech(raw: Mapping[str, Any]) -> dict[str, Any]:
    # The form in which models that only write text are published; a thinker alone has no such field.
    return {**raw, "enable_audio_output": False} if "thinker_config" in raw else dict(raw)


QWEN3_OMNI = Family(
    name="Qwen3-Omni",
    model_types=("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
    read=_read_omni,
    sources=_sources,
    # Published files begin with `thinker.`; a thinker saved alone does not; the third form nests under `model.`.
    prefixes={
        "thinker.": "",
        "thinker.model.visual.": "visual.",
        "thinker.model.audio_tower.": "audio_tower.",
        "thinker.model.language_model.": "model.",
        "model.visual.": "visual.",
        "model.audio_tower.": "audio_tower.",
        "model.language_model.": "model.",
    },
    skipped=("talker.", "code2wav.", "token2wav."),
    template="omni.jinja",
    saved_config=_without_speech,
)

# --- Qwen3, text alone --------------------------------------------------------------------------------------------


def _read_text(raw: Mapping[str, Any]) -> ModelConfig:
    # A dense config says nothing of experts, and has none.
    text = TextConfig.from_dict({"num_experts": 0, **raw} if raw["model_type"] == "qwen3" else raw)
    return ModelConfig(None, None, text, None, 1.0, raw.get("dtype") or raw.get("torch_dtype"))


QWEN3 = Family(
    name="Qwen3",
    model_types=("qwen3", "qwen3_moe"),
    read=_read_text,
    sources=_sources,
    prefixes={},
    skipped=(),
    template="omni.jinja",
)

FAMILIES = (QWEN3_OMNI, QWEN3)


def family_of(model_type: str | None) -> Family:
    """The family that a `model_type` belongs to.

    Raises:
        CheckpointError: none does; the message names the nearest that does.
    """
    known = {name: family for family in FAMILIES for name in family.model_types}
    if model_type in known:
        return known[model_type]
    if not model_type:
        raise CheckpointError("config.json has no model_type; supported are " + ", ".join(known))
    nearest = difflib.get_close_matches(model_type, known, n=1, cutoff=0.0)
    raise CheckpointError(f"model_type {model_type!r} is not supported; the nearest supported one is {nearest[0]!r}")
