"""Any medium to the tensors of its kind, in this process or in one apart."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from processors.audio import AudioFeatures, AudioProcessor
from processors.config import AudioConfig, ImageConfig, VideoConfig
from processors.decode.pool import isolated_answers
from processors.errors import InputError
from processors.image import ImageFeatures, ImageProcessor
from processors.io.access import Access
from processors.io.sources import Source, describe, open_source
from processors.media import sniff
from processors.video import VideoFeatures, VideoProcessor

Features = ImageFeatures | VideoFeatures | AudioFeatures
Answer = tuple[dict[str, Any], bytes]
Next = Callable[[], tuple[dict[str, Any], bytearray]]

_BLOCK = 1 << 26
_MOST_GRID = 1 << 31


@dataclass(frozen=True)
class Processors:
    """The settings of the processors whose features are wanted.

    Attributes:
        image: None where images are not read.
        video: None where videos are not read.
        audio: None where audio is not read.
        absent: the error for a medium that is not read.
    """

    image: ImageConfig | None
    video: VideoConfig | None
    audio: AudioConfig | None
    absent: str = "part_not_loaded"

    def read(self, source: Source, access: Access) -> Features:
        """Tell the kind of an encoded medium and process it as a whole.

        Raises:
            InputError: it cannot be read, or its kind is not wanted. What else a decoder raises becomes `media_failed`.
        """
        kind = sniff(source, access=access)
        config = getattr(self, kind)
        if config is None:
            raise InputError(self.absent, f"{describe(source)} is {_NAMES[kind]}, and the model reads none")
        try:
            return _PROCESSORS[kind](config, access=access)(source, access=access)
        except InputError:
            raise
        except MemoryError:
            message = f"{describe(source)}: decoding it needs more memory than the decoder may take"
            raise InputError(f"{kind}_too_large", message) from None
        except Exception as error:
            message = f"{describe(source)} could not be read: its decoder failed with {type(error).__name__}"
            raise InputError("media_failed", message) from error


_PROCESSORS: dict[str, Callable[..., Any]] = {"image": ImageProcessor, "video": VideoProcessor, "audio": AudioProcessor}
_NAMES = {"image": "an image", "video": "a video", "audio": "audio"}


def isolated_features(source: Source, name: str, processors: Processors, access: Access) -> Features:
    """Read an encoded medium in a process apart, whose crash is an error of this medium alone.

    Args:
        source: as `open_source` takes it.
        name: what messages call it.
        processors: what is read, and how.
        access: limits, source policy and deadline.

    Raises:
        InputError: the codes of `Processors.read` and of `open_source`; `decoder_crashed`, `decoder_time`.
    """
    with (
        open_source(source, access) as stream,
        isolated_answers("features", stream, name, (processors,), access) as answers,
    ):

        def following() -> tuple[dict[str, Any], bytearray]:
            answer = next(answers, None)
            if answer is None:
                raise ValueError("an answer is missing")
            return answer

        try:
            features = _unpacked(following, processors, access)
            if next(answers, None) is not None:
                raise ValueError("an answer too many")
        except InputError:
            raise
        except (ValueError, TypeError, KeyError, OverflowError):
            # The process has decoded what strangers made: nothing that it says is believed.
            raise InputError("decoder_crashed", f"{name}: the decoding process gave a bad answer") from None
        return features


def packed(features: Features) -> Iterator[Answer]:
    """Return features as a header and blocks of bytes, for `isolated_features`."""
    if isinstance(features, AudioFeatures):
        yield {"kind": "audio", "shape": features.mel.shape}, b""
        yield from _blocks(features.mel)
        return
    header: dict[str, Any] = {"grid": features.grid_thw[0].tolist(), "values": features.pixels.shape[1]}
    if isinstance(features, VideoFeatures):
        more = {"seconds": features.seconds_per_grid, "kind": "video"}
        yield header | more, np.asarray(features.timestamps, np.float64).tobytes()
    else:
        yield header | {"kind": "image"}, b""
    yield from _blocks(features.pixels)


def _blocks(array: np.ndarray) -> Iterator[Answer]:
    data = np.ascontiguousarray(array).data.cast("B")
    for start in range(0, len(data), _BLOCK):
        yield {}, bytes(data[start : start + _BLOCK])


def _unpacked(following: Next, processors: Processors, access: Access) -> Features:
    header, payload = following()
    kind = header["kind"]
    if kind == "audio" and processors.audio is not None:
        bands, frames = (int(side) for side in header["shape"])
        most = access.limits.audio_samples // processors.audio.hop_length + 1
        if bands != processors.audio.feature_size or not 0 < frames <= most:
            raise ValueError("a bad shape")
        return AudioFeatures(_array(following, np.float32, bands, frames))
    config = {"image": processors.image, "video": processors.video}[kind]
    if config is None:
        raise ValueError("a kind that was not asked for")
    t, h, w = (int(side) for side in header["grid"])
    values = 3 * config.patch_size**2 * (config.temporal_patch_size if kind == "video" else 1)
    if min(t, h, w) < 1 or t * h * w > access.limits.media_tokens * config.merge_size**2 or header["values"] != values:
        raise ValueError("a bad grid")
    pixels = _array(following, np.uint8, t * h * w, values)
    grid = np.array([[t, h, w]], np.int32)
    if isinstance(config, VideoConfig):
        seconds, times = float(header["seconds"]), np.frombuffer(payload, np.float64)
        if not 0 < seconds < math.inf or not np.isfinite(times).all() or not 0 < len(times) <= _MOST_GRID:
            raise ValueError("bad times")
        return VideoFeatures(pixels, grid, seconds, times, None, config)
    return ImageFeatures(pixels, grid, config)


def _array(following: Next, dtype: type, rows: int, columns: int) -> np.ndarray:
    array = np.empty((rows, columns), dtype)
    rest = array.data.cast("B")
    while rest:
        block = following()[1]
        if not 0 < len(block) <= len(rest):
            raise ValueError("a block of another size")
        rest[: len(block)] = block
        rest = rest[len(block) :]
    return array
