"""Weights and inputs of the gated delta rule's golden data, the same for the reference and for ours."""

import zlib

import numpy as np

BATCH = 2
LENGTHS = (1, 63, 64, 65, 130)
TOKENS, CUTS = 140, (70, 71, 72)  # a chunk and a bit, two single tokens, and the rest
CONFIG = {
    "hidden_size": 32,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_conv_kernel_dim": 4,
    "rms_norm_eps": 1e-6,
}
PACKINGS = ("interleaved", "separate")

_K, _N, _H, _U = 2, 4, 8, 12
_COMMON = {
    "conv1d.weight": (2 * _K * _H + _N * _U, 1, 4),
    "A_log": (_N,),
    "dt_bias": (_N,),
    "norm.weight": (_U,),
    "out_proj.weight": (32, _N * _U),
}
_OWN = {
    "interleaved": {
        "in_proj_qkvz.weight": (2 * _K * _H + 2 * _N * _U, 32),
        "in_proj_ba.weight": (2 * _N, 32),
    },
    "separate": {
        "in_proj_qkv.weight": (2 * _K * _H + _N * _U, 32),
        "in_proj_z.weight": (_N * _U, 32),
        "in_proj_b.weight": (_N, 32),
        "in_proj_a.weight": (_N, 32),
    },
}


def layer_weights(packing: str) -> dict[str, np.ndarray]:
    """Of variances that make each part count: gates from nearly 0 to nearly 1, outputs of size 1."""
    weights = {}
    for name, shape in {**_COMMON, **_OWN[packing]}.items():
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        spread = {"conv1d.weight": 0.7, "A_log": 2.0, "dt_bias": 1.0, "norm.weight": 0.3, "in_proj_b.weight": 0.5}
        middle = 1.0 if name == "norm.weight" else 0.0
        weights[name] = (middle + rng.normal(0, spread.get(name, 0.25), shape)).astype(np.float32)
    return weights


def hidden_states() -> np.ndarray:
    """[BATCH, TOKENS, 32]."""
    return np.random.RandomState(1).normal(0, 1, (BATCH, TOKENS, 32)).astype(np.float32)


def rule_inputs(tokens: int) -> tuple[np.ndarray, ...]:
    """q, k, v, g, beta and a state."""
    rng = np.random.RandomState(tokens)
    q, k = rng.normal(0, 1, (2, BATCH, tokens, _K, _H))
    v = rng.normal(0, 1, (BATCH, tokens, _N, _U))
    g = np.log(rng.uniform(1e-3, 1, (BATCH, tokens, _N)))
    beta = rng.uniform(0, 1, (BATCH, tokens, _N))
    state = rng.normal(0, 1, (BATCH, _N, _H, _U))
    return tuple(a.astype(np.float32) for a in (q, k, v, g, beta, state))
