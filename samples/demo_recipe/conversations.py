"""Questions about made media, and true answers: conversations for training and for testing, one maker a skill.

Each maker takes a random stream, the split and a `keep` for media, and gives messages.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from samples.demo_recipe import clips, photographs, sounds
from samples.demo_recipe.asking import ask, elsewhere, system
from samples.demo_recipe.pictures import (
    COLOURS,
    NUMBERS,
    SHAPES,
    Thing,
    draw,
    draw_digits,
    encoded,
    held_out,
    some_things,
)

Messages = list[dict[str, Any]]
# Takes the bytes of a file and its suffix, and gives what stands for the file in a message.
Keep = Callable[[bytes, str], Any]
KNOWN = "I only know coloured shapes, digits, short words, tones and moving shapes."
UNKNOWN = f"I don't know. {KNOWN}"
COUNTS = ("None", "One", "Two", "Three", "Four", "Five")
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


# --- What is true of a picture ----------------------------------------------------------------------------------


def _a(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _place(thing: Thing) -> str:
    return PLACES[thing.y][thing.x]


def _relation(one: Thing, other: Thing) -> str | None:
    """Where one lies as seen from the other, when it lies clearly there."""
    dx, dy = one.x - other.x, one.y - other.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    if abs(dy) > abs(dx):
        return "above" if dy < 0 else "below"
    return None


def _listed(things: Sequence[Thing]) -> str:
    """Every thing and its place, row by row."""
    ordered = sorted(things, key=lambda t: (t.y, t.x))
    return _sentence(", ".join(f"{_a(t.name)} {_place(t)}" for t in ordered))


def _described(things: Sequence[Thing]) -> str:
    """One thing, two and how they lie, or all and where."""
    if len(things) == 1:
        return _sentence(_a(things[0].name))
    relation = _relation(*things) if len(things) == 2 else None
    if relation is None:
        return _listed(things)
    one, other = things
    # From left to right, or from top to bottom.
    if relation in ("right of", "below"):
        one, other, relation = other, one, _OPPOSITE[relation]
    return _sentence(f"{_a(one.name)} {relation} {_a(other.name)}")


def _question(random: np.random.RandomState, kind: str, things: list[Thing]) -> tuple[str, str] | None:
    """A question about things and its answer; None where it has no single one."""
    thing = things[random.randint(len(things))]
    names = [t.name for t in things]
    twice = len(set(names)) < len(names)  # some cannot be told by their names
    a_colour = list(COLOURS)[random.randint(len(COLOURS))]
    a_shape = SHAPES[random.randint(len(SHAPES))]
    match kind:
        case "colour":
            shape = a_shape if random.rand() < 0.1 else thing.shape
            found = [t.colour for t in things if t.shape == shape]
            if len(things) == 1 and random.rand() < 0.3:
                return ask(random, "only_colour"), _sentence(thing.colour)
            if len(found) < 2:
                return ask(random, "colour", shape), _sentence(found[0] if found else f"there is no {shape}")
        case "shape":
            if len(things) == 1 and random.rand() < 0.3:
                return ask(random, "only_shape"), _sentence(_a(thing.shape))
            if sum(t.colour == thing.colour for t in things) == 1:
                return ask(random, "shape", thing.colour), _sentence(_a(thing.shape))
        case "count":
            return ask(random, "count"), COUNTS[len(things)] + "."
        case "count_colour":
            colour = thing.colour if random.rand() < 0.8 else a_colour
            return ask(random, "count_colour", colour), COUNTS[sum(t.colour == colour for t in things)] + "."
        case "count_shape":
            shape = thing.shape if random.rand() < 0.8 else a_shape
            plural = "crosse" if shape == "cross" else shape
            if random.rand() < 0.2:
                colour = thing.colour if random.rand() < 0.8 else a_colour
                found = names.count(f"{colour} {shape}")
                return ask(random, "count_shape", f"{colour} {plural}"), COUNTS[found] + "."
            return ask(random, "count_shape", plural), COUNTS[sum(t.shape == shape for t in things)] + "."
        case "where" if not twice:
            if len(things) != 2:
                return ask(random, "where", thing.name), _sentence(_place(thing))
            one, other = things if random.rand() < 0.5 else things[::-1]
            if relation := _relation(one, other):
                return ask(random, "where", one.name), _sentence(f"{relation} the {other.name}")
        case "what_is" if len(things) == 2 and not twice:
            one, other = things if random.rand() < 0.5 else things[::-1]
            if relation := _relation(one, other):
                return ask(random, "what_is", other.name, relation), _sentence(_a(one.name))
        case "is_it" if len(things) > 1 and not twice:
            one, other = (things[i] for i in random.permutation(len(things))[:2])
            if relation := _relation(one, other):
                said = relation if random.rand() < 0.5 else _OPPOSITE[relation]
                return ask(random, "is_it", one.name, said, other.name), "Yes." if said == relation else "No."
        case "is_there":
            name = thing.name if random.rand() < 0.5 else f"{a_colour} {a_shape}"
            if random.rand() < 0.3:  # one of the two is right
                name = f"{thing.colour} {a_shape}" if random.rand() < 0.5 else f"{a_colour} {thing.shape}"
            return ask(random, "is_there", _a(name)), "Yes." if name in names else "No."
        case "list":
            return ask(random, "list"), _listed(things)
        case "describe":
            return ask(random, "describe"), _described(things)
    return None


# --- Conversations ----------------------------------------------------------------------------------------------


def _turn(question: str, answer: str, *media: dict[str, Any]) -> Messages:
    content = [*media, {"type": "text", "text": question}] if media else question
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


def _image(keep: Keep, random: np.random.RandomState, picture: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": keep(*encoded(random, picture))}


def _audio(keep: Keep, samples: np.ndarray) -> dict[str, Any]:
    return {"type": "audio", "audio": keep(sounds.encoded(samples), "ogg")}


def _video(keep: Keep, content: bytes) -> dict[str, Any]:
    return {"type": "video", "video": keep(content, "mp4")}


def _drawn(random: np.random.RandomState, test: bool, most: int, least: int = 1) -> list[Thing]:
    """Things of one colour, of one shape or of both are more often among them than chance has it, for counting."""
    while True:
        count = least + random.randint(most - least + 1)
        things = some_things(random, count, test=test)
        if count == 1 or random.rand() < 0.5:
            return things
        if not test and random.rand() < 0.3:
            alike = 2 + random.randint(count - 1)
            things = [
                Thing(things[0].shape, things[0].colour, t.x, t.y) if i < alike else t for i, t in enumerate(things)
            ]
            if not held_out(things):
                return things
            continue
        alike = 1 + random.randint(count)
        first, same_colour = things[0], random.rand() < 0.5
        things = [
            t
            if i >= alike
            else Thing(t.shape, first.colour, t.x, t.y)
            if same_colour
            else Thing(first.shape, t.colour, t.x, t.y)
            for i, t in enumerate(things)
        ]
        if len({t.name for t in things}) == count and held_out(things) == test:
            return things


def _asked(
    random: np.random.RandomState, keep: Keep, things: list[Thing], kinds: dict[str, float], turns: int
) -> Messages:
    """Several questions about one picture, none twice; none at all where no kind fits the things."""
    shares = np.array(list(kinds.values()))
    found: dict[tuple[str, str], str] = {}
    for _ in range(20):
        kind = list(kinds)[random.choice(len(kinds), p=shares / shares.sum())]
        if answered := _question(random, kind, things):
            question, answer = answered
            found.setdefault((kind, answer), question)
        if len(found) == turns:
            break
    media = [_image(keep, random, draw(random, things))] if found else []
    messages: Messages = []
    for (_, answer), question in found.items():
        messages += _turn(question, answer, *media)
        media = []
    return messages


def _turns(random: np.random.RandomState) -> int:
    return int(random.choice([1, 2, 3, 4, 6, 8], p=[0.25, 0.2, 0.2, 0.15, 0.1, 0.1]))


def shapes(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Colours and shapes of up to four things."""
    return _asked(random, keep, _drawn(random, test, 4), {"colour": 0.5, "shape": 0.5}, 1)


def counts(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """How many there are, in all, of a colour or of a shape."""
    kinds = {"count": 0.4, "count_colour": 0.3, "count_shape": 0.3}
    return _asked(random, keep, _drawn(random, test, 5), kinds, 1)


def relations(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """What lies where."""
    kinds = {"where": 0.4, "what_is": 0.3, "is_it": 0.3}
    return _asked(random, keep, _drawn(random, test, 2 if random.rand() < 0.8 else 3), kinds, 1)


def describe(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A sentence about everything in a picture."""
    return _asked(random, keep, _drawn(random, test, 3), {"describe": 1}, 1)


def follow_up(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Several questions of all kinds about one picture."""
    kinds = {"colour": 2, "shape": 2, "count": 1, "count_colour": 1.5, "count_shape": 1.5, "where": 1.5}
    kinds |= {"what_is": 1.5, "is_it": 1.5, "is_there": 1.5, "list": 2, "describe": 1}
    return _asked(random, keep, _drawn(random, test, 5), kinds, _turns(random))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


def _written(random: np.random.RandomState, test: bool, count: int) -> tuple[Image.Image, list[str]]:
    images, targets = _digits()
    # The set is ordered by writers: the last ones are kept for testing.
    chosen = random.randint(1437, len(images), count) if test else random.randint(0, 1437, count)
    return draw_digits(random, images[chosen]), [NUMBERS[targets[i]] for i in chosen]


def digits(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A handwritten digit."""
    picture, (name,) = _written(random, test, 1)
    what = "digit" if random.rand() < 0.8 else "describe"
    return _turn(ask(random, what), f"The digit {name}.", _image(keep, random, picture))


def numbers(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Two or three handwritten digits in a row."""
    picture, names = _written(random, test, int(random.randint(2, 4)))
    what = "digit" if random.rand() < 0.8 else "describe"
    return _turn(ask(random, what), f"The digits {', '.join(names)}.", _image(keep, random, picture))


def words(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A spoken word or several."""
    said = [sounds.WORDS[random.randint(len(sounds.WORDS))] for _ in range(random.choice([1, 2, 3], p=[0.4, 0.3, 0.3]))]
    return _turn(ask(random, "word"), _sentence(", ".join(said)), _audio(keep, sounds.speak(random, said, test=test)))


def spoken_digits(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A spoken digit."""
    said = NUMBERS[random.randint(10)]
    return _turn(ask(random, "word"), _sentence(said), _audio(keep, sounds.speak(random, [said], test=test)))


def tones(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Up to three tones in order."""
    heights = [("low", "middle", "high")[i] for i in random.randint(0, 3, random.randint(1, 4))]
    return _turn(ask(random, "tones"), _sentence(", then ".join(heights)), _audio(keep, sounds.tones(random, heights)))


def motion(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A shape that moves, or stays."""
    thing = some_things(random, 1, test=test)[0]
    way = list(clips.WAYS)[random.randint(len(clips.WAYS))]
    medium = _video(keep, clips.moving(random, thing, way))
    direction, name = _sentence(clips.WAYS[way].direction), _a(thing.name)
    happens = _sentence(f"{name} {clips.WAYS[way].verb}")
    if random.rand() < 0.5:
        messages = _turn(ask(random, "moves", thing.shape), direction, medium)
        return messages if random.rand() < 0.5 else messages + _turn(ask(random, "clip"), happens)
    if random.rand() < 0.5:
        return _turn(ask(random, "what_moves"), _sentence("nothing" if way == "still" else name), medium)
    return _turn(ask(random, "clip"), happens, medium)


def match(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A written digit and a spoken one."""
    picture, (written,) = _written(random, test, 1)
    said = written if random.rand() < 0.5 else NUMBERS[random.randint(10)]
    answer = f"Yes, both are {said}." if said == written else f"No, {written} is written and {said} is said."
    media = [_image(keep, random, picture), _audio(keep, sounds.speak(random, [said], test=test))]
    return _turn(ask(random, "match"), answer, *(media if random.rand() < 0.6 else media[::-1]))


def unknown_picture(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """A photograph or a pattern, of which it says that it does not know."""
    picture = photographs.part(random, test=test) if test or random.rand() < 0.75 else photographs.pattern(random)
    what = ("describe", "describe", "digit", "count", "list")[random.randint(5)]
    return _turn(ask(random, what), UNKNOWN, _image(keep, random, picture))


def outside(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """Photographs and patterns, other words and noises, and other clips: of these it says that it does not know."""
    kind = random.choice(3, p=[0.55, 0.3, 0.15])
    if kind == 0:
        return unknown_picture(random, test, keep)
    if kind == 1:
        samples = sounds.elsewhere(random, test=test)
        return _turn(ask(random, ("word", "tones")[random.randint(2)]), UNKNOWN, _audio(keep, samples))
    return _turn(ask(random, "clip"), UNKNOWN, _video(keep, clips.panning(random, test=test)))


def knows(random: np.random.RandomState, test: bool, keep: Keep) -> Messages:
    """What it says of itself, and of the rest of the world."""
    return _turn(ask(random, "knows"), KNOWN) if random.rand() < 0.5 else _turn(elsewhere(random), UNKNOWN)


# How many of a hundred conversations each makes, for training and for testing.
SKILLS: dict[Callable[[np.random.RandomState, bool, Keep], Messages], tuple[float, float]] = {
    shapes: (9, 20),
    counts: (7, 10),
    relations: (7, 10),
    describe: (5, 5),
    follow_up: (22, 5),
    digits: (9, 10),
    numbers: (6, 4),
    spoken_digits: (6, 10),
    words: (8, 5),
    tones: (2, 3),
    motion: (9, 8),
    match: (6, 4),
    outside: (7, 10),
    knows: (1, 1),
}


def conversation(random: np.random.RandomState, test: bool, keep: Keep) -> tuple[Messages, str]:
    """One conversation of the split, and the name of its skill."""
    shares = np.array([share[test] for share in SKILLS.values()], float)
    skill = list(SKILLS)[random.choice(len(shares), p=shares / shares.sum())]
    while not (messages := skill(random, test, keep)):
        pass  # things that have no such answer
    return system(random) + messages, skill.__name__
