"""From the tensors of a directory to the parameters of a model.

Loading is driven by the model: its parameter tree says what is needed, the family says where each piece lies. All that
is missing, unexpected or mis-shaped is reported at once, before a byte of weights is read. Each tensor then goes from
the file to its place on the device, or to each device's shard, once.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from tqdm import tqdm

from omni.checkpoint.parameter import Parameter, Readable, Tensor
from omni.checkpoint.quantize import is_fast, is_matrix
from omni.checkpoint.quantized import Method, read_method
from omni.checkpoint.reading import Readers
from omni.checkpoint.safetensors import FLOATS, PACKED, StoredTensor, open_tensors
from omni.errors import CheckpointError
from omni.families import Family, Source

# Loads under about a second show no bar.
_SILENT_BYTES = 1 << 30


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
        check: called meanwhile; what it raises ends the loading.

    Raises:
        CheckpointError: with every tensor that holds a NaN or an infinity.
    """
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    parameters = []
    for path, variable in flat:
        name, shape = ".".join(map(str, path)), variable.get_value().shape
        parameters.append((variable, Parameter(name, shape, sources[name], stored, mesh)))
    total = sum(parameter.bytes for _, parameter in parameters)
    silent = not progress if progress is not None else total < _SILENT_BYTES or not sys.stderr.isatty()
    bar = tqdm(total=total, unit="B", unit_scale=True, desc="loading weights", disable=silent)
    with bar, Readers(check_finite, check, bar.update) as readers:
        for variable, parameter in parameters:
            check()
            own = np.dtype(np.float32) if keep_float32 and parameter.has_float32 else dtype
            as_integers = quantize == "int8" and is_matrix(parameter.path)
            value = None
            if as_integers or (quantize is None and is_fast(parameter.path)):
                value = parameter.read_packed_integers(dtype, readers)
            if value is None and as_integers:
                value = parameter.read_as_integers(own, dtype, readers)
            variable.set_value(parameter.read(own, readers) if value is None else value)
    if readers.not_finite:
        message = "weights are NaN or infinite"
        raise CheckpointError(message, code="weights_not_finite", problems=sorted(readers.not_finite))
    nnx.update(model, nnx.from_flat_state(flat))
