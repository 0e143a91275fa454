"""One parameter: from the tensors that it lies in to an array on a device, or to shards on those of a mesh.

A shard takes of each tensor the part that is its own, and nothing else is read. A process reads the shards of its own
devices; a part that several of them hold whole is read once.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encoders.nn.weights import Quantized
from omni.checkpoint.adapted import AdaptedTensor
from omni.checkpoint.interruptible import call
from omni.checkpoint.quantize import quantized
from omni.checkpoint.quantized import PackedTensor
from omni.checkpoint.reading import Readers, Reading, Region, empty
from omni.checkpoint.safetensors import StoredTensor
from omni.checkpoint.sharding import partition_spec
from omni.families import Source

Tensor = StoredTensor | PackedTensor
Readable = Tensor | AdaptedTensor
Shard = tuple[tuple[int, int], ...]
"""Where a part of an array begins and ends along each of its axes."""
# Copied to the device in a tenth of a second or so.
_LONG_COPY = 1 << 28


class Parameter:
    """Reads a parameter.

    Args:
        path: its dotted path.
        shape: with the axes of stacks.
        source: where it lies.
        stored: canonical tensor name -> tensor.
        mesh: over whose devices it is spread; the default device when None.
    """

    def __init__(
        self, path: str, shape: tuple[int, ...], source: Source, stored: Mapping[str, Readable], mesh: Mesh | None
    ):
        self.path = path
        self._shape, self._source, self._mesh = shape, source, mesh
        self._pieces = [(stored[name], _region(place, shape)) for name, place, _ in source.pieces(shape)]
        self._spec = PartitionSpec() if mesh is None else partition_spec(path, shape, mesh)

    @property
    def has_float32(self) -> bool:
        """Whether a piece of it lies in float32."""
        return any(tensor.dtype == np.float32 for tensor, _ in self._pieces)

    @property
    def bytes(self) -> int:
        """That are read of the files, as far as they lie as floating numbers."""
        each = [[stop - start for start, stop in shard] for shard in set(self._shards.values())]
        return sum(int(np.prod(sizes, dtype=np.int64)) for sizes in each) * self._pieces[0][0].dtype.itemsize

    def read(self, dtype: Any, readers: Readers) -> jax.Array:
        """As an array of a floating dtype."""
        return self._spread(self._shape, self._spec, lambda shard: self._read(shard, dtype, readers))

    def read_as_integers(self, own: Any, dtype: Any, readers: Readers) -> Quantized:
        """As integers with a scale a row, made of weights that were rounded to a dtype.

        Args:
            own: that dtype.
            dtype: of what is computed.
            readers: threads.
        """
        straight = not self._source.transposed and all(isinstance(tensor, StoredTensor) for tensor, _ in self._pieces)
        if self._mesh is not None:
            return quantized(self.read(own, readers), dtype)
        if not straight:
            return quantized(self._read(self._whole, own, readers), dtype)
        values, scales = empty(self._shape, np.int8), empty(self._shape[:-1], np.float32)
        readings = []
        for tensor, region in self._pieces:
            out, rows = values[region], scales[region[:-1]]
            lead = out.ndim - len(tensor.shape)
            for _ in range(lead):
                out, rows = out[0], rows[0]
            assert isinstance(tensor, StoredTensor)
            readings.append(Reading(tensor, tuple(slice(0, size) for size in tensor.shape), out, rows, own))
        readers.read(readings)
        return Quantized(_on_device(values), _on_device(scales), dtype)

    def read_packed_integers(self, dtype: Any, readers: Readers) -> Quantized | None:
        """The integers of a parameter whose pieces all lie so in the files, a scale a row; None for any other."""
        tensors = [tensor for tensor, _ in self._pieces if isinstance(tensor, PackedTensor)]
        if self._source.transposed or len(tensors) < len(self._pieces):
            return None
        values, scales = empty(self._shape, np.int8), empty(self._shape[:-1], np.float32)
        for tensor, region in self._pieces:
            assert isinstance(tensor, PackedTensor)
            integers = tensor.rows_of_integers()
            if integers is None:
                return None
            readers.note_packed(tensor)
            values[region], scales[region[:-1]] = integers
            tensor.release()
        rows = PartitionSpec(*self._spec[: scales.ndim])
        return Quantized(
            self._spread(values.shape, self._spec, lambda shard: np.ascontiguousarray(values[_slices(shard)])),
            self._spread(scales.shape, rows, lambda shard: np.ascontiguousarray(scales[_slices(shard)])),
            dtype,
        )

    @property
    def _whole(self) -> Shard:
        return tuple((0, size) for size in self._shape)

    @cached_property
    def _shards(self) -> dict[Any, Shard]:
        return self._shards_of(self._shape, self._spec)

    def _shards_of(self, shape: tuple[int, ...], spec: PartitionSpec) -> dict[Any, Shard]:
        """Which part of an array each of this process's devices holds."""
        if self._mesh is None:
            return {None: tuple((0, size) for size in shape)}
        held = NamedSharding(self._mesh, spec).addressable_devices_indices_map(shape)
        return {
            device: tuple(part.indices(size)[:2] for part, size in zip(index or (), shape, strict=True))
            for device, index in held.items()
        }

    def _spread(self, shape: tuple[int, ...], spec: PartitionSpec, make: Callable[[Shard], np.ndarray]) -> jax.Array:
        """An array of shards that are made on the host one after another."""
        if self._mesh is None:
            return _on_device(make(tuple((0, size) for size in shape)))
        devices: dict[Shard, list[Any]] = {}
        for device, shard in self._shards_of(shape, spec).items():
            devices.setdefault(shard, []).append(device)
        arrays = []
        for shard, holders in devices.items():
            host = make(shard)
            arrays += [_on_device(host, device) for device in holders]
        return jax.make_array_from_single_device_arrays(shape, NamedSharding(self._mesh, spec), arrays)

    def _read(self, shard: Shard, dtype: Any, readers: Readers) -> np.ndarray:
        """One shard, in the host's memory."""
        host = empty([stop - start for start, stop in shard], dtype)
        readings = []
        for tensor, region in self._pieces:
            common = [
                (max(start, part.start), min(stop, part.stop))
                for (start, stop), part in zip(shard, region, strict=True)
            ]
            if any(start >= stop for start, stop in common):
                continue
            out = host[tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(common, shard, strict=True))]
            within = [slice(a - part.start, b - part.start) for (a, b), part in zip(common, region, strict=True)]
            for _ in range(out.ndim - len(tensor.shape)):
                out, within = out[0], within[1:]
            if isinstance(tensor, StoredTensor):
                if self._source.transposed:
                    within[-2:] = reversed(within[-2:])
                readings.append(Reading(tensor, tuple(within), self._source.turned(out)))
                continue
            readers.note_packed(tensor)
            if common == [(part.start, part.stop) for part in region]:
                tensor.fill(self._source.turned(out))
            else:
                whole = np.empty(tensor.shape, dtype)
                tensor.fill(whole)
                out[...] = self._source.turned(whole)[tuple(within)]
            tensor.release()
        readers.read(readings)
        return host


def _region(place: tuple[int | slice, ...], shape: tuple[int, ...]) -> Region:
    """A place in a parameter as a slice for each of its axes."""
    parts = [slice(at, at + 1) if isinstance(at, int) else at for at in place]
    return (*parts, *(slice(0, size) for size in shape[len(parts) :]))


def _slices(shard: Shard) -> Region:
    return tuple(slice(start, stop) for start, stop in shard)


def _on_device(array: np.ndarray, device: Any = None) -> jax.Array:
    """On a device, the default one when None; while a large array is copied, Ctrl-C is answered.

    An array that `empty` made is not copied on the CPU, and must not be written to from then on.
    """
    if array.nbytes < _LONG_COPY:
        return jax.device_put(array, device)
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]  # of this thread

    def copy(_: object) -> jax.Array:
        with jax.default_device(default):
            return jax.device_put(array, device)

    return call(copy)
