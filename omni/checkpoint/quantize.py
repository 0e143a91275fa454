"""Which weights are kept as integers of 8 bits, and making them so."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from encoders.nn.weights import Quantized, quantize
from omni.errors import CheckpointError, InputError, shown

FORMS = ("int8", "off")
# The products that most bytes are read for. Not among them: what a choice or an exponent is made of (routers, gates of
# the gated delta rule), convolutions, tables of positions, norms and biases, all of them small.
_MATRICES = re.compile(
    r"(?:^|\.)(?:"
    r"(?:q_proj|k_proj|v_proj|o_proj|qkv|attn\.proj|out_proj"  # attention
    r"|gate_proj|up_proj|down_proj|linear_fc1|linear_fc2|fc1|fc2|proj1|proj2|conv_out"  # feed-forward, projectors
    r"|in_proj_qkv|in_proj_z|in_proj_qkvz|embed_tokens|lm_head)\.weight"
    r"|experts\.(?:gate_up_proj|down_proj))$"
)


def check_form(form: Any) -> None:
    """Refuse what is no name of a form.

    Raises:
        CheckpointError: `bad_option`.
    """
    if form is not None and form not in FORMS:
        message = f"quantize must be one of {', '.join(FORMS)}, or None, not {shown(form)}"
        raise CheckpointError(message, code="bad_option")


def is_matrix(path: str) -> bool:
    """Whether the parameter of this path is kept as integers where a model is loaded so."""
    return _MATRICES.search(path) is not None


def is_fast(path: str) -> bool:
    """Whether this parameter is kept as integers unasked, where files hold it so: products are as fast with them.

    Not those with an output head, of which several rows at a time take longer (benchmarks/README.md).
    """
    return is_matrix(path) and not path.endswith(("embed_tokens.weight", "lm_head.weight"))


def refuse_quantized(parts: nnx.Module, what: str) -> None:
    """Refuse what needs the weights themselves.

    Raises:
        InputError: `quantized`.
    """
    leaves = jax.tree.leaves(nnx.state(parts), is_leaf=lambda leaf: isinstance(leaf, Quantized))
    if any(isinstance(leaf, Quantized) for leaf in leaves):
        message = f"a model whose weights are integers cannot be {what}: load it with quantize='off'"
        raise InputError("quantized", message)


def quantized(weight: np.ndarray | jax.Array, dtype: Any) -> Quantized:
    """Return a weight as integers; one that lies on a mesh stays where it is."""
    if isinstance(weight, jax.Array):
        return jax.jit(lambda weight: Quantized(*quantize(weight), dtype))(weight)
    values, scales = np.empty(weight.shape, np.int8), np.empty(weight.shape[:-1], np.float32)
    for place in np.ndindex(weight.shape[:-2]):  # one matrix at a time: in float32 it takes four times its place
        values[place], scales[place] = quantize(weight[place])
    return Quantized(jnp.asarray(values), jnp.asarray(scales), dtype)
