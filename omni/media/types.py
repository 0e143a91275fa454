"""What a user may wrap a medium in, to say how it should be read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

from omni.errors import InputError, is_number, is_whole, shown
from processors.io.sources import describe

VIDEO_BUDGET = ("min_pixels", "max_pixels", "total_pixels", "min_frames", "max_frames")
"""Options of a video beside how often it is sampled."""
# The dicts of Hugging Face datasets: decoded audio, and a file of any kind.
_SAMPLES_KEYS, _FILE_KEYS = frozenset(("array", "sampling_rate", "path")), frozenset(("bytes", "path"))


@dataclass(frozen=True)
class Image:
    """An image and its pixel budget.

    Attributes:
        source: path, URL, bytes, data URI, binary stream, PIL image, uint8 array [height, width, 3] of any library, or
            a dict of `bytes` or `path`.
        min_pixels: fewest pixels after resizing; the checkpoint's own setting when None.
        max_pixels: most pixels after resizing; the checkpoint's own setting when None.

    Raises:
        InputError: `bad_option`, `wrong_medium` for a list, `image_shape` for channels before height and width,
            `unreadable_array` or `unknown_key`.
    """

    source: Any
    min_pixels: int | None = None
    max_pixels: int | None = None

    def __repr__(self) -> str:
        return _short(self)

    def __post_init__(self) -> None:
        source = as_source(self.source)
        if isinstance(source, list | tuple):
            raise InputError("wrong_medium", "an image is one image: give each of several its own part")
        if isinstance(source, np.ndarray) and source.ndim == 3:
            _refuse_channels_first(source, 0, "image_shape", "(1, 2, 0)")
        _set(self, source=source, **{name: whole(name, getattr(self, name)) for name in ("min_pixels", "max_pixels")})


@dataclass(frozen=True)
class Audio:
    """Audio.

    Attributes:
        source: path, URL, bytes, data URI, binary stream, or an array of samples of any library; or samples with their
            rate: `(array, rate)`, `(rate, array)`, or a dict of `array` and `sampling_rate`.
        sampling_rate: rate of the array in Hz; files carry their own.

    Raises:
        InputError: `bad_option`, `wrong_medium` for a list, `unreadable_array` or `unknown_key`.
    """

    source: Any
    sampling_rate: int | None = None

    def __repr__(self) -> str:
        return _short(self)

    def __post_init__(self) -> None:
        source, rate = self.source, whole("sampling_rate", self.sampling_rate)
        if is_samples(source):
            samples, own = _samples(source)
            own = whole("sampling_rate", own)
            if rate not in (None, own):
                raise InputError("bad_option", f"sampling_rate {rate} is given beside samples of {own} Hz")
            source, rate = samples, own
        source = as_source(source)
        if isinstance(source, list | tuple):
            raise InputError("wrong_medium", "audio is one waveform: give an array, or each of several its own part")
        _set(self, source=source, sampling_rate=rate)


@dataclass(frozen=True)
class Video:
    """A video and how to sample it.

    Attributes:
        source: path, URL, bytes, data URI, binary stream, uint8 frames [frames, height, width, 3], or a list of images.
        fps: frames a second to sample from a file; for frames, the rate of those given (all are used).
        num_frames: how many frames to sample, instead of `fps`.
        audio: True also reads the file's audio track, interleaved in time with the frames; anything that `Audio` takes
            is used in its place.
        min_pixels: fewest pixels of a frame after resizing, as the checkpoint counts them (one frame, or all
            together); the checkpoint's own setting when None.
        max_pixels: most pixels, likewise.
        total_pixels: most pixels of all sampled frames together.
        min_frames: fewest frames to sample from a file.
        max_frames: most frames to sample from a file.

    Raises:
        InputError: `bad_option`, `wrong_medium`, `video_shape` for channels before height and width,
            `unreadable_array` or `unknown_key`.
    """

    source: Any
    fps: float | None = None
    num_frames: int | None = None
    audio: Any = False
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None

    def __repr__(self) -> str:
        return _short(self)

    def __post_init__(self) -> None:
        source = as_source(self.source)
        if isinstance(source, list | tuple):
            source = [as_source(frame) for frame in source]
        if isinstance(source, np.ndarray) and source.ndim == 4:
            _refuse_channels_first(source, 1, "video_shape", "(0, 2, 3, 1)")
        audio = self.audio
        if isinstance(audio, Image | Video) or hasattr(audio, "deepstack"):  # an embedding is encoded already
            raise InputError("wrong_medium", f"a video's audio must be True, False or audio, got {shown(audio)}")
        if audio is None:
            audio = False
        elif not isinstance(audio, bool | np.bool_ | Audio) and not is_samples(audio):
            audio = as_source(audio)
            if isinstance(audio, Real):
                raise InputError("bad_option", f"audio must be True, False or audio, got {shown(audio)}")
        _set(
            self,
            source=source,
            fps=above_zero("fps", self.fps),
            audio=bool(audio) if isinstance(audio, np.bool_) else audio,
            **{name: whole(name, getattr(self, name)) for name in ("num_frames", *VIDEO_BUDGET)},
        )


def _short(medium: Image | Audio | Video) -> str:
    """A medium without its bytes: what it is of, and what is not as it is by default."""
    chosen = [
        f"{field.name}={value!r}" if isinstance(value, int | float | str | Audio) else field.name
        for field in fields(medium)[1:]
        if (value := getattr(medium, field.name)) is not field.default
    ]
    return f"omni.{type(medium).__name__}({', '.join([_named(medium.source), *chosen])})"


def _named(source: Any) -> str:
    if isinstance(source, np.ndarray):
        return f"array of {source.dtype}[{', '.join(map(str, source.shape))}]"
    if isinstance(source, list):
        return f"{len(source)} images"
    return describe(source)


def as_source(value: Any) -> Any:
    """Return a medium as the processors read it: arrays of any library as NumPy's, dicts of datasets as their file.

    Paths, URLs, bytes, streams, PIL images and NumPy arrays are returned as they are, and so is what is no medium at
    all: the processors refuse it.

    Raises:
        InputError: `unreadable_array`, for an array that NumPy cannot read; `unknown_key`, for another dict.
    """
    if isinstance(value, str | bytes | bytearray | os.PathLike | np.ndarray):
        return value
    if isinstance(value, Mapping):
        return _file(value)
    if isinstance(value, memoryview):
        return value if value.ndim == 1 and value.itemsize == 1 else np.asarray(value)
    if hasattr(value, "typecode") and hasattr(value, "itemsize"):  # array.array
        return bytes(value) if value.itemsize == 1 else np.asarray(value)
    if callable(getattr(value, "__array__", None)) or callable(getattr(value, "__dlpack__", None)):
        return _array(value)
    return value


def is_samples(value: Any) -> bool:
    """Whether a value is samples with their rate: a pair in either order, or a dict of a data set."""
    if isinstance(value, Mapping):
        return "array" in value and "sampling_rate" in value
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return [is_number(one) for one in value].count(True) == 1 and any(map(_is_array, value))


def whole(name: str, value: Any) -> int | None:
    """Return an option that must be a whole number above 0; None stands for the default.

    Raises:
        InputError: `bad_option`.
    """
    if value is None:
        return None
    if is_number(value) and not is_whole(value) and isfinite(value) and value == int(value) and name == "sampling_rate":
        value = int(value)  # as some libraries give it
    if not is_whole(value) or not 0 < int(value) < 1 << 63:
        raise InputError("bad_option", f"{name} must be a whole number above 0, got {shown(value)}")
    return int(value)


def above_zero(name: str, value: Any) -> float | None:
    """Return an option that must be a finite number above 0; None stands for the default.

    Raises:
        InputError: `bad_option`.
    """
    if value is None:
        return None
    try:
        number = float(value) if is_number(value) else 0.0
    except OverflowError:
        number = 0.0
    if not 0 < number < inf:
        raise InputError("bad_option", f"{name} must be a number above 0, got {shown(value)}")
    return number


def _samples(value: Any) -> tuple[Any, Any]:
    """Samples and their rate."""
    if isinstance(value, Mapping):
        _refuse_other_keys(value, _SAMPLES_KEYS)
        return value["array"], value["sampling_rate"]
    return value if _is_array(value[0]) else value[::-1]


def _is_array(value: Any) -> bool:
    named = any(hasattr(value, name) for name in ("__array__", "__dlpack__", "typecode"))
    return not is_number(value) and (named or isinstance(value, memoryview))


def _file(value: Mapping[Any, Any]) -> Any:
    if not value or not set(value) <= _FILE_KEYS:
        return value
    data = value.get("bytes")
    return value.get("path") if data is None else data


def _refuse_other_keys(value: Mapping[Any, Any], known: frozenset[str]) -> None:
    if others := [str(key)[:40] for key in value if key not in known]:
        raise InputError("unknown_key", f"a dict of samples has no {others[0]!r}; it has array, sampling_rate and path")


def _array(value: Any) -> np.ndarray:
    """An array of another library, from its device and without its gradient."""
    for name in ("detach", "cpu"):
        if callable(getattr(value, name, None)):
            value = getattr(value, name)()
    try:
        return np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    except Exception:  # each library has errors of its own: of devices, of types such as bfloat16
        kind = f"{type(value).__module__.partition('.')[0]}'s {type(value).__name__}"
        raise InputError(
            "unreadable_array", f"{kind} cannot be read as an array: convert it to a NumPy array first"
        ) from None


def _refuse_channels_first(array: np.ndarray, axis: int, code: str, order: str) -> None:
    if array.shape[-1] not in (1, 3, 4) and array.shape[axis] in (1, 3, 4):
        shape = list(array.shape)
        raise InputError(code, f"the array {shape} has its channels first: give array.transpose{order}")


def _set(medium: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(medium, name, value)
