"""Makes data/gradients.npz: how the loss of whole conversations changes with every tensor of the small checkpoint.

    python -m tests.golden.make_gradients

Needs the `reference` extra. The reference's own forward pass, media included, in float32 on the CPU; the loss is the
mean cross entropy of every token that is no placeholder. Of each tensor's gradient its norm is kept, and its products
with a few random directions (`directions` in gradients.py).
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.golden.cases import CONVERSATIONS
from tests.golden.gradients import CASES, summary
from tests.golden.make_golden import DATA, Conversation, Reference
from tests.golden.tiny import write_checkpoint

EXPERTS = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)$")


def on_disk(model: torch.nn.Module) -> Iterator[tuple[str, np.ndarray]]:
    """Gradients under the names of files, where experts lie one by one."""
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            # The conversation holds no medium of that kind.
            continue
        gradient, fused = parameter.grad.numpy(), EXPERTS.match(name)
        if fused is None:
            yield name, gradient
            continue
        for i, one in enumerate(gradient):
            if fused[2] == "down_proj":
                yield f"{fused[1]}.{i}.down_proj.weight", one
            else:
                for part, half in zip(("gate_proj", "up_proj"), np.split(one, 2), strict=True):
                    yield f"{fused[1]}.{i}.{part}.weight", half


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(write_checkpoint(Path(folder)))
    model, found = reference.model, {}
    media = [getattr(model.config, f"{kind}_token_id") for kind in ("image", "video", "audio")]
    for case in CASES:
        run = Conversation(reference, CONVERSATIONS[case])
        model.zero_grad(set_to_none=True)
        logits = model(**run.whole_model(), use_cache=False).logits[0]
        wanted = run.ids[0, 1:]
        counted = ~torch.isin(wanted, torch.tensor(media))
        loss = torch.nn.functional.cross_entropy(logits[:-1][counted], wanted[counted])
        loss.backward()
        found[f"{case}/loss"] = np.float32(loss.item())
        for name, gradient in on_disk(model):
            found[f"{case}/{name}"] = summary(name, gradient)
        print(f"{case}: {run.ids.shape[1]} tokens, loss {loss.item():.4f}")
    np.savez_compressed(DATA / "gradients.npz", **found)


if __name__ == "__main__":
    main()
