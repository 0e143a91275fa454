"""Any sound to one mono float32 waveform."""

from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.access import DEFAULT_ACCESS, Access
from processors.cut_short import is_cut_short
from processors.errors import InputError
from processors.sources import Source, describe, is_source, open_source
from processors.waveform import joined, resample, to_mono

MAX_CHANNELS = 64

AudioSource = Source | np.ndarray | Any
"""A path, URL, data URI or bytes; or an array (NumPy, or anything that NumPy can view as one)."""

_BLOCK = 1 << 16


def load_audio(
    source: AudioSource,
    sampling_rate: float | int | None = None,
    target_rate: int = 16_000,
    *,
    access: Access = DEFAULT_ACCESS,
) -> Float32[np.ndarray, "samples"]:
    """Decodes a sound, averages its channels, and resamples it once.

    Args:
        source: a path, http(s) URL, base64 data URI or encoded bytes; or an array [samples], [channels, samples] or
            [samples, channels]: the shorter side is the channels, the first where both are equal. Floats are taken as
            they are; integers (int8, int16, int32, uint8) are scaled by value, full scale being 1.
        sampling_rate: samples a second of an array, which needs it; anything encoded carries its own.
        target_rate: samples a second of the result.
        access: limits, source policy and deadline.

    Returns:
        The waveform, full scale being 1.

    Raises:
        InputError: `audio_unknown_format`, `audio_needs_video_extra`, `audio_no_track`, `audio_unknown_codec`,
            `audio_corrupt`, `audio_truncated`, `audio_empty`, `audio_shape`, `audio_dtype`, `audio_not_finite`,
            `audio_rate`, or the codes of `open_source`.
    """
    return joined(audio_blocks(source, sampling_rate, target_rate, access))


def audio_blocks(
    source: AudioSource,
    sampling_rate: float | int | None = None,
    target_rate: int = 16_000,
    access: Access = DEFAULT_ACCESS,
) -> Iterator[Float32[np.ndarray, "_"]]:
    """As `load_audio`, block by block: hours of sound need no more memory than seconds."""
    if is_source(source):
        with open_source(source, access) as stream:
            yield from _decode(stream, describe(source), target_rate)
        return
    blocks = _mono_from_array(source)
    if sampling_rate is None:
        raise InputError("audio_rate", "an array of samples needs its sampling rate")
    if sampling_rate != int(sampling_rate):
        raise InputError("audio_rate", f"a sampling rate of {sampling_rate} Hz is not a whole number")
    yield from resample(blocks, int(sampling_rate), target_rate)


def _mono_from_array(source: Any) -> Iterator[Float32[np.ndarray, "_"]]:
    if not hasattr(source, "__array__"):
        raise InputError("audio_unknown_format", f"{describe(source)} is not a path, URL, bytes or array of samples")
    samples = np.asarray(source)
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim != 2 or min(samples.shape) > MAX_CHANNELS:
        raise InputError(
            "audio_shape", f"samples must be [samples] or [channels, samples], not {list(np.shape(source))}"
        )
    if samples.size == 0:
        raise InputError("audio_empty", "the sound holds no samples")
    if samples.shape[0] > samples.shape[1]:
        samples = samples.T
    starts = range(0, samples.shape[1], _BLOCK)
    return (to_mono(samples[:, start : start + _BLOCK], channel_axis=0) for start in starts)


def _decode(stream: BufferedIOBase, name: str, target_rate: int) -> Iterator[Float32[np.ndarray, "_"]]:
    import soundfile

    if is_cut_short(stream):
        raise InputError("audio_truncated", f"{name} is cut short: it ends before its header says")
    try:
        file = soundfile.SoundFile(stream)  # pyright: ignore[reportArgumentType]
    except soundfile.LibsndfileError:
        from processors.decode_audio_track import audio_track_blocks

        stream.seek(0)
        yield from audio_track_blocks(stream, name, target_rate)
        return
    with file:
        yield from resample(_soundfile_blocks(file, name), file.samplerate, target_rate)


def _soundfile_blocks(file: Any, name: str) -> Iterator[np.ndarray]:
    read = 0
    while True:
        try:
            block = file.read(_BLOCK, dtype="float32", always_2d=True)
        except RuntimeError:  # LibsndfileError is one
            raise InputError("audio_corrupt", f"{name} is damaged and cannot be decoded") from None
        if not len(block):
            break
        read += len(block)
        yield block.mean(axis=1)
    if 0 < file.frames < 1 << 62 and read < file.frames:
        raise InputError("audio_truncated", f"{name} is cut short: {read:,} of {file.frames:,} samples are there")
