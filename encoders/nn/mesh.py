"""Logical axes: what an array's axes mean, and which axes of a mesh they are cut along.

Weights and activations are told of by the names of one table, and a mesh by the names of its own axes. What the axes of
the mesh do not divide evenly is held whole on each of their devices.

The programs of a module whose weights lie on a mesh are traced with that mesh as the current one; everywhere else there
is none, and nothing here changes a value or a program.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),  # rows of a batch, frames and windows of towers
    "heads": ("tensor",),
    "hidden": ("tensor",),  # of feed-forward layers, and whatever else a projection widens to
    "vocabulary": ("tensor",),
    "experts": ("expert", "tensor"),
    "width": ("fsdp",),  # of the hidden state, in weights alone
}
"""Logical axis -> axes of the mesh, each that divides it, or what those before leave."""
NAMES = ("data", "fsdp", "tensor", "expert")
"""Axes of a mesh that mean something here; "model" is another name of "tensor"."""

Names = Sequence[str | None]


@runtime_checkable
class MeshShape(Protocol):
    """What is asked of a mesh: a `jax.sharding.Mesh`, one without devices, or a plan's."""

    @property
    def axis_names(self) -> tuple[Any, ...]: ...
    @property
    def shape(self) -> Any: ...


_current: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def current_mesh() -> Mesh | None:
    """Return the mesh that the program which is being traced runs on, its axes Auto; None on a single device."""
    return _current.get()


@contextmanager
def on_mesh(mesh: Mesh | None) -> Iterator[None]:
    """Trace programs for a mesh, or for none."""
    token = _current.set(mesh)
    try:
        yield
    finally:
        _current.reset(token)


def mesh_of(arrays: Sequence[Any]) -> Mesh | None:
    """Return the mesh that arrays, or shapes with shardings, lie on, with Auto axes; None for a single device."""
    for array in arrays:
        sharding = getattr(array, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.size > 1:
            return with_auto_axes(cast(Mesh, sharding.mesh))
    return None


def with_auto_axes(mesh: Mesh) -> Mesh:
    """Return a mesh of the same devices along axes of which the compiler decides."""
    if set(mesh.axis_types) <= {AxisType.Auto}:
        return mesh
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def is_shared(array: Any) -> bool:
    """Whether an array lies on devices of several processes."""
    return isinstance(array, jax.Array) and not array.is_fully_addressable


def on_host(array: Any) -> np.ndarray:
    """Return the whole of an array; of one that lies on devices of several processes, which all must ask for it."""
    if is_shared(array) and not array.is_fully_replicated:
        mesh = cast(NamedSharding, array.sharding).mesh
        array = jax.device_put(array, NamedSharding(mesh, PartitionSpec()))
    return np.asarray(array)


def roles(mesh: MeshShape) -> dict[str, str]:
    """Return which axis of a mesh is the one of each name in the table.

    A mesh without any that weights are cut along has its last axis cut them, unless that is the one of data.
    """
    found = {name: name for name in NAMES if name in mesh.axis_names}
    if "tensor" not in found and "model" in mesh.axis_names:
        found["tensor"] = "model"
    last = mesh.axis_names[-1] if mesh.axis_names else "data"
    if found.keys() <= {"data"} and last != "data":
        found["tensor"] = last
    return found


def mesh_axes(name: str | None, size: int, mesh: MeshShape, taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the axes of a mesh that a logical axis of some size is cut along; those of another axis are taken."""
    named, chosen, parts = roles(mesh), [], 1
    for role in RULES.get(name or "", ()):
        axis = named.get(role)
        if axis is None or axis in taken or mesh.shape[axis] == 1 or size % (parts * mesh.shape[axis]):
            continue
        parts *= mesh.shape[axis]
        chosen.append(axis)
    return tuple(chosen)


def partition(shape: Sequence[int], names: Names, mesh: MeshShape) -> PartitionSpec:
    """Return how an array is cut along a mesh.

    Args:
        shape: of the array.
        names: the logical axis of each of its axes; None for one that is never cut.
        mesh: whose axes these are.
    """
    spec, taken = [], []
    for size, name in zip(shape, names, strict=True):
        axes = mesh_axes(name, size, mesh, taken)
        taken += axes
        spec.append(_entry(axes))
    return PartitionSpec(*spec)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Say how an array of a program is cut along the current mesh; without one the array is as it was."""
    mesh = current_mesh()
    if mesh is None:
        return x
    return lax.with_sharding_constraint(x, NamedSharding(mesh, partition(x.shape, names, mesh)))


def apart(function: Callable[..., Any], arguments: Sequence[jax.Array], names: Sequence[Names], results: Any) -> Any:
    """Call a function with each device's own part of its arguments, where parts do not depend on each other.

    Inside it there is no mesh: loops and slices over an axis that is cut stay on the device.

    Args:
        function: of the arguments.
        arguments: arrays.
        names: the logical axes of each. An axis is cut where all that bear its name can be.
        results: those of each result, in a tree like that of the results.
    """
    mesh = current_mesh()
    if mesh is None:
        return function(*arguments)
    sizes: dict[str, int] = {}
    for argument, own in zip(arguments, names, strict=True):
        for size, name in zip(argument.shape, own, strict=True):
            if name is not None:
                sizes[name] = math.gcd(sizes.get(name, 0), size)
    cut: dict[str, tuple[str, ...]] = {}
    for name, size in sizes.items():
        cut[name] = mesh_axes(name, size, mesh, [axis for axes in cut.values() for axis in axes])

    def spec(own: Names) -> PartitionSpec:
        return PartitionSpec(*(_entry(cut[name]) if name is not None else None for name in own))

    outs = jax.tree.map(spec, results, is_leaf=_is_names)
    return on_each(function, mesh, tuple(map(spec, names)), outs)(*arguments)


def on_each(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """Return a function that runs on each device of a mesh with its own part, and sees no mesh."""

    def local(*arguments: Any) -> Any:
        with on_mesh(None):
            return function(*arguments)

    return jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _entry(axes: tuple[str, ...]) -> Any:
    return None if not axes else axes[0] if len(axes) == 1 else axes


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(name is None or isinstance(name, str) for name in value)
