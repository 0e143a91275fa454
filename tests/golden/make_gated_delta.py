"""Writes data/gated_delta.npz: the reference's gated delta rule, and its layers as Qwen3-Next and Qwen3.5 have them.

    python -m tests.golden.make_gated_delta

Weights and inputs are drawn anew from seeds by `gated_delta_inputs.py`; only the reference's results are stored.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, Qwen3_5TextConfig, Qwen3NextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.models.qwen3_next import modeling_qwen3_next as reference

from tests.golden.gated_delta_inputs import (
    BATCH,
    CONFIG,
    CUTS,
    LENGTHS,
    PACKINGS,
    hidden_states,
    layer_weights,
    rule_inputs,
)

LAYERS = {
    "interleaved": (Qwen3NextConfig, reference.Qwen3NextGatedDeltaNet),
    "separate": (Qwen3_5TextConfig, Qwen3_5GatedDeltaNet),
}


def rule(tokens: int, begun: bool) -> dict[str, np.ndarray]:
    """Both forms of the reference must say the same; the chunked one is kept."""
    *x, state = (torch.from_numpy(a) for a in rule_inputs(tokens))
    options: dict[str, Any] = {
        "initial_state": state if begun else None,
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": True,
    }
    out, last = reference.torch_chunk_gated_delta_rule(*x, **options)
    again, _ = reference.torch_recurrent_gated_delta_rule(*x, **options)
    error = torch.linalg.norm(out - again) / torch.linalg.norm(again)
    assert error < 2e-6, f"the reference's forms differ by {error}"
    assert last is not None
    return {"out": out.numpy(), "state": last.numpy()}


def layer(packing: str) -> dict[str, np.ndarray]:
    """The whole sequence at once, and in pieces with a cache; the pieces agree with the whole."""
    config_class, layer_class = LAYERS[packing]
    config = config_class(**CONFIG, num_hidden_layers=1, layer_types=["linear_attention"], vocab_size=8)
    net = layer_class(config, 0).eval()
    net.load_state_dict({name: torch.from_numpy(w) for name, w in layer_weights(packing).items()})
    x = torch.from_numpy(hidden_states())
    whole = net(x)
    cache = DynamicCache(config=config)
    pieces = torch.cat([net(part, cache_params=cache) for part in torch.tensor_split(x, CUTS, dim=1)], dim=1)
    error = torch.linalg.norm(pieces - whole) / torch.linalg.norm(whole)
    assert error < 2e-6, f"the reference's cache changes the result by {error}"
    return {"whole": whole.numpy(), "pieces": pieces.numpy()}


def main() -> None:
    torch.set_grad_enabled(False)
    found = {}
    for tokens in LENGTHS:
        for begun in (False, True):
            for name, array in rule(tokens, begun).items():
                found[f"rule/{tokens}/{'begun' if begun else 'new'}/{name}"] = array
    for packing in PACKINGS:
        for name, array in layer(packing).items():
            found[f"{packing}/{name}"] = array
    path = Path(__file__).parent / "data" / "gated_delta.npz"
    np.savez_compressed(path, allow_pickle=False, **found)
    print(f"{path.name}: {len(found)} arrays of {BATCH} rows, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
