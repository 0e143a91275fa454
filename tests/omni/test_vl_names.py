"""Every published tensor of every Qwen3-VL has one place in the parameter tree, and every place one tensor."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from omni.checkpoint.load import parameter_shapes
from omni.families import QWEN3_VL
from omni.loading import abstract_parts
from processors import ImageConfig

MODELS = json.loads((Path(__file__).parents[1] / "golden" / "vl_names.json").read_text("utf-8"))
BILLIONS = {"2B": 2.13, "4B": 4.44, "8B": 8.77, "32B": 33.36, "30B-A3B": 31.07, "235B-A22B": 235.67}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_maps(name):
    config = QWEN3_VL.read(MODELS[name]["config"])
    shapes = parameter_shapes(abstract_parts(config, ImageConfig()))
    sources = QWEN3_VL.sources(config)
    assert shapes.keys() == sources.keys()
    prefixes = {"visual.": "model.visual.", "model.": "model.language_model.", "lm_head.": "lm_head."}
    found: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for path, leaf in shapes.items():
        for canonical, _, shape in sources[path].pieces(leaf.shape):
            published = next(canonical.replace(p, to, 1) for p, to in prefixes.items() if canonical.startswith(p))
            assert QWEN3_VL.canonical(published) == canonical
            found[re.sub(r"(?<=\.)\d+(?=\.)", "{0}", published), shape] += 1
    wanted = {(pattern, tuple(shape)): count for pattern, (count, shape) in MODELS[name]["tensors"].items()}
    assert found == wanted
    total = sum(math.prod(leaf.shape) for leaf in shapes.values()) / 1e9
    assert total == pytest.approx(BILLIONS[name.removeprefix("Qwen3-VL-")], abs=0.01)
    text, vision = config.text, config.vision
    assert text is not None and vision is not None
    assert (text.rope_theta, text.mrope_section, text.max_position_embeddings) == (5e6, (24, 20, 20), 262144)
    assert vision.deepstack_visual_indexes in ((5, 11, 17), (8, 16, 24))
