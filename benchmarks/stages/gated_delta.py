"""The gated delta rule: one prefill of 32 heads of 128."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import Call, Cost, Product, Stage

HEADS, WIDTH, CHUNK = 32, 128, 32


def delta_products(tokens: int, heads: int, width: int, batch: int = 1, chunk: int = CHUNK) -> list[Product]:
    """The products of a chunked form: with the state, within a chunk, and those that solve its system."""
    chunks = batch * max(1, tokens // chunk)
    return [
        Product(chunk, width, width, heads, 3 * chunks),
        Product(chunk, width, chunk, heads, 2 * chunks),
        Product(chunk, chunk, chunk, heads, chunks),
        Product(chunk, chunk, width, heads, 2 * chunks),
    ]


def inputs(tokens: int, heads: int, width: int) -> list[np.ndarray]:
    """q, k, v, log gates and betas; gates from 0.001 to 1."""
    rng = np.random.RandomState(0)
    q, k, v = rng.normal(0, 1, (3, 1, tokens, heads, width))
    g = np.log(rng.uniform(1e-3, 1, (1, tokens, heads)))
    return [a.astype(np.float32) for a in (q, k, v, g, rng.uniform(0, 1, g.shape))]


def _ours(tokens: int, heads: int, width: int, _: Path) -> Call:
    import jax
    import jax.numpy as jnp

    from omni.decoder.ops.gated_delta import gated_delta_rule

    arrays = [jnp.asarray(a) for a in inputs(tokens, heads, width)]
    rule = jax.jit(lambda *a: gated_delta_rule(*a)[0])
    return Call(lambda _: rule(*arrays))


def _reference(tokens: int, heads: int, width: int, _: Path) -> Call:
    torch: Any = import_module("torch")
    rule: Any = import_module("transformers.models.qwen3_next.modeling_qwen3_next").torch_chunk_gated_delta_rule
    torch.set_grad_enabled(False)
    arrays = [torch.from_numpy(a) for a in inputs(tokens, heads, width)]
    return Call(lambda _: rule(*arrays, output_final_state=True, use_qk_l2norm_in_kernel=True)[0])


def stages(quick: bool) -> list[Stage]:
    """One prefill."""
    size = (64, 2, 16) if quick else (2048, HEADS, WIDTH)
    tokens, heads, width = size
    moved = 5 * 4 * tokens * heads * width  # q, k, v and the outputs, and the gates
    return [
        Stage(
            f"gated delta rule, {tokens} tokens, {heads} heads of {width}, float32",
            "gated delta rule",
            "float32",
            {"ours": partial(_ours, *size), "reference": partial(_reference, *size)},
            cost=Cost(tuple(delta_products(*size)), moved),
            items=tokens,
            unit="tokens",
            rounds=(1, 1) if quick else (5, 15),
            seconds=15,
            note="on one device; benchmarks/gated_delta.py has other forms and two devices",
        )
    ]
