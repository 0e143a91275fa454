"""Qwen3-Omni: Instruct, Thinking and Captioner; the whole model or its thinker alone."""

from collections.abc import Mapping
from typing import Any

from encoders.config import AudioConfig, VisionConfig
from omni.config import ModelConfig, SpecialTokens, section
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError
from omni.families.family import Family
from omni.families.tensor_names import sources

_TOKENS = ("image_token_id", "video_token_id", "audio_token_id", "audio_start_token_id", "audio_end_token_id")


def _read_omni(raw: Mapping[str, Any]) -> ModelConfig:
    thinker = section(raw, "thinker_config") if "thinker_config" in raw else raw
    parts = ("vision_config", "audio_config", "text_config")
    missing = [key for key in parts if not isinstance(thinker.get(key), Mapping)]
    if missing:
        message = f"config.json of a Qwen3-Omni checkpoint lacks {', '.join(missing)}"
        raise CheckpointError(message, code="bad_config")
    text = {"tie_word_embeddings": thinker.get("tie_word_embeddings", False), **thinker["text_config"]}
    return ModelConfig(
        vision=VisionConfig.from_dict(thinker["vision_config"]),
        audio=AudioConfig.from_dict(thinker["audio_config"]),
        text=TextConfig.from_dict(text),
        tokens=SpecialTokens.from_dict(thinker, _TOKENS),
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
    sources=sources,
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
