"""One policy for the fields of config.json that nothing reads, in every part of it."""

import copy
import json
import warnings

import pytest

import omni
from omni.checkpoint.config_file import read_config
from tests.golden import asr, text_families, tiny, vl

THINKER = ("thinker_config",)
# A config.json and the path to one of its parts.
PLACES = {
    "omni": (tiny.config(), ()),
    "omni's thinker": (tiny.config(), THINKER),
    "omni's vision": (tiny.config(), (*THINKER, "vision_config")),
    "omni's audio": (tiny.config(), (*THINKER, "audio_config")),
    "omni's text": (tiny.config(), (*THINKER, "text_config")),
    "vl": (vl.config("vl"), ()),
    "vl's vision": (vl.config("vl"), ("vision_config",)),
    "vl's text": (vl.config("vl"), ("text_config",)),
    "asr": (asr.config("thinker"), ()),
    "asr's audio": (asr.config("thinker"), (*THINKER, "audio_config")),
    "a decoder alone": (text_families.CONFIGS["qwen3"], ()),
}
HARMLESS = {
    "_name_or_path": "here",
    "architectures": ["X"],
    "bos_token_id": 1,
    "initializer_range": 0.02,
    "transformers_version": "5.23.0",
    "unsloth_version": "2026.4",
    "use_cache": True,
    "some_flag": False,
    "nothing": None,
}
CHANGING = {"logit_scale": 0.5, "quantization_config": {"bits": 4}, "attention_sinks": True, "n_shared_experts": 1}


def read(directory, place, fields):
    config, path = copy.deepcopy(PLACES[place][0]), PLACES[place][1]
    level = config
    for name in path:
        level = level[name]
    level.update(fields)
    (directory / "config.json").write_text(json.dumps(config))
    return read_config(directory)[1]


@pytest.mark.parametrize("place", PLACES)
def test_every_part_holds_its_fields_to_the_same_policy(tmp_path, place):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = read(tmp_path, place, {})
        assert read(tmp_path, place, HARMLESS) == plain
    with pytest.warns(UserWarning, match=r"fields of the .* that nothing here reads: some_future_field, other$"):
        assert read(tmp_path, place, HARMLESS | {"some_future_field": [1], "other": 2}) == plain
    for name, value in CHANGING.items():
        with pytest.raises(omni.CheckpointError, match="quantised" if name[0] == "q" else f"{name}=") as error:
            read(tmp_path, place, {name: value})
        assert error.value.code == ("quantised" if name[0] == "q" else "unsupported_config")
    neutral = {"logit_scale": 1, "quantization_config": {}, "attention_sinks": False, "n_shared_experts": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, place, neutral) == plain


@pytest.mark.parametrize("place", ["omni's vision", "omni's audio", "vl's vision", "asr's audio"])
def test_towers_have_a_key_and_value_for_each_head(tmp_path, place):
    heads = 4
    for fields in PLACES[place][0], PLACES[place][0].get("thinker_config", {}):
        tower = fields.get("vision_config" if "vision" in place else "audio_config", {})
        heads = tower.get("num_heads", tower.get("encoder_attention_heads", heads))
    assert read(tmp_path, place, {"num_key_value_heads": heads}) == read(tmp_path, place, {})
    with pytest.raises(omni.CheckpointError, match="num_key_value_heads=1"):
        read(tmp_path, place, {"num_key_value_heads": 1})


def test_rotary_fields_of_a_tower(tmp_path):
    rope = {"rope_type": "axial", "rope_theta": 10000.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = read(tmp_path, "omni's vision", {"rope_parameters": rope})
    with pytest.warns(UserWarning, match="rope_parameters that nothing here reads: some_factor"):
        assert read(tmp_path, "omni's vision", {"rope_parameters": rope | {"some_factor": 2.0}}) == plain
    with pytest.warns(UserWarning, match="audio config that nothing here reads: rope_parameters"):
        read(tmp_path, "omni's audio", {"rope_parameters": rope})
