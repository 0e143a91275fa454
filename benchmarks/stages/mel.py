"""Waveforms to log-mel spectrograms."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import Call, Stage

RATE, WINDOW, HOP = 16_000, 400, 160
SECONDS = {"10 s": 10, "30 s": 30, "10 min": 600}


def waveform(seconds: int) -> np.ndarray:
    """A chord in noise, mono at 16 kHz."""
    rng, time = np.random.RandomState(0), np.arange(seconds * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 660, 1980))
    return (0.1 * tones + rng.normal(0, 0.05, len(time))).astype(np.float32)


def _ours(seconds: int, _: Path) -> Call:
    from scipy import fft

    from processors import AudioProcessor

    samples, processor = waveform(seconds), AudioProcessor()
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]

    def transform() -> None:
        for start in range(0, len(frames), 256):
            fft.rfft(frames[start : start + 256])

    return Call(lambda _: processor(samples), lambda result: result.mel, transform)


def _reference(seconds: int, _: Path) -> Call:
    samples = waveform(seconds)
    kind: Any = import_module("transformers").WhisperFeatureExtractor
    extractor = kind(feature_size=128)
    how = {"sampling_rate": RATE, "padding": True, "truncation": False, "return_tensors": "np"}
    return Call(lambda _: extractor(samples, **how), lambda result: np.asarray(result["input_features"])[0])


def stages(quick: bool) -> list[Stage]:
    """One stage a length."""
    return [
        Stage(
            f"mel, {name}",
            "mel",
            "float32",
            {"ours": partial(_ours, seconds), "reference": partial(_reference, seconds)},
            items=seconds,
            unit="seconds of audio",
            programs=False,
            rounds=(1, 2) if quick else (5, 50),
            seconds=10,
            note="the floor is the Fourier transform of the frames alone, float32, by SciPy",
        )
        for name, seconds in ({"1 s": 1} if quick else SECONDS).items()
    ]
