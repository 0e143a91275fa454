"""Spoken words in many voices, and tones."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from samples.demo_recipe.pictures import NUMBERS
from samples.demo_recipe.voices import RATE, SPEEDS, Voice, spoken, voices

WORDS = (*NUMBERS, "yes", "no", "left", "right", "up", "down", "cat", "dog", "tree", "house")
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
# Voices say a few of them each, at one speed.
OTHERS_SPEED = 150


def others(voice: Voice, *, test: bool) -> list[str]:
    """What a voice says besides the words that are known."""
    first = sum(map(ord, "".join(voice))) % 3
    return list(_OTHERS_TESTED if test else _OTHERS[first::3])


def speak(random: np.random.RandomState, words: Sequence[str], *, test: bool) -> np.ndarray:
    """One speaker says words, in some room, at some distance."""
    return speak_timed(random, words, test=test)[0]


def speak_timed(
    random: np.random.RandomState, words: Sequence[str], *, test: bool
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """What is heard, and from when to when each word is said, in seconds."""
    return _say(random, _a_voice(random, test), words, int(random.choice(SPEEDS)))


def _a_voice(random: np.random.RandomState, test: bool) -> Voice:
    found = voices(test=test)
    return found[random.randint(len(found))]


def _say(
    random: np.random.RandomState, voice: Voice, texts: Sequence[str], speed: int
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    # Faster with a smaller throat, or slower with a larger one: from few voices, many.
    stretch = random.uniform(0.84, 1.18)
    pieces, times, at = [], [], 0
    for text in texts:
        pieces += [_pause(random), spoken(voice, text, speed)]
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
    voice = _a_voice(random, test)
    known = others(voice, test=test)
    # A voice that goes on and on is as little known as a word.
    count = 1 if test else random.choice([1, 2, 5])
    return _say(random, voice, [known[i] for i in random.randint(0, len(known), count)], OTHERS_SPEED)[0]


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
