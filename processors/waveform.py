"""Samples of any type, channels and rate to one mono waveform."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

from processors.errors import InputError

MIN_RATE, MAX_RATE = 1_000, 768_000


def to_mono(samples: np.ndarray, channel_axis: int) -> Float32[np.ndarray, "samples"]:
    """Scales integers by value and averages the channels.

    Raises:
        InputError: `audio_dtype`.
    """
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype in (np.int8, np.int16, np.int32):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif samples.dtype not in (np.float16, np.float32, np.float64):
        raise InputError("audio_dtype", f"samples must be float, int8, int16, int32 or uint8, not {samples.dtype}")
    return samples.mean(axis=channel_axis, dtype=np.float32)


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
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError("audio_rate", f"a sampling rate of {rate} Hz is outside {MIN_RATE}..{MAX_RATE} Hz")
    import soxr

    stream = None if rate == target_rate else soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")
    taken = given = 0
    for block in blocks:
        if not np.isfinite(block).all():
            raise InputError("audio_not_finite", "the sound holds NaN or infinite samples")
        resampled = block if stream is None else stream.resample_chunk(block)
        taken, given = taken + len(block), given + len(resampled)
        yield resampled
    if not taken:
        raise InputError("audio_empty", "the sound holds no samples")
    if stream is not None:
        rest = stream.resample_chunk(np.empty(0, np.float32), last=True)
        missing = max(0, -(-taken * target_rate // rate) - given)
        yield np.pad(rest, (0, max(0, missing - len(rest))))[:missing]


def joined(blocks: Iterable[Float32[np.ndarray, "_"]]) -> Float32[np.ndarray, "samples"]:
    """One waveform from its blocks."""
    parts = list(blocks)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
