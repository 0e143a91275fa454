"""Qwen3-ASR: a small Omni that writes down speech, in both namings that it is published in."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from encoders.config import AudioConfig
from omni.config import ModelConfig, SpecialTokens, TranscriptForm, section
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError
from omni.families.family import Family
from omni.families.tensor_names import sources

# The languages that the published models name, by ISO code.
_LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fil": "Filipino",
    "fr": "French",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "mk": "Macedonian",
    "ms": "Malay",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "vi": "Vietnamese",
    "yue": "Cantonese",
    "zh": "Chinese",
}


def _read_asr(raw: Mapping[str, Any]) -> ModelConfig:
    # The first release nests its parts under `thinker_config`; the one in transformers' own form has them at the top.
    outer = section(raw, "thinker_config") if "thinker_config" in raw else raw
    missing = [key for key in ("audio_config", "text_config") if not isinstance(outer.get(key), Mapping)]
    if missing:
        message = f"config.json of a Qwen3-ASR checkpoint lacks {', '.join(missing)}"
        raise CheckpointError(message, code="bad_config")
    if "classify_num" in outer or any("TokenClassification" in str(name) for name in raw.get("architectures") or ()):
        message = "this is a forced aligner, which finds times in a given transcript: it is not supported"
        raise CheckpointError(message, code="unsupported_family")
    text = dict(outer["text_config"])
    tied = outer.get("tie_word_embeddings", text.get("tie_word_embeddings", True))
    return ModelConfig(
        vision=None,
        audio=dataclasses.replace(AudioConfig.from_dict(outer["audio_config"]), whole_chunks=True),
        # The first release's text config speaks of experts that the model does not have.
        text=TextConfig.from_dict(text | {"num_experts": 0, "tie_word_embeddings": tied}),
        tokens=SpecialTokens.from_dict(outer, ("audio_token_id",)),
        position_id_per_seconds=1.0,
        dtype=outer.get("dtype") or outer.get("torch_dtype") or raw.get("dtype") or raw.get("torch_dtype"),
        transcript=TranscriptForm(
            opening="language {language}<asr_text>",
            marker="<asr_text>",
            languages=_languages(raw.get("support_languages")),
            longest=1200,
        ),
    )


def _languages(listed: Any) -> dict[str, str]:
    """The names that a checkpoint lists, all that are published where it lists none; by name and by code."""
    names = list(_LANGUAGES.values()) if listed is None else listed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError("support_languages in config.json must be a list of names", code="bad_config")
    codes = {code: name for code, name in _LANGUAGES.items() if name in names}
    return {name.casefold(): name for name in names} | codes


QWEN3_ASR = Family(
    name="Qwen3-ASR",
    model_types=("qwen3_asr", "qwen3_asr_thinker"),
    read=_read_asr,
    sources=sources,
    prefixes={
        "thinker.": "",
        "model.language_model.": "model.",
        "model.audio_tower.": "audio_tower.",
        "model.multi_modal_projector.linear_1.": "audio_tower.proj1.",
        "model.multi_modal_projector.linear_2.": "audio_tower.proj2.",
    },
    skipped=(),
    template="asr.jinja",
)
