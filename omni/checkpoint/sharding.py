"""How parameters are spread over a mesh of devices.

One rule a kind of parameter, in the manner of Megatron (arXiv:1909.08053): a projection that widens is cut along its
outputs, the one that narrows back along its inputs, experts one from another; with an axis "fsdp" the other side of
each matrix too (arXiv:2304.11277). The compiler adds the collectives.
"""

import re

from jax.sharding import PartitionSpec

from encoders.nn.mesh import MeshShape, mesh_axes, partition

# The logical axes of the last axes of a parameter; weights are [out, in]. See `encoders.nn.mesh.RULES`.
_RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"experts\.gate_up_proj$", ("experts", None, "width")),
    (r"experts\.down_proj$", ("experts", "width", None)),
    (r"(q_proj|k_proj|v_proj|qkv|in_proj_\w+)\.weight$", ("heads", "width")),
    (r"(linear_fc1|fc1|proj1|gate_proj|up_proj)\.weight$", ("hidden", "width")),
    (r"(o_proj|out_proj|attn\.proj)\.weight$", ("width", "heads")),
    (r"(linear_fc2|fc2|proj2|down_proj)\.weight$", ("width", "hidden")),
    (r"(q_proj|k_proj|v_proj|qkv)\.bias$", ("heads",)),
    (r"(linear_fc1|fc1|proj1)\.bias$", ("hidden",)),
    (r"(embed_tokens|lm_head)\.weight$", ("vocabulary", "width")),
)


def logical_axes(path: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """Return the logical axis of each axis of a parameter, by its dotted path; None for those that are never cut."""
    for pattern, names in _RULES:
        if re.search(pattern, path):
            return (*[None] * (len(shape) - len(names)), *names)
    return (None,) * len(shape)


def partition_spec(path: str, shape: tuple[int, ...], mesh: MeshShape) -> PartitionSpec:
    """Return the layout of one parameter: what its rule says, without the axes that do not divide evenly.

    Args:
        path: dotted parameter path.
        shape: the parameter's shape, stacked axes included.
        mesh: along whose axes it is cut.
    """
    return partition(shape, logical_axes(path, shape), mesh)


def is_undivided(path: str, shape: tuple[int, ...], mesh: MeshShape) -> bool:
    """Whether a rule would cut a parameter along an axis of the mesh, and no axis that it names divides it evenly."""
    named = [(name, size) for name, size in zip(logical_axes(path, shape), shape, strict=True) if name is not None]
    # A size that everything divides tells which axes a rule could use.
    wanted = [(name, size) for name, size in named if mesh_axes(name, 0, mesh)]
    return any(not mesh_axes(name, size, mesh) for name, size in wanted)
