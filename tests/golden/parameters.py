"""Every checkpoint whose parameter tree is frozen in parameters.json, by name, with its config.json."""

import json
from pathlib import Path
from typing import Any

from tests.golden import asr, text_families, tiny, vl

HERE = Path(__file__).parent
FILE = HERE / "parameters.json"
DEMO = HERE.parents[1] / "omni" / "assets" / "demo" / "config.json"
ASR_SIZES = ("0.6B", "1.7B")

Tree = dict[str, list[Any]]


def _read(name: str) -> Any:
    return json.loads((HERE / name).read_text("utf-8"))


def published() -> dict[str, dict[str, Any]]:
    """Real models, in every form of their configs that the tree holds: these are in bfloat16."""
    omni = _read("omni_30b_config.json")
    configs = {"Qwen3-Omni-30B-A3B": omni, "Qwen3-Omni-30B-A3B, thinker alone": omni["thinker_config"]}
    configs |= {name: entry["config"] for name, entry in _read("vl_names.json").items()}
    for name, raw in _read("text_configs.json").items():
        configs[name] = raw
        if "text_config" in raw:
            configs[f"{name}, text alone"] = raw["text_config"]
    for size in ASR_SIZES:
        configs |= {f"Qwen3-ASR-{size}, {naming}": asr.real_config(size, naming) for naming in asr.NAMINGS}
    return configs


def small() -> dict[str, dict[str, Any]]:
    """The checkpoints of the golden data, and the one that ships: these are in float32."""
    configs = {"omni": tiny.config(), "omni, thinker alone": tiny.config(alone=True)}
    configs |= {name: vl.config(name) for name in vl.NAMES}
    configs |= {f"asr, {naming}": asr.config(naming) for naming in asr.NAMINGS}
    # Text alone and within a multimodal model bear the same name in some families.
    configs |= {f"text, {name}": raw for name, raw in text_families.CONFIGS.items()}
    return configs | {"demo": json.loads(DEMO.read_text("utf-8"))}


def abstract_tree(raw: dict[str, Any], dtype: str) -> Tree:
    """What a config.json builds, without weights: state path -> dtype and shape.

    No public call builds a model without weights: this is the one place that has to follow when inner calls move.
    """
    from omni.families import family_of
    from omni.loading import abstract_parts
    from processors import ImageConfig

    return tree_of(abstract_parts(family_of(raw["model_type"]).read(raw), ImageConfig(), dtype))


def tree_of(parts: Any) -> Tree:
    """The state of a model's parts: path, joined by dots -> dtype and shape."""
    from flax import nnx

    leaves = {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(parts))}
    return {path: [leaf.dtype.name, list(leaf.shape)] for path, leaf in sorted(leaves.items())}


def frozen() -> dict[str, Tree]:
    """The trees as parameters.json holds them."""
    return json.loads(FILE.read_text("utf-8"))


def differences(ours: Tree, wanted: Tree) -> list[str]:
    """A line for each parameter that is missing, additional or another."""
    lines = [f"{path} is missing" for path in wanted if path not in ours]
    lines += [f"{path} is additional" for path in ours if path not in wanted]
    both = [path for path in ours if path in wanted and ours[path] != wanted[path]]
    return lines + [f"{path} is {ours[path]}, and was {wanted[path]}" for path in both]
