"""Makes data/text_families.npz: logits and greedy continuations of the checkpoints of text_families.py.

    python -m tests.golden.make_text_families

Needs the `reference` extra. float32, on the CPU.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.golden.text_families import CONFIGS, LENGTHS, token_ids, write_checkpoint

DATA = Path(__file__).parent / "data"
STEPS = 12
KEPT = 4  # last positions of each prompt


def main() -> None:
    found: dict[str, np.ndarray] = {}
    for name in CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            directory = write_checkpoint(Path(folder), name)
            model, report = AutoModelForCausalLM.from_pretrained(
                directory, dtype=torch.float32, output_loading_info=True
            )
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
        model.eval()
        for length in LENGTHS:
            ids = torch.from_numpy(token_ids(length))[None]
            with torch.no_grad():
                logits = model(ids).logits[0].numpy()
                # Without the mask, every 0 of the prompt would be taken for a pad.
                said = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=STEPS,
                    do_sample=False,
                    eos_token_id=None,
                    pad_token_id=0,
                )
            found[f"{name}/{length}/logits"] = logits[-KEPT:]
            found[f"{name}/{length}/greedy"] = said[0, length:].numpy().astype(np.int32)
        top = np.sort(logits, axis=-1)
        margin = float((top[:, -1] - top[:, -2]).min())
        print(f"{name}: logits of deviation {logits.std():.2f}, smallest margin {margin:.4f}")
    np.savez_compressed(DATA / "text_families.npz", **found)


if __name__ == "__main__":
    main()
