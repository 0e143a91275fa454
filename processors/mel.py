"""Waveforms to log-mel spectrograms, as Whisper's feature extractor makes them for one item alone."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.config import AudioConfig
from processors.errors import InputError
from processors.waveform import MAX_RATE, MIN_RATE, check_level

MAX_FREQUENCY = 8000.0
_BLOCK = 256
"""Frames transformed at a time: their spectra stay in the cache, and memory stays flat over hours of audio."""
_FLOOR = np.float32(1e-10)
_RANGE = np.float32(8.0)
# Beyond this, powers come near the end of float32.
_LOUDEST = 1e6
# What no feature extractor has: silence and mel values of each sample that would take all memory.
_MOST_LENGTH, _MOST_VALUES = 1 << 26, 16


def log_mel(
    waveform: Float32[np.ndarray, "samples"], config: AudioConfig | None = None
) -> Float32[np.ndarray, "bands frames"]:
    """Log-mel spectrogram of audio of any length: `samples // hop_length` frames, `min_length` samples at least.

    Power of centred, reflected, Hann-windowed frames; Slaney's mel bands up to 8 kHz; decimal logarithm, floored eight
    decades under the loudest band; shifted and scaled to about -1..1. Robust Speech Recognition via
    Large-Scale Weak Supervision (Radford et al., 2022), section 2.2. Windowing and bands are in float32, as in the
    reference; the transform is in float64, which halves the distance to it for 1 ms in 30 s of audio.

    Args:
        waveform: mono, at `config.sampling_rate`.
        config: geometry of the spectrogram.

    Raises:
        InputError: `audio_too_short`, half a window cannot be reflected at the ends; `audio_not_finite`; `audio_range`,
            samples millions of times over full scale; `audio_config`, a geometry that no memory would hold.
    """
    import scipy.fft

    config = config or AudioConfig()
    _check_geometry(config)
    check_level(waveform, _LOUDEST)
    half = config.n_fft // 2
    if len(waveform) < config.min_length:
        waveform = np.pad(waveform, (0, config.min_length - len(waveform)))
    samples = len(waveform)
    least = max(half + 1, config.hop_length)
    if samples < least:
        raise InputError(
            "audio_too_short",
            f"{samples} samples at {config.sampling_rate} Hz: at least {least} are needed for a frame",
        )
    frames = samples // config.hop_length
    hann, bands = _hann(config.n_fft), _sparse_filters(config)
    mel = np.empty((config.feature_size, frames), np.float32)
    for start in range(0, frames, _BLOCK):
        stop = min(frames, start + _BLOCK)
        first = start * config.hop_length - half
        stretch = _reflected(waveform, first, (stop - 1) * config.hop_length - half + config.n_fft)
        windows = np.lib.stride_tricks.sliding_window_view(stretch, config.n_fft)[:: config.hop_length]
        spectrum: Any = scipy.fft.rfft((windows * hann).astype(np.float64), axis=-1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        np.log10(np.maximum(bands @ np.ascontiguousarray(power.T), _FLOOR), out=mel[:, start:stop])
    np.maximum(mel, mel.max() - _RANGE, out=mel)
    mel += np.float32(4)
    mel /= np.float32(4)
    return mel


def _reflected(waveform: Float32[np.ndarray, "samples"], start: int, stop: int) -> Float32[np.ndarray, "_"]:
    """Samples of the waveform reflected at both ends, without a copy of the whole."""
    samples = len(waveform)
    inside = waveform[max(0, start) : min(samples, stop)]
    if start >= 0 and stop <= samples:
        return inside
    before = waveform[-start:0:-1] if start < 0 else waveform[:0]
    behind = waveform[2 * samples - 1 - stop : samples - 1][::-1] if stop > samples else waveform[:0]
    return np.concatenate([before, inside, behind])


def _check_geometry(config: AudioConfig) -> None:
    if not (
        MIN_RATE <= config.sampling_rate <= MAX_RATE
        and config.feature_size <= _MOST_VALUES * config.hop_length
        and config.min_length <= _MOST_LENGTH
    ):
        raise InputError(
            "audio_config",
            f"no spectrogram of {config.feature_size} bands of {config.n_fft} samples every {config.hop_length}, "
            f"{config.min_length} samples at least, at {config.sampling_rate} Hz is made",
        )


@lru_cache(maxsize=8)
def mel_filters(config: AudioConfig) -> Float32[np.ndarray, "bands bins"]:
    """Triangular filters of equal area, evenly spaced on Slaney's mel scale from 0 to 8 kHz.

    The scale is linear under 1 kHz, 15 mel, and logarithmic above it, 27 mel for every factor of 6.4. Auditory Toolbox
    (Slaney, 1998).
    """
    top = 15 + 27 * np.log(MAX_FREQUENCY / 1000) / np.log(6.4)
    mels = np.linspace(0, top, config.feature_size + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    bins = np.linspace(0, config.sampling_rate / 2, config.n_fft // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return filters.astype(np.float32)


@lru_cache(maxsize=8)
def _sparse_filters(config: AudioConfig) -> Any:
    """The filters without their zeros, 98 in 100: cheaper than a dense product, and with no threads to wait for."""
    import scipy.sparse

    return scipy.sparse.csr_array(mel_filters(config))


@lru_cache(maxsize=8)
def _hann(length: int) -> Float32[np.ndarray, "length"]:
    # Periodic, with the phase rounded to float32 as the reference rounds it.
    phase = np.arange(length, dtype=np.float32) * np.float32(2 * np.pi / length)
    return np.float32(0.5) - np.float32(0.5) * np.cos(phase)
