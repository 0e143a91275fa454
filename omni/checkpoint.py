"""From the tensors of a directory to the parameters of a model.

Loading is driven by the model: its parameter tree says what is needed, the family says where each piece lies. All that
is missing, unexpected or mis-shaped is reported at once, before a byte of weights is read. Each tensor then goes from
the mapped file to its place on the device, or to each device's shard, once.
"""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from tqdm import tqdm

from omni.errors import CheckpointError
from omni.families import Family, Source
from omni.safetensors_file import StoredTensor
from omni.sharding import partition_spec

# Loads under about a second show no bar.
_SILENT_BYTES = 1 << 30


def parameter_shapes(model: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Parameter path -> shape of an abstract (or real) model, paths joined by dots."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): variable.get_value() for path, variable in flat}


def check_tensors(
    shapes: Mapping[str, Any],
    sources: Mapping[str, Source],
    stored: Mapping[str, StoredTensor],
    expected_elsewhere: set[str],
) -> None:
    """Compares what a model needs with what the files hold.

    Args:
        shapes: parameter path -> something with a `.shape`.
        sources: parameter path -> where it lies; exactly the same paths.
        stored: canonical tensor name -> tensor.
        expected_elsewhere: names that belong to parts which were not asked for.

    Raises:
        CheckpointError: with every missing, unexpected and mis-shaped tensor.
    """
    needed: dict[str, tuple[int, ...]] = {}
    for path, leaf in shapes.items():
        for name, _, shape in sources[path].pieces(leaf.shape):
            needed[name] = shape
    missing = [name for name in needed if name not in stored]
    unexpected = [name for name in stored if name not in needed and name not in expected_elsewhere]
    misshaped = [
        f"{name}: {list(stored[name].shape)} in the file, {list(shape)} wanted"
        for name, shape in needed.items()
        if name in stored and stored[name].shape != shape
    ]
    if missing or unexpected or misshaped:
        raise CheckpointError(
            "the weights do not fit config.json",
            missing=sorted(missing),
            unexpected=sorted(unexpected),
            misshaped=misshaped,
        )


def canonical_names(stored: Mapping[str, StoredTensor], family: Family) -> dict[str, StoredTensor]:
    """Renames a file's tensors to the family's canonical names, leaving out parts it skips knowingly."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        canonical = family.canonical(name)
        if canonical is None:
            continue
        if canonical in found:
            raise CheckpointError(f"two tensors of the files both mean {canonical}; one of them is {name}")
        found[canonical] = tensor
    return found


def without_copies(stored: Mapping[str, StoredTensor], copies: Mapping[str, str]) -> dict[str, StoredTensor]:
    """Leaves out tensors that files hold twice, as some hold the output head beside the embedding it is tied to.

    Args:
        stored: canonical tensor name -> tensor.
        copies: canonical name of a copy -> that of what it copies.

    Raises:
        CheckpointError: a copy differs.
    """
    for copy, original in copies.items():
        if copy in stored and original in stored and not _equal(stored[copy], stored[original]):
            raise CheckpointError(f"config.json ties {copy} to {original}, and in the files they differ")
    return {name: tensor for name, tensor in stored.items() if name not in copies}


def _equal(left: StoredTensor, right: StoredTensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and np.array_equal(left.array, right.array)


def load_parameters(
    model: nnx.Module,
    sources: Mapping[str, Source],
    stored: Mapping[str, StoredTensor],
    *,
    dtype: jnp.dtype,
    mesh: Mesh | None = None,
    progress: bool | None = None,
) -> None:
    """Fills an abstract model's parameters from checked tensors, in place.

    Args:
        model: a model made with `nnx.eval_shape`.
        sources: parameter path -> where it lies.
        stored: canonical tensor name -> tensor.
        dtype: of the parameters on the device.
        mesh: devices to spread the parameters over; the default device when None.
        progress: show a bar; when None, only for loads that take more than a second or so, on a terminal.
    """
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    total = sum(variable.get_value().size for _, variable in flat) * jnp.dtype(dtype).itemsize
    silent = not progress if progress is not None else total < _SILENT_BYTES or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc="loading weights", disable=silent) as bar:
        for path, variable in flat:
            source = sources[".".join(map(str, path))]
            shape = variable.get_value().shape
            if mesh is None:
                value = jnp.asarray(_read(source, shape, stored, dtype))
            else:
                value = _read_sharded(source, shape, stored, dtype, mesh, ".".join(map(str, path)))
            variable.set_value(value)
            bar.update(value.size * value.dtype.itemsize)
    nnx.update(model, nnx.from_flat_state(flat))


def _read(source: Source, shape: tuple[int, ...], stored: Mapping[str, StoredTensor], dtype: Any) -> np.ndarray:
    pieces = list(source.pieces(shape))
    if len(pieces) == 1 and stored[pieces[0][0]].dtype == dtype:
        return source.turned(stored[pieces[0][0]].array).reshape(shape)  # a stack of one gets its leading axis
    whole = np.empty(shape, dtype)
    for name, place, _ in pieces:
        whole[place] = source.turned(stored[name].array)
    return whole


def _read_sharded(
    source: Source, shape: tuple[int, ...], stored: Mapping[str, StoredTensor], dtype: Any, mesh: Mesh, path: str
) -> jax.Array:
    sharding = NamedSharding(mesh, partition_spec(path, shape, mesh))
    # Addressed by the leading axes, so that a shard reads only the layers and experts that are its own.
    pieces: dict[tuple[int, ...], list[tuple[str, tuple[int | slice, ...]]]] = {}
    for name, place, _ in source.pieces(shape):
        pieces.setdefault(place[: source.stacked], []).append((name, place[source.stacked :]))  # type: ignore[arg-type]

    def shard(index: Any) -> np.ndarray:
        lead = [range(size)[part] for part, size in zip(index[: source.stacked], shape, strict=False)]
        rest = index[source.stacked :]
        local = np.empty([len(range(size)[part]) for part, size in zip(index, shape, strict=True)], dtype)
        for at in np.ndindex(*[len(steps) for steps in lead]):
            held = pieces[tuple(steps[i] for steps, i in zip(lead, at, strict=True))]
            arrays = [source.turned(stored[name].array) for name, _ in held]
            local[at] = (arrays[0] if len(arrays) == 1 else np.concatenate(arrays))[rest]
        return local

    return jax.make_array_from_callback(shape, sharding, shard)
