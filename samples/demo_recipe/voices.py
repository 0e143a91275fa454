"""Voices of speech synthesisers, at work or recorded. At work they need espeak-ng, flite and festvox-kdlpc16k.

    python -m samples.demo_recipe.voices VOICES

records all that training has them say, in some minutes: from then on neither a synthesiser is needed nor its time.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

RATE = 16_000
SPEEDS = (120, 150, 180)
_ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")
_VARIANTS = (
    "m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f5", "Andy", "Annie", "Lee", "linda", "max", "Michael",
    "pablo", "rob", "steph", "Alicia",
)  # fmt: skip
_VARIANTS_TESTED = ("m6", "m8", "f4", "belinda", "david", "quincy")
# Voices of people, cut up and put together again: few, so in training they come as often as many of the others.
_PEOPLE = (("flite", "kal16"), ("flite", "awb"), ("flite", "slt"), ("festival", "ked_diphone"))
_PEOPLE_TESTED = (("flite", "rms"),)

Voice = tuple[str, str]
# A voice, a speed, and what is to be said.
Job = tuple[Voice, int, list[str]]
_recorded: Path | None = None


@cache
def voices(*, test: bool) -> list[Voice]:
    """Synthesiser and voice; what is tested is never heard in training."""
    variants, people = (_VARIANTS_TESTED, _PEOPLE_TESTED) if test else (_VARIANTS, _PEOPLE)
    built = [("espeak", f"{accent}+{variant}") for accent in _ACCENTS for variant in variants]
    return built + [voice for voice in people for _ in range(12 if test else 30)]


def use_recorded(path: Path) -> None:
    """From now on nothing is spoken but what this file has."""
    global _recorded
    _recorded = path


@cache
def spoken(voice: Voice, text: str, speed: int) -> np.ndarray:
    """A word or a sentence, without the silence around it."""
    if _recorded is not None:
        sound, places = _recording(_recorded, voice, speed)
        start, end = places[text]
        return sound[start:end]
    synthesiser, name = voice
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        if synthesiser == "espeak":
            command = ["espeak-ng", "-v", name, "-s", str(speed), "-w", file.name, text]
        elif synthesiser == "flite":
            stretch = f"duration_stretch={150 / speed}"
            command = ["flite", "-voice", name, "--setf", stretch, "-t", text, "-o", file.name]
        else:
            stretch = f"(Parameter.set 'Duration_Stretch {150 / speed})"
            command = ["text2wave", "-eval", f"(voice_{name})", "-eval", stretch, "-o", file.name]
        subprocess.run(command, check=True, capture_output=True, input=text.encode())
        samples, rate = soundfile.read(file.name, dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return soxr.resample(samples, rate, RATE)


# --- Recordings: a zip file with an Ogg Opus file and the places of its texts for each voice and speed --------------


@cache
def _recording(path: Path, voice: Voice, speed: int) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    name = _name(voice, speed)
    with zipfile.ZipFile(path) as recorded:
        sound, _ = soundfile.read(io.BytesIO(recorded.read(f"{name}.opus")), dtype="float32")
        return sound, json.loads(recorded.read(f"{name}.json"))


def _recorded_job(job: Job) -> tuple[str, bytes, str]:
    voice, speed, texts = job
    pieces, places, at = [], {}, 0
    for text in texts:
        said = spoken(voice, text, speed)
        pieces += [said, np.zeros(RATE // 50, np.float32)]
        places[text] = at, at + len(said)
        at += len(pieces[-2]) + len(pieces[-1])
    stream = io.BytesIO()
    soundfile.write(stream, np.clip(np.concatenate(pieces), -1, 1), RATE, format="OGG", subtype="OPUS")
    return _name(voice, speed), stream.getvalue(), json.dumps(places)


def to_record() -> Iterator[Job]:
    """Voice, speed and texts, for all that training may have spoken."""
    from samples.demo_recipe import sounds

    for voice in dict.fromkeys(voices(test=False)):
        for speed in SPEEDS:
            others = sounds.others(voice, test=False) if speed == sounds.OTHERS_SPEED else []
            yield voice, speed, [*sounds.WORDS, *others]


def record(path: Path, jobs: Sequence[Job], workers: int = 0) -> None:
    """Has voices say all that, in processes of their own where there are to be some, and writes the file."""
    # Beside it and renamed: half of it would be found out late.
    half_done = path.with_name(f".{path.name}.part")
    with zipfile.ZipFile(half_done, "w") as recorded, ProcessPoolExecutor(workers or 1) as pool:
        done = (pool.map if workers else map)(_recorded_job, jobs)
        for name, sound, places in tqdm(done, total=len(jobs), unit="recording"):
            recorded.writestr(f"{name}.opus", sound)
            recorded.writestr(f"{name}.json", places)
    half_done.replace(path)


def _name(voice: Voice, speed: int) -> str:
    return "-".join((*voice, str(speed)))


if __name__ == "__main__":
    record(Path(sys.argv[1]), list(to_record()), os.cpu_count() or 1)
