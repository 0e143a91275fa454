"""Compares the vision towers of Qwen3-VL with the reference at their full sizes, with random weights.

    python -m tests.golden.check_vl_towers

Needs the `reference` extra and 3 GB. A picture of 12 x 20 patches and a clip of two frames, float32, on the CPU.
"""

import gc
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3VLVisionConfig, Qwen3VLVisionModel

import omni
from tests.golden.load import relative_error
from tests.golden.make_vl_names import LARGE, SMALL, config

LIMIT = 1e-5
GRIDS = np.array([[1, 12, 20], [2, 8, 6]], np.int32)


def main() -> None:
    for name, sizes in (("Qwen3-VL-2B", SMALL), ("Qwen3-VL-8B", LARGE)):
        raw = config(name)
        torch.manual_seed(0)
        pixels = torch.rand(int(GRIDS.prod(axis=1).sum()), 1536) * 2 - 1
        tower = Qwen3VLVisionModel(Qwen3VLVisionConfig(**raw["vision_config"])).eval()
        with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            for key, value in tower.named_parameters():
                # Norms around 1, biases that show, weights that keep the scale.
                value.normal_(0, 0.2 if value.ndim == 1 else value[0].numel() ** -0.5)
                value += float("norm" in key and key.endswith("weight"))
            seen = tower(pixels, grid_thw=torch.from_numpy(GRIDS).long())
            tensors = {f"model.visual.{key}": value for key, value in tower.state_dict().items()}
            save_file(tensors, Path(folder) / "model.safetensors")
            (Path(folder) / "config.json").write_text(json.dumps(raw))
            settings = {"processor_class": "Qwen3VLProcessor", "patch_size": 16, "image_mean": [0.5] * 3}
            (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings))
            del tower, tensors
            gc.collect()
            model = omni.load(folder, parts="vision")
        assert model.media.vision is not None
        found = model.media.vision.encode(pixels.numpy(), GRIDS)
        tokens = relative_error(np.concatenate([f.tokens for f in found]), seen.pooler_output.numpy())
        levels = [
            relative_error(np.concatenate([f.deepstack[i] for f in found]), level.numpy())  # type: ignore[index]
            for i, level in enumerate(seen.deepstack_features)
        ]
        del model, found
        gc.collect()
        shown = ", ".join(f"{error:.1e}" for error in levels)
        print(f"{sizes['depth']} blocks of {sizes['hidden_size']}: tokens {tokens:.1e}, deepstack {shown}")
        assert max(tokens, *levels) < LIMIT


if __name__ == "__main__":
    main()
