"""From the tensors of a directory to the parameters of a model.

Loading is driven by the model: its parameter tree says what is needed, the family says where each piece lies. All that
is missing, unexpected or mis-shaped is reported at once, before a byte of weights is read. Each tensor then goes from
the mapped file to its place on the device, or to each device's shard, once.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from encoders.nn.weights import Quantized
from omni.checkpoint.adapted import AdaptedTensor
from omni.checkpoint.interruptible import call
from omni.checkpoint.quantize import is_fast, is_matrix, quantized
from omni.checkpoint.quantized import Method, PackedTensor, read_method
from omni.checkpoint.safetensors import FLOATS, PACKED, StoredTensor, is_finite, open_tensors
from omni.checkpoint.sharding import partition_spec
from omni.errors import CheckpointError
from omni.families import Family, Source

Tensor = StoredTensor | PackedTensor
Readable = Tensor | AdaptedTensor
# Loads under about a second show no bar.
_SILENT_BYTES = 1 << 30
# Copied to the device in a tenth of a second or so.
_LONG_COPY = 1 << 28


def parameter_shapes(model: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Parameter path -> shape of an abstract (or real) model, paths joined by dots."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): variable.get_value() for path, variable in flat}


def open_weights(directory: Path, family: Family, dtype: str | None) -> tuple[dict[str, Tensor], Method | None]:
    """The tensors of a directory by canonical name, each packed weight as one, and what they are quantised with, if so.

    Args:
        directory: of a checkpoint.
        family: its family.
        dtype: that config.json names. Packed weights are of it where it is float32, and else of bfloat16.

    Raises:
        CheckpointError: they cannot be read, or contradict config.json.
    """
    method = read_method(directory)
    stored = canonical_names(open_tensors(directory, FLOATS if method is None else PACKED), family)
    if method is None:
        return {**stored}, None
    return method.pack(stored, jnp.dtype(jnp.float32 if dtype == "float32" else jnp.bfloat16)), method


def check_tensors(
    shapes: Mapping[str, Any],
    sources: Mapping[str, Source],
    stored: Mapping[str, Tensor],
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
            code="weights_mismatch",
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
            message = f"two tensors of the files both mean {canonical}: {found[canonical].name} and {name}"
            raise CheckpointError(message, code="duplicate_tensor")
        found[canonical] = tensor
    return found


def without_copies(stored: Mapping[str, Tensor], copies: Mapping[str, str]) -> dict[str, Tensor]:
    """Leaves out tensors that files hold twice, as some hold the output head beside the embedding it is tied to.

    Args:
        stored: canonical tensor name -> tensor.
        copies: canonical name of a copy -> that of what it copies.

    Raises:
        CheckpointError: a copy differs.
    """
    for copy, original in copies.items():
        if copy in stored and original in stored and not _equal(stored[copy], stored[original]):
            message = f"config.json ties {copy} to {original}, and in the files they differ"
            raise CheckpointError(message, code="tied_weights_differ")
    return {name: tensor for name, tensor in stored.items() if name not in copies}


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and np.array_equal(left.array, right.array)


def load_parameters(
    model: nnx.Module,
    sources: Mapping[str, Source],
    stored: Mapping[str, Readable],
    *,
    dtype: jnp.dtype,
    keep_float32: bool = False,
    check_finite: bool = True,
    quantize: str | None = None,
    mesh: Mesh | None = None,
    progress: bool | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Fills an abstract model's parameters from checked tensors, in place.

    Args:
        model: a model made with `nnx.eval_shape`.
        sources: parameter path -> where it lies.
        stored: canonical tensor name -> tensor.
        dtype: of the parameters on the device.
        keep_float32: whether a parameter of which the files hold a piece in float32 stays in float32.
        check_finite: whether to refuse weights that are NaN or infinite.
        quantize: "int8" keeps matrices as integers of 8 bits, with `dtype` for what is computed, and "off" none; None
            keeps those that lie so in the files.
        mesh: devices to spread the parameters over; the default device when None.
        progress: show a bar; when None, only for loads that take more than a second or so, on a terminal.
        check: called before each parameter; what it raises ends the loading.

    Raises:
        CheckpointError: with every tensor that holds a NaN or an infinity.
    """
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    total = sum(variable.get_value().size for _, variable in flat) * jnp.dtype(dtype).itemsize
    silent = not progress if progress is not None else total < _SILENT_BYTES or not sys.stderr.isatty()
    reader = _Reader(stored, check_finite)
    with tqdm(total=total, unit="B", unit_scale=True, desc="loading weights", disable=silent) as bar:
        for path, variable in flat:
            check()
            name = ".".join(map(str, path))
            source = sources[name]
            shape = variable.get_value().shape
            pieces = (piece for piece, _, _ in source.pieces(shape))
            own = np.dtype(np.float32) if keep_float32 and reader.has_float32(pieces) else dtype
            as_integers = quantize == "int8" and is_matrix(name)
            kept = None
            if as_integers or (quantize is None and is_fast(name)):
                kept = reader.integers(source, shape, dtype, mesh, name)
            if kept is not None:
                variable.set_value(kept)
            elif mesh is not None:
                value = reader.sharded(source, shape, own, mesh, name)
                variable.set_value(quantized(value, dtype) if as_integers else value)
            else:
                value = reader.whole(source, shape, own)
                variable.set_value(quantized(value, dtype) if as_integers else _on_device(value))
            bar.update(math.prod(shape) * jnp.dtype(dtype).itemsize)
    if reader.not_finite:
        message = "weights are NaN or infinite"
        raise CheckpointError(message, code="weights_not_finite", problems=sorted(reader.not_finite))
    nnx.update(model, nnx.from_flat_state(flat))


def _on_device(array: np.ndarray) -> jax.Array:
    """As `jnp.asarray`; while a large array is copied, Ctrl-C is answered."""
    if array.nbytes < _LONG_COPY:
        return jnp.asarray(array)
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]  # of this thread

    def copy(_: object) -> jax.Array:
        with jax.default_device(device):
            return jnp.asarray(array)

    return call(copy)


class _Reader:
    """Reads parameters from tensors.

    Attributes:
        not_finite: names in the files of the tensors among those read that hold a NaN or an infinity.
    """

    def __init__(self, stored: Mapping[str, Readable], check_finite: bool):
        self._stored, self._check_finite = stored, check_finite
        self.not_finite: set[str] = set()

    def has_float32(self, names: Iterable[str]) -> bool:
        return any(self._stored[name].dtype == np.float32 for name in names)

    def whole(self, source: Source, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        pieces = list(source.pieces(shape))
        tensor = self._stored[pieces[0][0]]
        if len(pieces) == 1 and tensor.dtype == dtype and isinstance(tensor, StoredTensor):
            return self._piece(source, pieces[0][0], dtype).reshape(shape)  # a stack of one gets its leading axis
        whole = np.empty(shape, dtype)
        for name, place, _ in pieces:
            tensor = self._stored[name]
            if isinstance(tensor, StoredTensor):
                whole[place] = self._piece(source, name, dtype)
            else:
                self._check(tensor)
                tensor.fill(source.turned(whole[place]))
        return whole

    def integers(
        self, source: Source, shape: tuple[int, ...], dtype: Any, mesh: Mesh | None, path: str
    ) -> Quantized | None:
        """A parameter whose pieces all lie in the files as integers with a scale a row; None for any other."""
        pieces = list(source.pieces(shape))
        if source.transposed or not all(isinstance(self._stored[name], PackedTensor) for name, _, _ in pieces):
            return None
        values, scales = np.empty(shape, np.int8), np.empty(shape[:-1], np.float32)
        for name, place, _ in pieces:
            tensor = self._stored[name]
            assert isinstance(tensor, PackedTensor)
            found = tensor.rows_of_integers()
            if found is None:
                return None
            self._check(tensor)
            values[place], scales[place] = found
        if mesh is None:
            return Quantized(_on_device(values), jnp.asarray(scales), dtype)
        spec = partition_spec(path, shape, mesh)
        return Quantized(_spread(values, mesh, spec), _spread(scales, mesh, PartitionSpec(*spec[: scales.ndim])), dtype)

    def sharded(self, source: Source, shape: tuple[int, ...], dtype: Any, mesh: Mesh, path: str) -> jax.Array:
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
                arrays = [self._piece(source, name, dtype) for name, _ in held]
                local[at] = (arrays[0] if len(arrays) == 1 else np.concatenate(arrays))[rest]
            return local

        return jax.make_array_from_callback(shape, sharding, shard)

    def _piece(self, source: Source, name: str, dtype: Any) -> np.ndarray:
        tensor = self._stored[name]
        self._check(tensor)
        if isinstance(tensor, StoredTensor):
            return source.turned(tensor.array)
        array = np.empty(tensor.shape, dtype)
        tensor.fill(array)
        return source.turned(array)

    def _check(self, tensor: Readable) -> None:
        if not self._check_finite:
            return
        if not isinstance(tensor, StoredTensor):
            self.not_finite.update(tensor.not_finite())
        elif not is_finite(tensor.array):
            self.not_finite.add(tensor.name)


def _spread(array: np.ndarray, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda index: array[index])
