"""Makes data/text_gradients.npz: how the loss of a prompt changes with every tensor of two hybrid checkpoints.

    python -m tests.golden.make_text_gradients

Needs the `reference` extra. float32, on the CPU; the loss is the mean cross entropy of every token but the first. Kept
are the norm of each gradient and its products with a few random directions, as in make_gradients.py.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.golden.gradients import summary
from tests.golden.make_gradients import on_disk
from tests.golden.make_text_families import DATA
from tests.golden.text_families import GRADIENTS, token_ids, write_checkpoint

TOKENS = 65


def main() -> None:
    found = {}
    for name in GRADIENTS:
        with tempfile.TemporaryDirectory() as folder:
            model = AutoModelForCausalLM.from_pretrained(write_checkpoint(Path(folder), name), dtype=torch.float32)
        ids = torch.from_numpy(token_ids(TOKENS))
        logits = model(ids[None], use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[1:])
        loss.backward()
        found[f"{name}/loss"] = np.float32(loss.item())
        for tensor, gradient in on_disk(model):
            found[f"{name}/{tensor}"] = summary(tensor, gradient)
        print(f"{name}: loss {loss.item():.4f}")
    np.savez_compressed(DATA / "text_gradients.npz", **found)


if __name__ == "__main__":
    main()
