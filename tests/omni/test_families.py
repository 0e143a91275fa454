"""Every published tensor of the real model has one place in the parameter tree, and every place one tensor."""

import json
import re
from pathlib import Path

import jax
import pytest

from omni.checkpoint.load import parameter_shapes
from omni.errors import CheckpointError
from omni.families import QWEN3_5, QWEN3_NEXT, QWEN3_OMNI, Source, family_of
from omni.loading import abstract_parts
from processors import ImageConfig

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="module")
def real_config():
    return QWEN3_OMNI.read(json.loads((GOLDEN / "omni_30b_config.json").read_text()))


def collapse(names_and_shapes) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for name, shape in names_and_shapes:
        numbers = iter(range(9))
        kept = re.sub(r"\.mlp\.(\d)\.(weight|bias)$", r".mlp.#\1#.\2", name)
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", lambda _, n=numbers: f"{{{next(n)}}}", kept).replace("#", "")
        entry = found.setdefault(pattern, {"shape": list(shape), "count": 0})
        assert entry["shape"] == list(shape), name
        entry["count"] += 1
    return found


def test_the_real_configuration_maps_to_every_published_tensor(real_config):
    shapes = parameter_shapes(abstract_parts(real_config, ImageConfig()))
    sources = QWEN3_OMNI.sources(real_config)
    assert set(shapes) == set(sources)
    ours = collapse(
        ("thinker." + name, shape) for path in shapes for name, _, shape in sources[path].pieces(shapes[path].shape)
    )
    assert ours == json.loads((GOLDEN / "names.json").read_text())


def test_the_real_configuration_builds_without_memory(real_config):
    shapes = parameter_shapes(abstract_parts(real_config, ImageConfig()))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in shapes.values())
    counts = {part: sum(leaf.size for p, leaf in shapes.items() if p.startswith(part)) for part in ("vision", "audio")}
    text = sum(leaf.size for path, leaf in shapes.items() if path.startswith("text."))
    # 30.5 B in the text decoder, 0.54 B and 0.65 B in the towers.
    assert round(text / 1e9, 1) == 30.5
    assert {part: round(n / 1e9, 2) for part, n in counts.items()} == {"vision": 0.54, "audio": 0.65}


@pytest.mark.parametrize(
    ("published", "billions"), [("Qwen3-Next-80B-A3B", 79.7), ("Qwen3.5-27B", 27.4), ("Qwen3.5-35B-A3B", 35.1)]
)
def test_real_models_with_linear_layers_map_to_every_published_tensor(published, billions):
    raw = json.loads((GOLDEN / "text_configs.json").read_text())[published]
    wanted = json.loads((GOLDEN / "text_names.json").read_text())[published]
    family = family_of(raw["model_type"])
    config = family.read(raw)
    shapes = parameter_shapes(abstract_parts(config, ImageConfig()))
    assert round(sum(leaf.size for leaf in shapes.values()) / 1e9, 1) == billions
    sources = family.sources(config)
    assert set(shapes) == set(sources)
    # As in the files: experts fused where the patterns are, the decoder alone or within the multimodal model.
    fused = {
        family.canonical(name).format(i): jax.ShapeDtypeStruct(entry["shape"], "float32")
        for name, entry in wanted.items()
        for i in range(64)
        if name.endswith("_proj")
    }
    ours = collapse(
        (name, shape)
        for path, leaf in shapes.items()
        for name, _, shape in sources[path].as_stored(leaf.shape, fused).pieces(leaf.shape)
    )
    assert ours == {family.canonical(name): entry for name, entry in wanted.items()}


@pytest.mark.parametrize("family", [QWEN3_NEXT, QWEN3_5], ids=lambda family: family.name)
def test_heads_that_guess_ahead_are_skipped(family):
    assert family.canonical("mtp.layers.0.self_attn.q_proj.weight") is None
    assert family.canonical("model.norm.weight") == "model.norm.weight"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("thinker.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ("thinker.model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"),
        ("model.language_model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"),
        ("model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"),
        ("thinker.lm_head.weight", "lm_head.weight"),
        ("talker.model.norm.weight", None),
        ("code2wav.decoder.0.weight", None),
    ],
)
def test_prefixes(name, canonical):
    assert QWEN3_OMNI.canonical(name) == canonical


def test_pieces_tile_the_parameter():
    source = Source("l.{0}.e.{1}.{part}.weight", stacked=2, parts=("gate", "up"))
    pieces = list(source.pieces((2, 3, 8, 5)))
    assert len(pieces) == 12
    assert pieces[0] == ("l.0.e.0.gate.weight", (0, 0, slice(0, 4)), (4, 5))
    assert pieces[-1] == ("l.1.e.2.up.weight", (1, 2, slice(4, 8)), (4, 5))


def test_pieces_are_numbered_as_layers_are():
    source = Source("l.{0}.e.{1}.w", stacked=2, numbers=range(3, 12, 4))
    assert [name for name, _, _ in source.pieces((3, 1, 5))] == ["l.3.e.0.w", "l.7.e.0.w", "l.11.e.0.w"]
    assert [place for _, place, _ in source.pieces((3, 1, 5))] == [(0, 0), (1, 0), (2, 0)]


def test_a_source_gives_way_to_what_the_files_have():
    fused = Source("l.{0}.fused", 1)
    source = Source("l.{0}.e.{1}.w", 2, otherwise=fused)
    shape = (2, 3, 5)
    one = jax.ShapeDtypeStruct((5,), "float32")
    alone, both = {"l.0.fused": one}, {"l.0.fused": one, "l.0.e.0.w": one}
    assert source.as_stored(shape, alone) == fused
    assert source.as_stored(shape, both) == source.as_stored(shape, {}) == source


@pytest.mark.parametrize(
    ("model_type", "nearest"),
    [("qwen3_omni", "qwen3_omni_moe"), ("qwen2_5_omni", "qwen3_omni_moe"), ("qwen4_exp", "qwen3"), ("llama", "qwen3")],
)
def test_an_unknown_family_names_the_nearest(model_type, nearest):
    sentence = (
        f"^model_type '{model_type}' is not supported; the nearest supported ones are {nearest}\\w* and qwen3\\w*$"
    )
    with pytest.raises(CheckpointError, match=sentence):
        family_of(model_type)


def test_no_model_type():
    with pytest.raises(CheckpointError, match="no model_type"):
        family_of(None)
