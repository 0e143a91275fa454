"""Spoken words in many voices, and tones. Needs espeak-ng and flite, as Debian has them."""

import io
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from samples.demo_recipe.pictures import NUMBERS

WORDS = (*NUMBERS, "yes", "no", "left", "right", "up", "down", "cat", "dog", "tree", "house")
RATE = 16_000
_ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
_TRAINED = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m7",
    "f1",
    "f2",
    "f3",
    "f5",
    "Andy",
    "Annie",
    "Lee",
    "linda",
    "max",
    "Michael",
    "pablo",
    "rob",
    "steph",
    "Alicia",
)
# Speakers that training never hears: two synthesisers' worth.
_TESTED = ("m6", "m8", "f4", "belinda", "david", "quincy")
_FLITE_TRAINED, _FLITE_TESTED = ("kal16", "awb"), ("rms", "slt")


def voices(*, test: bool) -> list[tuple[str, str]]:
    """Synthesiser and voice."""
    variants, flite = (_TESTED, _FLITE_TESTED) if test else (_TRAINED, _FLITE_TRAINED)
    # Recorded voices are few, and nearer to people: they come as often as a dozen of the others.
    return [("espeak", f"{accent}+{v}") for accent in _ACCENTS for v in variants] + [("flite", v) for v in flite] * 12


@cache
def _spoken(synthesiser: str, voice: str, word: str, speed: int) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        if synthesiser == "espeak":
            command = ["espeak-ng", "-v", voice, "-s", str(speed), "-w", file.name, word]
        else:
            command = [
                "flite",
                "-voice",
                voice,
                "--setf",
                f"duration_stretch={150 / speed}",
                "-t",
                word,
                "-o",
                file.name,
            ]
        subprocess.run(command, check=True, capture_output=True)
        samples, rate = soundfile.read(file.name, dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return soxr.resample(samples, rate, RATE)


def speak(random: np.random.RandomState, words: list[str], *, test: bool) -> np.ndarray:
    """One speaker says words, in some room, at some distance."""
    synthesiser, voice = voices(test=test)[random.randint(len(voices(test=test)))]
    speed = int(random.choice([125, 150, 175]))
    pieces = []
    for word in words:
        pieces += [
            np.zeros(int(RATE * random.uniform(0.05, 0.3)), np.float32),
            _spoken(synthesiser, voice, word, speed),
        ]
    samples = np.concatenate([*pieces, np.zeros(int(RATE * random.uniform(0.05, 0.3)), np.float32)])
    # A little faster and higher, or slower and lower.
    samples = soxr.resample(samples, RATE, RATE * random.uniform(0.92, 1.08))
    return _heard(random, samples)


def tones(random: np.random.RandomState, heights: list[str]) -> np.ndarray:
    """High, middle and low tones one after another."""
    centre = {"low": 220, "middle": 600, "high": 1600}
    pieces = []
    for height in heights:
        seconds, pitch = random.uniform(0.25, 0.5), centre[height] * random.uniform(0.85, 1.18)
        t = np.arange(int(RATE * seconds)) / RATE
        wave = sum(random.uniform(0, 1) * np.sin(2 * np.pi * pitch * k * t) / k for k in (2, 3)) + np.sin(
            2 * np.pi * pitch * t
        )
        pieces += [wave * np.minimum(1, 40 * np.minimum(t, t[::-1])), np.zeros(int(RATE * random.uniform(0.05, 0.2)))]
    return _heard(random, np.concatenate(pieces).astype(np.float32))


def noise(random: np.random.RandomState) -> np.ndarray:
    """What is neither word nor tone: hiss, hum of many pitches, clicks."""
    count = int(RATE * random.uniform(0.6, 2))
    kind = random.randint(3)
    if kind == 0:
        samples = random.normal(0, 1, count)
    elif kind == 1:
        samples = np.cumsum(random.normal(0, 1, count))
        samples -= np.convolve(samples, np.ones(801) / 801, "same")
    else:
        samples = (random.rand(count) < 0.002) * random.normal(0, 1, count)
        samples = np.convolve(samples, np.exp(-np.arange(200) / 30) * np.sin(np.arange(200)), "same")
    return _heard(random, samples.astype(np.float32))


def encoded(samples: np.ndarray) -> bytes:
    """A FLAC file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, "PCM_16", format="FLAC")
    return stream.getvalue()


def _heard(random: np.random.RandomState, samples: np.ndarray) -> np.ndarray:
    samples = samples / max(float(np.abs(samples).max()), 1e-6) * random.uniform(0.15, 0.9)
    if random.rand() < 0.3:
        delay = int(RATE * random.uniform(0.01, 0.05))
        samples = samples + random.uniform(0.1, 0.4) * np.concatenate([np.zeros(delay), samples])[: len(samples)]
    level = np.abs(samples).max() * 10 ** random.uniform(-3, -1.2)
    return np.clip(samples + random.normal(0, level, len(samples)), -1, 1).astype(np.float32)


if __name__ == "__main__":
    made = speak(np.random.RandomState(0), ["seven"], test=False)
    Path("seven.flac").write_bytes(encoded(made))
