"""How parameters are spread over a mesh of devices.

One rule a kind of parameter, in the manner of Megatron (arXiv:1909.08053): a projection that widens is cut along its
outputs, the one that narrows back along its inputs, experts along the expert axis. The compiler adds the collectives.
"""

import re

from jax.sharding import Mesh, PartitionSpec

# Axis to cut, counted from the end of the parameter's shape. Weights are [out, in].
_RULES: tuple[tuple[str, int], ...] = (
    (r"experts\.", -3),
    (r"(q_proj|k_proj|v_proj|qkv|linear_fc1|fc1|proj1|gate_proj|up_proj|in_proj_\w+)\.weight$", -2),
    (r"(o_proj|out_proj|attn\.proj|linear_fc2|fc2|proj2|down_proj)\.weight$", -1),
    (r"(q_proj|k_proj|v_proj|qkv|linear_fc1|fc1|proj1)\.bias$", -1),
    (r"(embed_tokens|lm_head)\.weight$", -2),
)


def partition_spec(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The layout of one parameter: cut along the mesh's last axis where a rule fits and divides evenly, else whole.

    Args:
        path: dotted parameter path.
        shape: the parameter's shape, stacked axes included.
        mesh: its last axis is the one that parameters are cut along; the others replicate.
    """
    axis_name = mesh.axis_names[-1]
    for pattern, axis in _RULES:
        if re.search(pattern, path):
            if shape[axis] % mesh.shape[axis_name]:
                break
            spec: list[str | None] = [None] * len(shape)
            spec[axis] = axis_name
            return PartitionSpec(*spec)
    return PartitionSpec()
