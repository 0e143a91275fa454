"""Arrays of samples, of any library, to mono blocks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.errors import InputError
from processors.io.access import Access
from processors.io.sources import describe
from processors.waveform import MAX_CHANNELS, to_mono

_BLOCK = 1 << 16


class MonoBlocks:
    """An array [channels, samples]; its length is the number of samples."""

    def __init__(self, samples: np.ndarray):
        self._samples = samples

    def __len__(self) -> int:
        return self._samples.shape[1]

    def blocks(self, access: Access) -> Iterator[Float32[np.ndarray, "_"]]:
        """Yields mono stretches in order; errors as `to_mono`."""
        for start in range(0, len(self), _BLOCK):
            access.check()
            yield to_mono(self._samples[:, start : start + _BLOCK], channel_axis=0)


def is_samples(source: object) -> bool:
    """Whether a memoryview holds samples, as opposed to encoded bytes: its items are not plain bytes."""
    return isinstance(source, memoryview) and source.format not in {"B", "b", "c"}


def mono_blocks(source: Any) -> MonoBlocks:
    """Takes an array for samples.

    Raises:
        InputError: `audio_unknown_format`, it is no array; `audio_shape`, `audio_empty`.
    """
    samples = _as_array(source)
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim != 2 or min(samples.shape) > MAX_CHANNELS:
        shape = list(samples.shape[:8])
        raise InputError("audio_shape", f"samples must be [samples] or [channels, samples], not {shape}")
    if samples.size == 0:
        raise InputError("audio_empty", "the array holds no samples")
    return MonoBlocks(samples.T if samples.shape[0] > samples.shape[1] else samples)


def _as_array(source: Any) -> np.ndarray:
    if isinstance(source, list | tuple):
        if not source or not all(isinstance(value, int | float | np.number) for value in source):
            raise InputError("audio_unknown_format", "a list of samples must hold numbers, one a sample")
        return np.asarray(source)
    if not isinstance(source, np.ndarray):
        for read in (_through_buffer, _through_array, np.from_dlpack):
            try:
                array = read(source)
            except Exception:  # whatever a library raises whose array is on a device or part of a graph
                continue
            if array is not None:
                return np.asarray(array)
        if hasattr(source, "__array__") or hasattr(source, "__dlpack__"):
            message = f"{describe(source)}: its values cannot be read here; move it to the host and detach it"
            raise InputError("audio_unknown_format", message)
        raise InputError("audio_unknown_format", f"{describe(source)} is not a path, URL, bytes or array of samples")
    if np.ma.is_masked(source):
        raise InputError("audio_not_finite", "the array has masked samples: fill them")
    return np.ma.getdata(source).view(np.ndarray)


def _through_buffer(source: Any) -> np.ndarray | None:
    # NumPy reads `array.array` by its buffer, but a `memoryview` may lie under any object.
    return None if hasattr(source, "__array__") else np.asarray(memoryview(source))


def _through_array(source: Any) -> np.ndarray | None:
    return np.asarray(source) if hasattr(source, "__array__") else None
