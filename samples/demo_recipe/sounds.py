"""Spoken words in many voices, and tones. Needs espeak-ng, flite and festival with festvox-kdlpc16k."""

import io
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from samples.demo_recipe.pictures import NUMBERS

WORDS = (*NUMBERS, "yes", "no", "left", "right", "up", "down", "cat", "dog", "tree", "house")
RATE = 16_000
# Pitches, in hertz, about which tones vary.
TONES = {"low": 220, "middle": 600, "high": 1600}
# Words of which it is to say that it does not know them, in training and in testing.
_OTHERS = (
    "telephone", "mountain", "breakfast", "window", "river", "banana", "computer", "yesterday", "elephant", "music",
    "they walked along the river", "good morning everybody", "the weather is lovely", "please open the window",
    "it was a long time ago", "where have you been", "I would like some coffee", "the train leaves at noon",
    "water", "paper", "garage", "monkey", "sister", "purple", "kitchen", "orange", "question", "holiday", "bridge",
    "shoe", "bread", "milk", "chair", "sleep", "hundred", "weather", "captain", "I do not think so",
    "she had never seen such a large family before", "he opened the letter and began to read",
    "every morning the old man went down to the harbour", "they talked about money for most of the evening",
)  # fmt: skip
_OTHERS_TESTED = (
    "umbrella", "garden", "sandwich", "chocolate", "hospital", "she sells sea shells by the shore", "what a surprise",
    "nobody came to the meeting", "turn off the radio", "we shall see each other again",
)  # fmt: skip
_RECORDINGS = ("dashwood.flac", "speech.flac")
_ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f5", "Andy", "Annie", "Lee", "linda", "max", "Michael",
    "pablo", "rob", "steph", "Alicia",
)  # fmt: skip
_VARIANTS_TESTED = ("m6", "m8", "f4", "belinda", "david", "quincy")
# Voices of people, cut up and put together again: few, so in training they come as often as many of the others.
_PEOPLE = (("flite", "kal16"), ("flite", "awb"), ("flite", "slt"), ("festival", "ked_diphone"))
_PEOPLE_TESTED = (("flite", "rms"),)


def voices(*, test: bool) -> list[tuple[str, str]]:
    """Synthesiser and voice; what is tested is never heard in training."""
    variants, people = (_VARIANTS_TESTED, _PEOPLE_TESTED) if test else (_VARIANTS, _PEOPLE)
    built = [("espeak", f"{accent}+{variant}") for accent in _ACCENTS for variant in variants]
    return built + [voice for voice in people for _ in range(12 if test else 30)]


@cache
def _spoken(synthesiser: str, voice: str, text: str, speed: int) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        if synthesiser == "espeak":
            command = ["espeak-ng", "-v", voice, "-s", str(speed), "-w", file.name, text]
        elif synthesiser == "flite":
            stretch = f"duration_stretch={150 / speed}"
            command = ["flite", "-voice", voice, "--setf", stretch, "-t", text, "-o", file.name]
        else:
            stretch = f"(Parameter.set 'Duration_Stretch {150 / speed})"
            command = ["text2wave", "-eval", f"(voice_{voice})", "-eval", stretch, "-o", file.name]
        subprocess.run(command, check=True, capture_output=True, input=text.encode())
        samples, rate = soundfile.read(file.name, dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return soxr.resample(samples, rate, RATE)


def speak(random: np.random.RandomState, words: Sequence[str], *, test: bool) -> np.ndarray:
    """One speaker says words, in some room, at some distance."""
    return speak_timed(random, words, test=test)[0]


def speak_timed(
    random: np.random.RandomState, words: Sequence[str], *, test: bool
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """What is heard, and from when to when each word is said, in seconds."""
    synthesiser, voice = voices(test=test)[random.randint(len(voices(test=test)))]
    speed = int(random.choice([120, 150, 180]))
    # Faster with a smaller throat, or slower with a larger one: from few voices, many.
    stretch = random.uniform(0.84, 1.18)
    pieces, times, at = [], [], 0
    for word in words:
        pieces += [_pause(random), _spoken(synthesiser, voice, word, speed)]
        start, at = at + len(pieces[-2]), at + len(pieces[-2]) + len(pieces[-1])
        times.append((start / RATE * stretch, at / RATE * stretch))
    samples = soxr.resample(np.concatenate([*pieces, _pause(random)]), RATE, RATE * stretch)
    return _heard(random, samples), times


def elsewhere(random: np.random.RandomState, *, test: bool) -> np.ndarray:
    """What is neither a word that it knows nor a tone: noises, other words, and for testing recordings of people."""
    if random.rand() < 0.4:
        return noise(random)
    if test and random.rand() < 0.5:
        path = Path(__file__).parents[1] / _RECORDINGS[random.randint(len(_RECORDINGS))]
        samples, rate = soundfile.read(path, dtype="float32")
        samples = soxr.resample(samples, rate, RATE)
        start = random.randint(0, max(1, len(samples) - 3 * RATE))
        return samples[start : start + int(RATE * random.uniform(1.2, 3))]
    if test:
        return speak(random, [_OTHERS_TESTED[random.randint(len(_OTHERS_TESTED))]], test=True)
    # A voice that goes on and on is as little known as a word.
    return speak(random, [_OTHERS[i] for i in random.randint(0, len(_OTHERS), random.choice([1, 2, 5]))], test=False)


def _pause(random: np.random.RandomState) -> np.ndarray:
    return np.zeros(int(RATE * random.uniform(0.04, 0.28)), np.float32)


def tones(random: np.random.RandomState, heights: Sequence[str]) -> np.ndarray:
    """High, middle and low tones one after another."""
    return tones_timed(random, heights)[0]


def tones_timed(random: np.random.RandomState, heights: Sequence[str]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """What is heard, and from when to when each tone sounds, in seconds."""
    pieces, times, at = [], [], 0
    for height in heights:
        seconds, pitch = random.uniform(0.25, 0.5), TONES[height] * random.uniform(0.85, 1.18)
        t = np.arange(int(RATE * seconds)) / RATE
        wave = sum(random.uniform(0, 1) * np.sin(2 * np.pi * pitch * k * t) / k for k in (2, 3)) + np.sin(
            2 * np.pi * pitch * t
        )
        pieces += [wave * np.minimum(1, 40 * np.minimum(t, t[::-1])), np.zeros(int(RATE * random.uniform(0.05, 0.2)))]
        times.append((at / RATE, (at + len(t)) / RATE))
        at += len(pieces[-2]) + len(pieces[-1])
    return _heard(random, np.concatenate(pieces).astype(np.float32)), times


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
    """An Ogg Vorbis file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="OGG", subtype="VORBIS")
    return stream.getvalue()


def _heard(random: np.random.RandomState, samples: np.ndarray) -> np.ndarray:
    samples = samples / max(float(np.abs(samples).max()), 1e-6) * random.uniform(0.15, 0.9)
    if random.rand() < 0.4:  # a microphone that favours some pitches
        spectrum, centre = np.fft.rfft(samples), random.uniform(2, 4)
        octaves = np.log10(np.fft.rfftfreq(len(samples), 1 / RATE) + 50)
        gain = 10 ** (random.uniform(-0.6, 0.6) * np.clip(octaves - centre, -1, 1))
        samples = np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)
    if random.rand() < 0.3:
        delay = int(RATE * random.uniform(0.01, 0.05))
        samples = samples + random.uniform(0.1, 0.4) * np.concatenate([np.zeros(delay), samples])[: len(samples)]
    level = np.abs(samples).max() * 10 ** random.uniform(-3, -1.2)
    return np.clip(samples + random.normal(0, level, len(samples)), -1, 1).astype(np.float32)
