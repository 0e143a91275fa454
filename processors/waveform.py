"""Samples of any type, channels and rate to one mono waveform."""

import math
from collections.abc import Iterable, Iterator
from typing import overload

import numpy as np
from jaxtyping import Float32

from processors.errors import InputError
from processors.io.limits import Limits

MIN_RATE, MAX_RATE = 1_000, 768_000
AUDIO_RATE = 16_000
"""Samples a second of a video's audio."""
MAX_CHANNELS = 64
MAX_LEVEL = 16.0
"""Full scale is 1. Floating audio that was mastered or mixed too hot goes a few times over; integers stored as floats
go over by thousands."""

_MOST_RESAMPLED = 1 << 20


def to_mono(samples: np.ndarray, channel_axis: int) -> Float32[np.ndarray, "samples"]:
    """Scales integers by value and averages the channels.

    Raises:
        InputError: `audio_dtype`; `audio_not_finite`; `audio_range`, floats far over full scale.
    """
    dtype = samples.dtype.newbyteorder("=")
    if dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif dtype in (np.int8, np.int16, np.int32):
        samples = samples.astype(np.float32) / -float(np.iinfo(dtype).min)
    elif dtype in (np.float16, np.float32, np.float64) or dtype.name == "bfloat16":
        check_level(samples)
    else:
        remedy = "divide by full scale into float32" if dtype.kind in "iu" else "make them float32, full scale being 1"
        message = f"samples must be float, int8, int16, int32 or uint8, not {dtype.name[:40]}: {remedy}"
        raise InputError("audio_dtype", message)
    return samples.mean(axis=channel_axis, dtype=np.float32)


def check_level(samples: np.ndarray, most: float = MAX_LEVEL) -> None:
    """Raise unless floating samples are finite and near full scale.

    Args:
        samples: of any shape.
        most: the largest magnitude.

    Raises:
        InputError: `audio_not_finite`, `audio_range`.
    """
    if not samples.size:
        return
    # Both pass NaN on.
    lowest, highest = float(samples.min()), float(samples.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise InputError("audio_not_finite", "the audio holds NaN or infinite samples")
    if (peak := max(-lowest, highest)) > most:
        raise InputError(
            "audio_range",
            f"floating samples reach {peak:,.6g}, and full scale is 1 (at most {most:,.6g}): divide them by their "
            "full scale (32768 for values of 16 bits), or pass them as int16",
        )


def checked_rate(rate: object) -> int:
    """Returns a sampling rate as an int.

    Raises:
        InputError: `audio_rate`, it is not a whole number from 1 kHz to 768 kHz.
    """
    number = rate[()] if isinstance(rate, np.ndarray) and rate.ndim == 0 else rate
    if isinstance(number, bool | np.bool) or not isinstance(number, int | float | np.integer | np.floating):
        kind = type(rate).__name__
        raise InputError("audio_rate", f"a sampling rate must be a number of samples a second, not of type {kind:.60}")
    if not MIN_RATE <= number <= MAX_RATE:
        # A number of thousands of digits has no text.
        value = f"{number}" if -1e18 < number < 1e18 else "that size" if number == number else "NaN"
        raise InputError("audio_rate", f"a sampling rate of {value:.40} Hz is outside {MIN_RATE}..{MAX_RATE} Hz")
    if number != int(number):
        raise InputError("audio_rate", f"a sampling rate of {rate!s:.40} Hz is not a whole number")
    return int(number)


def check_length(samples: int, rate: int, encoded: int | None, limits: Limits) -> None:
    """Raise if so many samples are more than may be held.

    Args:
        samples: after resampling.
        rate: of these samples.
        encoded: bytes that they were decoded from; None for samples that came as such.
        limits: the limits.

    Raises:
        InputError: `audio_too_long`, `audio_expansion`.
    """
    if samples > limits.audio_samples:
        message = f"{samples:,} samples or more at {rate:,} Hz, the limit is {limits.audio_samples:,}"
        raise InputError("audio_too_long", message)
    if samples > limits.audio_seconds * rate:
        message = f"{samples / rate:,.6g} s of audio or more, the limit is {limits.audio_seconds:,.6g} s"
        raise InputError("audio_too_long", message)
    size = samples * np.dtype(np.float32).itemsize
    if encoded is not None and size > max(limits.free_bytes, limits.audio_expansion * encoded):
        message = (
            f"{encoded:,} bytes become {size:,} bytes of samples or more: more than {limits.audio_expansion:,} times"
        )
        raise InputError("audio_expansion", message)


def bounded(
    blocks: Iterable[Float32[np.ndarray, "_"]], rate: int, encoded: int | None, limits: Limits
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Passes blocks on while all of them together are within the limits; arguments and errors as `check_length`."""
    samples = 0
    for block in blocks:
        samples += len(block)
        check_length(samples, rate, encoded, limits)
        yield block


def resample(blocks: Iterable[np.ndarray], rate: int, target_rate: int) -> Iterator[Float32[np.ndarray, "_"]]:
    """Blocks of one waveform at another rate; joined, they do not depend on how it was cut.

    soxr at its high quality, `ceil(samples * target_rate / rate)` samples long: what `librosa.resample` gives.

    Args:
        blocks: consecutive mono float32 stretches.
        rate: their samples a second.
        target_rate: the wanted samples a second.

    Raises:
        InputError: `audio_rate` for a rate outside 1 kHz to 768 kHz, `audio_not_finite`, `audio_empty`.
    """
    rate, target_rate = checked_rate(rate), checked_rate(target_rate)
    import soxr

    stream = None if rate == target_rate else soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")
    most = max(256, _MOST_RESAMPLED * rate // target_rate)
    taken = left = 0
    for whole in blocks:
        for start in range(0, len(whole), most):
            block = whole[start : start + most]
            if not np.isfinite(block).all():
                raise InputError("audio_not_finite", "the audio holds NaN or infinite samples")
            resampled = block if stream is None else stream.resample_chunk(block)
            taken, left = taken + len(block), left + len(resampled)
            yield resampled
    if not taken:
        raise InputError("audio_empty", "the audio holds no samples")
    if stream is not None:
        rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
        missing = max(0, -(-taken * target_rate // rate) - left)
        yield np.pad(rest, (0, max(0, missing - len(rest))))[:missing]


@overload
def joined(blocks: Iterable[Float32[np.ndarray, "_"]]) -> Float32[np.ndarray, "samples"]: ...


@overload
def joined(blocks: Iterable[Float32[np.ndarray, "_"]], most: int) -> Float32[np.ndarray, "samples"] | None: ...


def joined(
    blocks: Iterable[Float32[np.ndarray, "_"]], most: int | None = None
) -> Float32[np.ndarray, "samples"] | None:
    """One waveform from its blocks, which are held once; None where they are more than `most` samples."""
    waveform = np.empty(0, np.float32)
    samples = 0
    for block in blocks:
        if most is not None and samples + len(block) > most:
            return None
        if samples + len(block) > len(waveform):
            # Grown in place: the parts of a list would be held twice at the end.
            waveform.resize(max(samples + len(block), len(waveform) * 9 // 8), refcheck=False)
        waveform[samples : samples + len(block)] = block
        samples += len(block)
    waveform.resize(samples, refcheck=False)
    return waveform
