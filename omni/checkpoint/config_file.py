"""config.json read and held against itself: what family it is of, and whether its parts fit one another."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from encoders.config_fields import UnsupportedField, check_fields
from omni.checkpoint.json_file import read_json
from omni.checkpoint.quantized import read_method, without_quantization
from omni.checkpoint.rerankers import is_reranker
from omni.config import ModelConfig
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError, is_number, is_whole, shown
from omni.families import Family, family_of

# What is gone through one by one, under the names of all configs; their product counts tensors.
_COUNTED = {
    "num_hidden_layers": 1000,
    "encoder_layers": 1000,
    "depth": 1000,
    "num_experts": 10_000,
    "num_local_experts": 10_000,
}
_MOST_COUNTED = 200_000
# Sizes beyond which no width or count of a model lies; those of tables may be longer.
_LARGEST_SIZE, _LONGEST_TABLE = 1 << 17, (1 << 31) - 1
_TABLES = ("vocab_size", "max_position_embeddings", "num_position_embeddings")
# Fields of the whole model beside those of its parts.
_WHOLE = {
    *"""enable_audio_output position_id_per_seconds seconds_per_chunk support_languages im_start_token_id
    im_end_token_id system_token_id user_token_id assistant_token_id tts_bos_token_id tts_eos_token_id tts_pad_token_id
    audio_config vision_config text_config thinker_config talker_config code2wav_config token2wav_config
    rope_scaling rope_parameters""".split(),
    *(field.name for field in dataclasses.fields(TextConfig)),
}


def read_config(directory: Path) -> tuple[Family, ModelConfig]:
    """The family of a checkpoint directory, and its configuration.

    Raises:
        CheckpointError: config.json is absent or damaged, or asks for what is not supported.
    """
    read_method(directory)
    raw = without_quantization(read_json(directory / "config.json"))
    model_type = raw.get("model_type")
    family = family_of(model_type if isinstance(model_type, str) else None)
    _check_counts(raw)
    try:
        _check_whole(raw)
        config = family.read(raw)
        _check_types(config)
        _check_fit(config)
        if family.relevance is not None and is_reranker(directory, raw):
            config = dataclasses.replace(config, relevance=family.relevance)
        return family, config
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        code = "unsupported_config" if isinstance(error, UnsupportedField) else "bad_config"
        raise CheckpointError(f"config.json: {error}", code=code) from error


def check_token_ids(ids: Mapping[str, int | None] | Iterable[tuple[str, int | None]], vocabulary: int) -> None:
    """Refuses ids that no row of the embedding belongs to: on the device they would become those of other tokens.

    Raises:
        CheckpointError: with every such id.
    """
    named = ids.items() if isinstance(ids, Mapping) else ids
    beyond = [f"{name} is {i}" for name, i in named if i is not None and not 0 <= i < vocabulary]
    if beyond:
        message = f"{beyond[0]}, and the model's vocabulary has {vocabulary:,} tokens"
        raise CheckpointError(message, code="token_out_of_range", problems=beyond[1:] and beyond)


def _check_counts(raw: Mapping[str, Any]) -> None:
    """Refuses more layers and experts than any model has, before anything goes through them one by one."""
    counts = {name: raw[name] for name in _COUNTED if is_whole(raw.get(name)) and raw[name] > 0}
    total = math.prod(counts.values())
    if total > _MOST_COUNTED or any(count > _COUNTED[name] for name, count in counts.items()):
        named = ", ".join(f"{name}={shown(count)}" for name, count in counts.items())
        raise CheckpointError(f"config.json: {named}: no model has so many", code="bad_config")
    for value in raw.values():
        if isinstance(value, Mapping):
            _check_counts(value)


def _check_whole(raw: Mapping[str, Any]) -> None:
    """The fields that stand above the parts, where there are parts."""
    levels = [raw]
    for name in ("thinker_config", "text_config"):
        if isinstance(levels[-1].get(name), Mapping):
            levels.append(levels[-1][name])
    for level in levels:
        for name, value in level.items():
            several = value if isinstance(value, list) else [value]
            if name.endswith("_token_id") and not all(one is None or is_whole(one) for one in several):
                raise ValueError(f"{name} cannot be {shown(value)}")
            if name in ("dtype", "torch_dtype") and not isinstance(value, str | None):
                raise ValueError(f"{name} cannot be {shown(value)}")
        if not any(name in level for name in ("text_config", "thinker_config")):
            continue
        check_fields(level, "whole model", _WHOLE)
        for name in ("rope_scaling", "rope_parameters"):
            rope = level.get(name)
            kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, Mapping) else None
            if kind not in (None, "default", "mrope"):
                raise UnsupportedField(f"{name} of the type {shown(kind)} is not supported; leave it out")


def _check_types(config: ModelConfig) -> None:
    """Refuses fields that are not of the type that the configs declare: JSON can hold anything."""
    for part in (config.vision, config.audio, config.text):
        for field in () if part is None else dataclasses.fields(part):
            value = getattr(part, field.name)
            # Dense models have no experts; all other sizes are those of something.
            least, most = int("expert" not in field.name), _LONGEST_TABLE if field.name in _TABLES else _LARGEST_SIZE
            is_size = is_whole(value) and least <= value <= most
            fits = {
                int: is_size,
                float: is_number(value) and math.isfinite(value),
                bool: isinstance(value, bool),
                int | None: value is None or is_size,
            }
            if not fits.get(field.type, True):
                raise ValueError(f"{field.name} cannot be {shown(value)}")
    rate = config.position_id_per_seconds
    if not math.isfinite(rate) or not 0 < rate < 1e6:
        raise ValueError(f"position_id_per_seconds cannot be {shown(rate)}")


def _check_fit(config: ModelConfig) -> None:
    """Refuses parts that do not fit one another, and placeholders that are no tokens of the decoder's."""
    vision, audio, text = config.vision, config.audio, config.text
    if vision is not None and vision.in_channels != 3:
        raise UnsupportedField(f"in_channels={vision.in_channels} is not supported; pictures have 3 channels")
    if text is None:
        return
    width = text.hidden_size
    if vision is not None and vision.out_hidden_size != width:
        raise ValueError(f"out_hidden_size={vision.out_hidden_size} does not fit the decoder's hidden_size={width}")
    if audio is not None and audio.output_dim != width:
        raise ValueError(f"output_dim={audio.output_dim} does not fit the decoder's hidden_size={width}")
    if vision is not None and len(vision.deepstack_visual_indexes) > text.num_hidden_layers:
        levels, layers = len(vision.deepstack_visual_indexes), text.num_hidden_layers
        raise ValueError(f"deepstack_visual_indexes has {levels} levels for num_hidden_layers={layers}")
    if config.tokens is None:
        return
    ids = {f"config.json: {name}": i for name, i in vars(config.tokens).items()}
    check_token_ids(ids, text.vocab_size)
    named = [i for i in ids.values() if i is not None]
    if len(set(named)) < len(named):
        raise ValueError("two of the special tokens have the same id")
