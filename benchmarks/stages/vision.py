"""The vision tower of Qwen3-Omni: patches to embeddings."""

import json
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import BYTES, Call, Cost, Product, Stage

CONFIG = Path(__file__).parents[2] / "tests" / "golden" / "omni_30b_config.json"
Grid = tuple[int, int, int]
# Patches in time, height and width.
ONE_SMALL: Sequence[Grid] = [(1, 24, 24)]
ONE: Sequence[Grid] = [(1, 48, 48)]
MIXED: Sequence[Grid] = [
    (1, 24, 24),
    (1, 16, 32),
    (1, 28, 20),
    (1, 30, 40),
    (1, 14, 14),
    (1, 32, 18),
    (1, 22, 22),
    (1, 8, 40),
]
FRAMES: Sequence[Grid] = [(16, 16, 16)]
SMALL = {
    "vision_config": {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 2048}
    | {"deepstack_visual_indexes": [0]},
    "audio_config": {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96, "d_model": 64}
    | {"downsample_hidden_size": 16},
}


def tower_config(quick: bool) -> dict[str, Any]:
    """config.json of Qwen3-Omni-30B-A3B, with small towers where asked for."""
    config = json.loads(CONFIG.read_text("utf-8"))
    for part, sizes in SMALL.items() if quick else ():
        config["thinker_config"][part] |= sizes
    return config


def prepare(part: str, dtype: str, quick: bool, folder: Path) -> None:
    """Write the checkpoint of one tower."""
    from benchmarks.checkpoints import OMNI, write

    write(folder, tower_config(quick), dtype, OMNI, (part,))
    (folder / "preprocessor_config.json").write_text("{}")


def levels(grids: Sequence[Grid]) -> np.ndarray:
    """Grey levels of all patches: one frame each of a picture, both of a video."""
    depth = 2 if any(t > 1 for t, _, _ in grids) else 1
    patches = sum(t * h * w for t, h, w in grids)
    return np.random.RandomState(0).randint(0, 256, (patches, 3 * depth * 256)).astype(np.uint8)


def cost(grids: Sequence[Grid], vision: dict[str, Any], dtype: str) -> Cost:
    """Products of the tower, and the arrays between them."""
    depth, width, hidden = vision["depth"], vision["hidden_size"], vision["intermediate_size"]
    heads, out = vision["num_heads"], vision["out_hidden_size"]
    mergers, whole = 1 + len(vision["deepstack_visual_indexes"]), 4 * width
    products, moved = [], 0.0
    for t, h, w in grids:
        rows = h * w
        products += [
            Product(rows, 1536, width, count=t),
            Product(rows, width, 3 * width, count=t * depth),
            Product(rows, width // heads, rows, heads, t * depth),
            Product(rows, rows, width // heads, heads, t * depth),
            Product(rows, width, width, count=t * depth),
            Product(rows, width, hidden, count=t * depth),
            Product(rows, hidden, width, count=t * depth),
            Product(rows // 4, whole, whole, count=t * mergers),
            Product(rows // 4, whole, out, count=t * mergers),
        ]
        # Norms, turns of queries and keys, and sums read and write rows; the activation reads and writes hidden ones.
        moved += t * depth * rows * (13 * width + 2 * hidden) * BYTES[dtype]
    return Cost(tuple(products), moved)


def _ours(grids: Sequence[Grid], dtype: str, folder: Path) -> Call:
    import omni

    tower = omni.load(folder, parts=("vision",), dtype=dtype).media.vision
    assert tower is not None
    pixels, grid = levels(grids), np.asarray(grids, np.int32)
    return Call(lambda _: tower.encode(pixels, grid), lambda found: np.concatenate([one.tokens for one in found]))


def reference_tower(part: str, folder: Path, dtype: str, device: str = "cpu") -> Any:
    """One tower of the reference, with the weights of a folder."""
    torch: Any = import_module("torch")
    safetensors: Any = import_module("safetensors.torch")
    modeling: Any = import_module("transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe")
    kind: Any = import_module("transformers").Qwen3OmniMoeThinkerConfig
    config = kind(**json.loads((folder / "config.json").read_text())["thinker_config"])
    name = {"vision": "Qwen3OmniMoeVisionEncoder", "audio": "Qwen3OmniMoeAudioEncoder"}[part]
    prefix = {"vision": "thinker.visual.", "audio": "thinker.audio_tower."}[part]
    settings = getattr(config, f"{part}_config")
    tower = getattr(modeling, name)._from_config(settings, attn_implementation="sdpa", dtype=getattr(torch, dtype))
    weights = safetensors.load_file(folder / "model.safetensors")
    tower.load_state_dict({name.removeprefix(prefix): weight for name, weight in weights.items()})
    torch.set_grad_enabled(False)
    return tower.eval().to(device)


def _reference(grids: Sequence[Grid], dtype: str, folder: Path) -> Call:
    torch: Any = import_module("torch")
    tower = reference_tower("vision", folder, dtype)
    values = levels(grids).reshape(-1, 3, 2 if grids[0][0] > 1 else 1, 256).astype(np.float32) / 127.5 - 1
    pixels = torch.from_numpy(np.broadcast_to(values, (len(values), 3, 2, 256)).reshape(len(values), -1).copy())
    pixels, grid = pixels.to(getattr(torch, dtype)), torch.tensor(list(grids))
    return Call(
        lambda _: tower(pixels, grid_thw=grid).pooler_output,
        lambda found: found.float().numpy(),
    )


def stage(name: str, grids: Sequence[Grid], dtype: str, quick: bool, **more: Any) -> Stage:
    """The stage of some pictures, or of one video."""
    vision = tower_config(quick)["thinker_config"]["vision_config"]
    return Stage(
        f"vision tower, {name}, {dtype}",
        "vision",
        dtype,
        {"ours": partial(_ours, grids, dtype), "reference": partial(_reference, grids, dtype)},
        f"vision-{dtype}",
        partial(prepare, "vision", dtype, quick),
        cost(grids, vision, dtype),
        items=sum(t for t, _, _ in grids),
        unit="images",
        **more,
    )


def stages(quick: bool) -> list[Stage]:
    """Four sizes in bfloat16, two of them in float32."""
    if quick:
        return [stage("64 x 96", [(1, 4, 6)], "float32", True, rounds=(1, 1))]
    return [
        stage("384 x 384", ONE_SMALL, "float32", False),
        stage("384 x 384", ONE_SMALL, "bfloat16", False),
        stage("768 x 768", ONE, "float32", False, rounds=(2, 5), seconds=60),
        stage("768 x 768", ONE, "bfloat16", False, rounds=(2, 5), seconds=60),
        stage("8 mixed sizes", MIXED, "bfloat16", False, rounds=(2, 5), seconds=60),
        stage("32 frames of 256 x 256", FRAMES, "bfloat16", False, rounds=(2, 3), seconds=60),
    ]
