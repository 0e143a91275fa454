"""Makes data/adapters.json and data/adapters.npz: adapters as PEFT writes them, and what PEFT makes of them.

    python -m tests.golden.make_adapters

Needs the `reference` extra, and peft 0.21. float32, on the CPU. For each case: the names, shapes and settings of the
directories that `save_pretrained` wrote; the logits of a prompt with all adapters beside the weights; and a sketch of
each tensor of the checkpoint that `merge_and_unload` gives.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.numpy import load_file

from tests.golden.adapters import CASES, sketch, values, write_adapters, write_checkpoint
from tests.golden.text_families import token_ids

DATA = Path(__file__).parent / "data"
CLASSES = {
    "omni": transformers.Qwen3OmniMoeThinkerForConditionalGeneration,
    "vl": transformers.AutoModelForImageTextToText,
    "vl_moe": transformers.AutoModelForImageTextToText,
}
LENGTH, KEPT = 33, 4


def load(directory: Path, name: str) -> Any:
    kind = CLASSES.get(name, transformers.AutoModelForCausalLM)
    model, report = kind.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def write(checkpoint: Path, name: str, case: str, number: int, out: Path) -> dict[str, Any]:
    """One adapter with the values of `adapters.values`, written by PEFT: its settings, and shapes by name."""
    model = get_peft_model(load(checkpoint, name), LoraConfig(**CASES[case].adapters[number]))
    shapes = {key: list(value.shape) for key, value in get_peft_model_state_dict(model).items()}
    drawn = values(case, number, shapes)
    set_peft_model_state_dict(model, {key: torch.from_numpy(value) for key, value in drawn.items()})
    model.save_pretrained(out)
    there = load_file(out / "adapter_model.safetensors")
    base = {key for key in there if ".base_layer." in key or key.endswith("embed_tokens.weight")}
    for key, value in there.items():
        np.testing.assert_array_equal(value, drawn[key], err_msg=key)
    if base:
        print(f"  brings the base model's own {', '.join(sorted(base))}")
    config = json.loads((out / "adapter_config.json").read_text())
    ordered = {
        key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
        for key, value in config.items()
    }
    return {
        "config": ordered | {"base_model_name_or_path": "base"},
        "tensors": {key: list(value.shape) for key, value in there.items()},
    }


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(token_ids(LENGTH))[None]).logits[0, -KEPT:].numpy()


def main() -> None:
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    records: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for case, (name, adapters) in ((case, (one.checkpoint, one.adapters)) for case, one in CASES.items()):
        print(case)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = write_checkpoint(Path(folder) / "checkpoint", name)
            out = Path(folder) / "adapters"
            records[case] = [write(checkpoint, name, case, i, out / str(i)) for i in range(len(adapters))]
            base = load(checkpoint, name)
            plain = logits(base)
            model = PeftModel.from_pretrained(base, out / "0", adapter_name="0").eval()
            for i in range(1, len(adapters)):
                model.load_adapter(out / str(i), adapter_name=str(i))
            names = [str(i) for i in range(len(adapters))]
            if len(names) > 1:
                model.base_model.set_adapter(names)
            beside = logits(model)
            arrays[f"{case}/logits"] = beside
            merged = model.merge_and_unload(adapter_names=names)
            after = logits(merged)
            changed = float(np.linalg.norm(beside - plain) / np.linalg.norm(plain))
            apart = float(np.linalg.norm(beside - after) / np.linalg.norm(beside))
            print(f"  logits change by {changed:.3f}; merged and not are {apart:.1e} apart")
            assert apart < 5e-6
            merged.save_pretrained(Path(folder) / "merged")
            there = load_file(checkpoint / "model.safetensors")
            for key, value in load_file(Path(folder) / "merged" / "model.safetensors").items():
                if key in there and there[key].shape != value.shape:
                    value = value.swapaxes(-1, -2)  # experts, which transformers 5 saves the other way round
                assert key not in there or there[key].shape == value.shape, (key, value.shape)
                arrays[f"{case}/sketch/{key}"] = sketch(key, value)
            alien = sorted(
                key for key in arrays if key.startswith(f"{case}/sketch/") and key.split("/")[2] not in there
            )
            print(f"  {len(alien)} tensors are named otherwise than in the checkpoint: {alien[:3]}", flush=True)
    (DATA / "adapters.json").write_text(json.dumps(records, indent=1) + "\n", "utf-8")
    np.savez_compressed(DATA / "adapters.npz", **arrays)
    again = [write_adapters(Path(tempfile.mkdtemp()), case) for case in records]
    print(f"{sum(map(len, again))} adapters; {(DATA / 'adapters.npz').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
