"""Memory that a model takes of each device, from its config and a mesh alone.

Weights and cache are exact: the rules that spread them are asked. What programs hold while they run is an estimate.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from encoders.nn.mesh import MeshShape, mesh_axes, partition
from omni.checkpoint.parameter import Tensor
from omni.checkpoint.quantize import is_fast, is_matrix
from omni.checkpoint.quantized import PackedTensor
from omni.checkpoint.sharding import is_undivided, partition_spec
from omni.decoder.cache import HybridCache, named_arrays
from omni.decoder.config import TextConfig
from omni.errors import CheckpointError, InputError, shown
from omni.families import Source

USABLE = 0.9
"""Of a chip's memory; the rest is left to its runtime and to what lies between arrays."""
CHUNK_TOKENS = 1024
"""Tokens of prompts that are read together."""
_AXES = {1: ("tensor",), 2: ("data", "tensor"), 3: ("data", "expert", "tensor")}
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Chip:
    """A kind of device.

    Attributes:
        name: of the chip.
        bytes: of its memory.
        source: who says so.
    """

    name: str
    bytes: int
    source: str


_NVIDIA, _GOOGLE = "https://www.nvidia.com/en-us/data-center", "https://cloud.google.com/tpu/docs"
CHIPS = (
    Chip("TPU v5e", 16_000_000_000, f"{_GOOGLE}/v5e"),
    Chip("NVIDIA L4", 24_000_000_000, f"{_NVIDIA}/l4"),
    Chip("TPU v4", 32_000_000_000, f"{_GOOGLE}/v4"),
    Chip("TPU v6e", 32_000_000_000, f"{_GOOGLE}/v6e"),
    Chip("NVIDIA A100 40 GB", 40_000_000_000, f"{_NVIDIA}/a100"),
    Chip("NVIDIA L40S", 48_000_000_000, f"{_NVIDIA}/l40s"),
    Chip("NVIDIA A100 80 GB", 80_000_000_000, f"{_NVIDIA}/a100"),
    Chip("NVIDIA H100 SXM", 80_000_000_000, f"{_NVIDIA}/h100"),
    Chip("TPU v5p", 95_000_000_000, f"{_GOOGLE}/v5p"),
    Chip("NVIDIA H200", 141_000_000_000, f"{_NVIDIA}/h200"),
    Chip("NVIDIA B200", 180_000_000_000, f"{_NVIDIA}/dgx-b200"),
)


@dataclass(frozen=True)
class PlannedMesh:
    """Axes of a mesh that need not be there.

    Attributes:
        shape: sizes by the names of the axes, in their order.
    """

    shape: Mapping[str, int]

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(self.shape)

    @property
    def size(self) -> int:
        """Devices in all."""
        return math.prod(self.shape.values())

    def __str__(self) -> str:
        return " x ".join(f"{name} {size}" for name, size in self.shape.items())

    @classmethod
    def of(cls, text: str) -> "PlannedMesh":
        """From sizes such as "8" (tensor), "4x2" (data x tensor) and "2x2x2" (data x expert x tensor), or from names
        and sizes such as "fsdp=4,tensor=2".

        Raises:
            InputError: `bad_mesh`.
        """
        named = [part.partition("=") for part in text.replace(" ", "").split(",")]
        if "=" not in text:
            sizes = text.lower().replace(" ", "").split("x")
            named = [(name, "=", size) for name, size in zip(_AXES.get(len(sizes), ()), sizes, strict=False)]
        if not named or not all(name and size.isdecimal() and 0 < int(size) < 1 << 20 for name, _, size in named):
            message = f"a mesh is written as 4x2, for data x tensor, or as fsdp=4,tensor=2, not {shown(text)}"
            raise InputError("bad_mesh", message)
        shape = {name: int(size) for name, _, size in named}
        if len(shape) < len(named):
            raise InputError("bad_mesh", f"a mesh has each axis once: {shown(text)}")
        return cls(shape)


def weight_bytes(
    shapes: Mapping[str, Any],
    itemsize: Callable[[str], int],
    mesh: MeshShape | None,
    is_integers: Callable[[str], bool] = lambda path: False,
) -> int:
    """Bytes of weights on each device.

    Args:
        shapes: parameter path -> something with a `.shape`.
        itemsize: bytes of a number of a parameter that is kept as it is.
        mesh: over whose devices they are spread; a single device when None.
        is_integers: whether a parameter is kept as integers of 8 bits with a scale a row.
    """
    total = 0
    for path, leaf in shapes.items():
        shape = tuple(leaf.shape)
        spec = () if mesh is None else tuple(partition_spec(path, shape, mesh))
        if is_integers(path):
            total += _share(shape, spec, mesh) + 4 * _share(shape[:-1], spec[: len(shape) - 1], mesh)
        else:
            total += _share(shape, spec, mesh) * itemsize(path)
    return total


def planned_weights(
    shapes: Mapping[str, Any],
    places: Mapping[str, Source],
    stored: Mapping[str, Tensor],
    dtype: Any,
    keep_float32: bool,
    quantize: str | None,
) -> Callable[[MeshShape | None], int]:
    """Bytes of weights on each device of a mesh, as `load_parameters` will keep them; its arguments."""

    def tensors(path: str) -> list[Tensor]:
        return [stored[name] for name, _, _ in places[path].pieces(shapes[path].shape)]

    def itemsize(path: str) -> int:
        wide = keep_float32 and any(tensor.dtype == np.float32 for tensor in tensors(path))
        return 4 if wide else jnp.dtype(dtype).itemsize

    def is_integers(path: str) -> bool:
        if quantize is not None:
            return quantize == "int8" and is_matrix(path)
        return is_fast(path) and all(isinstance(tensor, PackedTensor) for tensor in tensors(path))

    return lambda mesh: weight_bytes(shapes, itemsize, mesh, is_integers)


def cache_bytes(text: TextConfig, batch: int, context: int, dtype: Any, mesh: MeshShape | None) -> int:
    """Bytes of keys, values and states on each device, for so many conversations of so many tokens."""
    cache = jax.eval_shape(lambda: HybridCache.create(text, batch, context, dtype))
    total = 0
    for array, names in named_arrays(cache):
        spec = () if mesh is None else tuple(partition(array.shape, names, mesh))
        total += _share(array.shape, spec, mesh) * array.dtype.itemsize
    return total


def activation_bytes(text: TextConfig, batch: int, tokens: int, dtype: Any, mesh: MeshShape | None) -> int:
    """An estimate of the bytes that a device holds beside weights and cache while it reads a chunk of prompts.

    Counted are the hidden state and its copies, the larger of what attention and what the feed-forward layer makes, and
    the scores of the last tokens in float32.

    Args:
        text: the decoder's config.
        batch: rows of the chunk.
        tokens: of all rows together.
        dtype: of the hidden state.
        mesh: what programs run on.
    """
    size = jnp.dtype(dtype).itemsize
    cut = mesh or PlannedMesh({})

    def parts(name: str, count: int) -> int:
        return math.prod(cut.shape[axis] for axis in mesh_axes(name, count, cut))

    T = -(-tokens // parts("batch", batch))
    heads, kv_heads, width = text.num_attention_heads, text.num_key_value_heads, text.head_width
    attention = T * (heads * (2 * size + 4) + 2 * kv_heads * size) * width // parts("heads", kv_heads)
    feed_forward = T * 2 * text.intermediate_size * 4 // parts("hidden", text.intermediate_size)
    if text.is_sparse:
        pairs = T * text.num_experts_per_tok
        feed_forward = pairs * (text.hidden_size * (size + 8) + 2 * text.moe_intermediate_size * 4)
    scores = 2 * batch * text.vocab_size * 4
    return 4 * T * text.hidden_size * size + max(attention, feed_forward) + scores


def undivided(shapes: Mapping[str, Any], mesh: MeshShape) -> list[str]:
    """Paths of parameters that rules would cut, and that each device holds whole as no axis divides them evenly."""
    return [path for path, leaf in shapes.items() if is_undivided(path, tuple(leaf.shape), mesh)]


def undivided_heads(text: TextConfig, mesh: MeshShape) -> list[str]:
    """What each device computes and keeps for all heads, as the mesh does not divide their number evenly."""
    if not mesh_axes("heads", 0, mesh):
        return []
    kinds = {"full_attention": "attention and its cache", "linear_attention": "linear attention and its states"}
    counts = {"full_attention": text.num_key_value_heads, "linear_attention": text.linear_num_key_heads}
    return [
        f"{kinds[kind]} ({count} key heads)"
        for kind, count in counts.items()
        if text.layers_with(kind) and not mesh_axes("heads", count, mesh)
    ]


def check_fit(weights: Callable[[MeshShape | None], int], mesh: Mesh | None) -> None:
    """Refuse what the memory of this process's devices cannot hold.

    Args:
        weights: bytes of weights on each device of a mesh.
        mesh: what they are to be spread over; the default device when None.

    Raises:
        CheckpointError: `too_large`.
    """
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if mesh is not None:
        devices = list(mesh.local_devices)
    elif default is None:
        devices = jax.local_devices()[:1]
    else:
        devices = [default] if not isinstance(default, str) else jax.local_devices(backend=default)[:1]
    need = weights(mesh)
    for device in devices:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if limit is not None and need > limit:
            raise _too_large(need, limit, f"each {device.device_kind}")
    here = [device for device in devices if device.platform == "cpu"]
    # Parts that several devices of one machine hold alike lie there once.
    need, limit = min(need * len(here), weights(None)), host_bytes()
    if here and need > limit:
        raise _too_large(need, limit, "this machine")


def host_bytes() -> int:
    """Return the memory of this machine, or of the container that this process runs in."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        most = 8 << 30
    try:
        limit = _CGROUP.read_text("utf-8").strip()
    except OSError:
        return most
    return min(most, int(limit)) if limit.isdecimal() else most


def _too_large(need: int, limit: int, whose: str) -> CheckpointError:
    message = (
        f"the weights need {gib(need)} of {whose}, which has {gib(limit)}: spread them over more devices with mesh=, "
        "halve them with quantize='int8' or dtype='bfloat16', or load fewer parts"
    )
    return CheckpointError(message, code="too_large")


def gib(count: int) -> str:
    """Bytes for people."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _share(shape: tuple[int, ...], spec: tuple[Any, ...], mesh: MeshShape | None) -> int:
    """Numbers of an array that a device holds."""
    axes = [axis for entry in spec if entry is not None for axis in ((entry,) if isinstance(entry, str) else entry)]
    return math.prod(shape) // math.prod(mesh.shape[axis] for axis in axes) if mesh is not None else math.prod(shape)
