"""Makes data/adapters.json and data/adapters.npz: adapters as PEFT writes them, and what PEFT makes of them.

    python -m tests.golden.make_adapters [CASE ...]

Needs the `reference` extra, and peft 0.21. float32, on the CPU. For each case: the names, shapes and settings of the
directories that `save_pretrained` wrote; the logits of a prompt with all adapters beside the weights; and a sketch of
each tensor of the checkpoint that `merge_and_unload` gives.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.numpy import load_file

from tests.golden.adapters import CASES, sketch, values, write_checkpoint
from tests.golden.text_families import token_ids

DATA = Path(__file__).parent / "data"
RECORDS, ARRAYS = DATA / "adapters.json", DATA / "adapters.npz"
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


def make(case: str, folder: Path) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The adapters of a case as PEFT writes them, and what it makes of the checkpoint with them."""
    name, adapters = CASES[case].checkpoint, CASES[case].adapters
    arrays: dict[str, np.ndarray] = {}
    checkpoint, out = write_checkpoint(folder / "checkpoint", name), folder / "adapters"
    records = [write(checkpoint, name, case, i, out / str(i)) for i in range(len(adapters))]
    base = load(checkpoint, name)
    plain = logits(base)
    names = [str(i) for i in range(len(adapters))]
    model = PeftModel.from_pretrained(base, out / "0", adapter_name="0").eval()
    for one in names[1:]:
        model.load_adapter(out / one, adapter_name=one)
    model.base_model.set_adapter(names)
    arrays[f"{case}/logits"] = beside = logits(model)
    merged = model.merge_and_unload(adapter_names=names)
    after = logits(merged)
    changed, apart = (float(np.linalg.norm(a - beside) / np.linalg.norm(beside)) for a in (plain, after))
    print(f"{case}: logits change by {changed:.3f}; merged and not are {apart:.1e} apart", flush=True)
    assert apart < 5e-6
    merged.save_pretrained(folder / "merged")
    there = load_file(checkpoint / "model.safetensors")
    for key, value in load_file(folder / "merged" / "model.safetensors").items():
        if key in there and there[key].shape != value.shape:
            value = value.swapaxes(-1, -2)  # experts, which transformers 5 saves the other way round
        assert key in there and there[key].shape == value.shape, (key, value.shape)
        arrays[f"{case}/sketch/{key}"] = sketch(key, value)
    return records, arrays


def main(cases: Sequence[str] = tuple(CASES)) -> None:
    """Makes some of the cases, and leaves the others as they are."""
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    records, arrays = {}, {}
    if RECORDS.is_file() and ARRAYS.is_file():
        records = json.loads(RECORDS.read_text("utf-8"))
        with np.load(ARRAYS) as archive:
            arrays = {key: value for key, value in archive.items() if key.partition("/")[0] not in cases}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            records[case], made = make(case, Path(folder))
        arrays |= made
        ordered = {name: records[name] for name in CASES if name in records}
        RECORDS.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")
        np.savez_compressed(ARRAYS, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:] or tuple(CASES))
