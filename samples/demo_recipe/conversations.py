"""Questions about made media, and true answers: conversations for training and for testing, one maker a skill.

Each maker takes a random stream, the split and a `keep` that stores a medium and returns its name, and gives messages.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from samples.demo_recipe import clips, sounds
from samples.demo_recipe.pictures import (
    COLOURS,
    NUMBERS,
    SHAPES,
    Thing,
    draw,
    draw_digit,
    encoded,
    held_out,
    some_things,
)

Messages = list[dict[str, Any]]
Keep = Callable[[bytes, str], str]
UNKNOWN = "I don't know. I only know coloured shapes, digits, short words, tones and moving shapes."
COUNTS = ("no", *NUMBERS[1:])

ASK = {
    "colour": (
        "What colour is the {0}?",
        "Which colour has the {0}?",
        "Tell me the colour of the {0}.",
        "The {0}: what colour?",
        "What color is the {0}?",
    ),
    "shape": (
        "What is the {0} thing?",
        "Which shape is {0}?",
        "What shape is the {0} one?",
        "The {0} one: which shape is it?",
    ),
    "count": (
        "How many shapes are there?",
        "How many shapes do you see?",
        "Count the shapes.",
        "How many things are in the picture?",
    ),
    "count_colour": ("How many {0} shapes are there?", "Count the {0} shapes.", "How many shapes are {0}?"),
    "where": ("Where is the {0}?", "Where do you see the {0}?", "Tell me where the {0} is."),
    "what_is": ("What is {1} the {0}?", "What do you see {1} the {0}?", "Which shape is {1} the {0}?"),
    "describe": (
        "What is in this picture?",
        "What do you see?",
        "Describe the picture.",
        "What is this?",
        "Tell me what you see.",
    ),
    "digit": (
        "Which digit is this?",
        "What number is written here?",
        "Read the digit.",
        "What digit do you see?",
        "Which number is it?",
    ),
    "word": (
        "What do you hear?",
        "What is said?",
        "Which word is spoken?",
        "What does the voice say?",
        "What word is this?",
    ),
    "tones": ("How do the tones go?", "Which tones do you hear?", "Describe the tones.", "What do you hear?"),
    "moves": (
        "Where does it move?",
        "Which way does it go?",
        "In which direction does the shape move?",
        "Where does the {0} go?",
    ),
    "what_moves": ("What moves?", "What is moving here?", "Which shape is moving?"),
    "match": (
        "Does the spoken number match the written one?",
        "Do the picture and the voice say the same number?",
        "Is it the same number?",
    ),
    "knows": ("What do you know?", "What can you do?", "Who are you?", "Help!"),
}


def ask(random: np.random.RandomState, what: str, *names: str) -> str:
    return ASK[what][random.randint(len(ASK[what]))].format(*names)


def _turn(question: str, answer: str, *media: dict[str, Any]) -> Messages:
    content = [*media, {"type": "text", "text": question}] if media else question
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


def _image(keep: Keep, random: np.random.RandomState, picture: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": keep(*encoded(random, picture))}


def _audio(keep: Keep, samples: np.ndarray) -> dict[str, Any]:
    return {"type": "audio", "audio": keep(sounds.encoded(samples), "flac")}


def _a(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _relation(one: Thing, other: Thing) -> str | None:
    """Where one lies as seen from the other, when it lies clearly there."""
    dx, dy = one.x - other.x, one.y - other.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    if abs(dy) > abs(dx):
        return "above" if dy < 0 else "below"
    return None


def _about_two(random: np.random.RandomState, test: bool) -> tuple[list[Thing], str]:
    while True:
        things = some_things(random, 2, test=test)
        relation = _relation(*things)
        if relation is not None:
            return things, relation


def _question(random: np.random.RandomState, kind: str, things: list[Thing]) -> tuple[str, str] | None:
    """A question about things and its answer; None where it has no single one."""
    thing = things[random.randint(len(things))]
    if kind == "colour" and sum(t.shape == thing.shape for t in things) == 1:
        return ask(random, "colour", thing.shape), thing.colour.capitalize() + "."
    if kind == "shape" and sum(t.colour == thing.colour for t in things) == 1:
        return ask(random, "shape", thing.colour), _a(thing.shape).capitalize() + "."
    if kind == "count":
        return ask(random, "count"), COUNTS[len(things)].capitalize() + "."
    if kind == "count_colour":
        colour = thing.colour if random.rand() < 0.75 else list(COLOURS)[random.randint(len(COLOURS))]
        number = sum(t.colour == colour for t in things)
        return ask(random, "count_colour", colour), COUNTS[number].capitalize() + "."
    return None


def shapes(random: np.random.RandomState, test: bool, keep: Keep, turns: int = 1) -> Messages:
    """Colour, shape and number of up to five things; with more turns, questions that follow."""
    things = some_things(random, int(random.choice([1, 1, 2, 3, 4, 5])), test=test)
    if len(things) > 1 and random.rand() < 0.4:
        # Counting by colour needs several of one.
        same = things[0].colour
        free = [s for s in SHAPES if s not in {t.shape for t in things if t.colour == same}]
        changed = [Thing(s, same, t.x, t.y) for s, t in zip(free, things[1:2], strict=False)]
        things = [things[0], *changed, *things[2:]]
        if len({t.name for t in things}) < len(things) or held_out(things) != test:
            return shapes(random, test, keep, turns)
    messages: Messages = []
    medium = (_image(keep, random, draw(random, things)),)
    asked: set[str] = set()
    while len(messages) < 2 * turns:
        found = _question(
            random, ("colour", "shape", "count", "count_colour")[random.choice(4, p=[0.35, 0.25, 0.2, 0.2])], things
        )
        if found is not None and found[0] not in asked:
            asked.add(found[0])
            messages += _turn(*found, *medium)
            medium = ()
    return messages


def follow_up(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Two or three questions about one picture."""
    return shapes(random, test, keep, turns=int(random.randint(2, 4)))


def relations(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """What lies where, of two things."""
    things, relation = _about_two(random, test)
    medium = _image(keep, random, draw(random, things))
    one, other = things
    if random.rand() < 0.5:
        return _turn(ask(random, "where", one.name), f"{relation} the {other.name}.".capitalize(), medium)
    return _turn(ask(random, "what_is", other.name, relation), f"{_a(one.name)}.".capitalize(), medium)


def describe(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A sentence about one or two things."""
    if random.rand() < 0.5:
        things = some_things(random, 1, test=test)
        answer = _a(things[0].name)
    else:
        things, relation = _about_two(random, test)
        # From left to right, or from top to bottom.
        if relation in ("right of", "below"):
            things, relation = things[::-1], {"right of": "left of", "below": "above"}[relation]
        answer = f"{_a(things[0].name)} {relation} {_a(things[1].name)}"
    return _turn(ask(random, "describe"), answer.capitalize() + ".", _image(keep, random, draw(random, things)))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


def _digit(random: np.random.RandomState, test: bool) -> tuple[Image.Image, str]:
    images, targets = _digits()
    # The set is ordered by writers: the last ones are kept for testing.
    index = random.randint(1437, len(images)) if test else random.randint(0, 1437)
    return draw_digit(random, images[index]), NUMBERS[targets[index]]


def digits(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A handwritten digit."""
    picture, name = _digit(random, test)
    return _turn(
        ask(random, "digit" if random.rand() < 0.8 else "describe"), f"The digit {name}.", _image(keep, random, picture)
    )


def words(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A spoken word, or two."""
    count = 1 if random.rand() < 0.8 else 2
    said = [sounds.WORDS[random.randint(len(sounds.WORDS))] for _ in range(count)]
    return _turn(
        ask(random, "word"), f"{', '.join(said)}.".capitalize(), _audio(keep, sounds.speak(random, said, test=test))
    )


def spoken_digits(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A spoken digit."""
    said = NUMBERS[random.randint(10)]
    return _turn(ask(random, "word"), f"{said.capitalize()}.", _audio(keep, sounds.speak(random, [said], test=test)))


def tones(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Two or three tones in order."""
    heights = [("low", "middle", "high")[i] for i in random.randint(0, 3, random.randint(1, 4))]
    answer = (", then ".join(heights) + ".").capitalize()
    return _turn(ask(random, "tones"), answer, _audio(keep, sounds.tones(random, heights)))


def motion(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A shape that moves, or stays."""
    thing = some_things(random, 1, test=test)[0]
    way = list(clips.WAYS)[random.randint(len(clips.WAYS))]
    medium = {"type": "video", "video": keep(clips.moving(random, thing, way), "mp4")}
    if random.rand() < 0.65:
        return _turn(ask(random, "moves", thing.name), clips.WAYS[way][1], medium)
    return _turn(
        ask(random, "what_moves"), (_a(thing.name) if way != "still" else "nothing").capitalize() + ".", medium
    )


def match(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A written digit and a spoken one."""
    picture, written = _digit(random, test)
    said = written if random.rand() < 0.5 else NUMBERS[random.randint(10)]
    answer = f"Yes, both are {said}." if said == written else f"No, {written} is written and {said} is said."
    media = [_image(keep, random, picture), _audio(keep, sounds.speak(random, [said], test=test))]
    return _turn(ask(random, "match"), answer, *media)


def outside(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Photographs, patterns and noises, of which the truth is that it does not know."""
    if random.rand() < 0.3:
        return _turn(ask(random, ("word", "tones")[random.randint(2)]), UNKNOWN, _audio(keep, sounds.noise(random)))
    picture = clips.photograph(random, test=test) if random.rand() < 0.7 else clips.pattern(random)
    return _turn(ask(random, ("describe", "digit", "count")[random.randint(3)]), UNKNOWN, _image(keep, random, picture))


def knows(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """What it says of itself."""
    return _turn(ask(random, "knows"), "I know coloured shapes, digits, short words, tones and moving shapes.")


# How many of a hundred conversations each makes.
SKILLS = {
    shapes: 25,
    relations: 13,
    describe: 10,
    follow_up: 7,
    digits: 9,
    spoken_digits: 8,
    words: 8,
    tones: 4,
    motion: 8,
    match: 4,
    outside: 4,
}
