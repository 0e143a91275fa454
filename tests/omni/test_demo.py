"""The checkpoint that ships: every part of the architecture, small, and open about what it is."""

from pathlib import Path

import numpy as np
import pytest

import omni
from omni.checkpoint.json_file import read_json
from omni.loading import find_directory
from omni.prompt.records import read_records
from omni.tools.evaluate import evaluate

SAMPLES = Path(__file__).parents[2] / "samples"
UNKNOWN = "I don't know. I only know coloured shapes, digits, short words, tones and moving shapes."
MEDIA = ("china.jpg", "flower.jpg", "speech.flac", "dashwood.flac", "bunny.mp4")


@pytest.fixture(scope="module")
def demo() -> omni.Model:
    return omni.load("demo")


def test_it_is_small():
    assert sum(path.stat().st_size for path in find_directory("demo").iterdir()) < 20_000_000


def test_it_says_nothing_against_itself(demo):
    assert demo.notice is None
    assert read_json(find_directory("demo") / "config.json")["omni_demo"]["trained"]


# Conversations about files that training never saw: the samples, and what lies in heldout.zip, by its number there.
SAID = [
    [
        ("What is in this picture?", ["shapes.png"], "A red circle left of a blue square."),
        ("Is there a blue square?", [], "Yes."),
        ("Where is the red circle?", [], "Left of the blue square."),
    ],
    [("How many shapes are there?", ["shapes.png"], "Two.")],
    [("List the shapes.", ["shapes.png"], "A red circle on the left, a blue square on the right.")],
    [
        ("What colour is the square?", ["shapes.png"], "Blue."),
        ("What colour is the circle?", [], "Red."),
        ("What is right of the red circle?", [], "A blue square."),
        ("Is there a green triangle?", [], "No."),
    ],
    [("What do you hear?", ["seven.flac"], "Seven.")],
    [("Which digit is this?", ["digit.jpg"], "The digit seven.")],
    [("Does the spoken number match the written one?", ["digit.jpg", "seven.flac"], "Yes, both are seven.")],
    [
        ("Which way does it go?", ["star.mp4"], "To the right."),
        ("What happens here?", [], "A yellow star moves to the right."),
    ],
    [("What moves?", ["star.mp4"], "A yellow star.")],
    [("What do you hear?", ["dashwood.flac"], UNKNOWN)],
    [("What happens here?", ["bunny.mp4"], UNKNOWN)],
    [("What is in this picture?", ["china.jpg"], UNKNOWN)],
    [("What do you see?", ["astronaut.jpg"], UNKNOWN)],
]
HELD_OUT = [2, 4, 6, 10, 13, 16, 21, 25, 26, 27, 41, 46, 84, 119, 164]


@pytest.mark.parametrize("turns", SAID, ids=lambda turns: turns[0][0])
def test_what_it_says_of_the_samples_is_true(demo, turns):
    chat = demo.chat(temperature=0)
    for question, names, answer in turns:
        assert chat.send(question, *(SAMPLES / name for name in names)).text == answer


def test_what_it_says_of_held_out_media_is_true(demo):
    records = read_records(find_directory("demo") / "heldout.zip")
    results = list(evaluate(demo, [records[i] for i in HELD_OUT]))
    assert [(one.question, one.said) for one in results] == [(one.question, one.wanted) for one in results]
    assert len(HELD_OUT) + len(SAID) >= 20 and len({records[i].skill for i in HELD_OUT}) >= 10


def test_it_reads_every_sample_and_tells_them_apart(demo):
    pooled = np.stack([e.pooled() for e in demo.encode([SAMPLES / name for name in MEDIA])])
    apart = np.linalg.norm(pooled[:, None] - pooled[None], axis=-1) / np.linalg.norm(pooled, axis=-1)
    assert np.isfinite(pooled).all() and (apart[~np.eye(len(MEDIA), dtype=bool)] > 0.02).all()


def test_what_it_sees_and_hears_changes_what_it_says(demo):
    def reply(name: str) -> str:
        return demo.chat(temperature=0).send("What is this?", SAMPLES / name, max_new_tokens=40).text

    names = ("shapes.png", "seven.flac", "star.mp4", "digit.jpg", "china.jpg")
    assert len({reply(name) for name in names}) == len(names)
