"""Waveforms to log-mel spectrograms, as Whisper's feature extractor makes them for one clip alone."""

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.config import AudioConfig
from processors.errors import InputError

MAX_FREQUENCY = 8000.0
_BLOCK = 256
"""Frames transformed at a time: their spectra stay in the cache, and memory stays flat over hours of audio."""
_FLOOR = np.float32(1e-10)
_RANGE = np.float32(8.0)


def log_mel(
    waveform: Float32[np.ndarray, "samples"], config: AudioConfig | None = None
) -> Float32[np.ndarray, "bands frames"]:
    """Log-mel spectrogram of a clip of any length: `samples // hop_length` frames, `min_length` samples at least.

    Power of centred, reflected, Hann-windowed frames; Slaney's mel bands up to 8 kHz; decimal logarithm, floored eight
    decades under the loudest band of the clip; shifted and scaled to about -1..1. Robust Speech Recognition via
    Large-Scale Weak Supervision (Radford et al., 2022), section 2.2. Windowing and bands are in float32, as in the
    reference; the transform is in float64, which halves the distance to it for 1 ms in 30 s of audio.

    Args:
        waveform: mono, at `config.sampling_rate`.
        config: geometry of the spectrogram.

    Raises:
        InputError: `audio_too_short`, half a window cannot be reflected at the ends.
    """
    import scipy.fft

    config = config or AudioConfig()
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
    padded = np.pad(waveform, half, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length][:frames]
    hann, bands = _hann(config.n_fft), _sparse_filters(config)
    mel = np.empty((config.feature_size, frames), np.float32)
    for start in range(0, frames, _BLOCK):
        block = slice(start, start + _BLOCK)
        spectrum: Any = scipy.fft.rfft((windows[block] * hann).astype(np.float64), axis=-1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        np.log10(np.maximum(bands @ np.ascontiguousarray(power.T), _FLOOR), out=mel[:, block])
    np.maximum(mel, mel.max() - _RANGE, out=mel)
    mel += np.float32(4)
    mel /= np.float32(4)
    return mel


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
