"""What the demo is to learn from is true, and training shares no composition with testing."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processors import load_image

sys.path.append(str(Path(__file__).parents[2]))
from samples.demo_recipe import clips, conversations, pictures
from samples.demo_recipe.pictures import COLOURS, SHAPES, Thing


def kept():
    files = {}

    def keep(content, suffix):
        files[f"{len(files)}.{suffix}"] = content
        return f"{len(files) - 1}.{suffix}"

    return files, keep


def test_things_have_their_colours_where_they_are_said_to_be():
    random = np.random.RandomState(0)
    for colour, levels in COLOURS.items():
        for x, y in ((0, 0), (2, 0), (1, 1), (0, 2), (2, 2)):
            picture = np.asarray(pictures.draw(random, [Thing("circle", colour, x, y)]), np.float32)
            height, width = picture.shape[:2]
            row, column = int((y + 0.5) * height / 3), int((x + 0.5) * width / 3)
            seen = picture[row - 2 : row + 3, column - 2 : column + 3].mean(axis=(0, 1))
            nearest = min(COLOURS, key=lambda name: np.abs(seen - COLOURS[name]).sum())
            assert nearest == colour, (colour, seen, levels)


@pytest.mark.parametrize("test", [False, True])
def test_splits_share_no_composition(test):
    random = np.random.RandomState(1)
    for count in (1, 2, 5):
        for _ in range(50):
            things = pictures.some_things(random, count, test=test)
            assert pictures.held_out(things) == test and len({t.name for t in things}) == count


@pytest.mark.parametrize("skill", ["shapes", "relations", "describe", "follow_up"])
def test_conversations_about_pictures_name_what_there_is(skill):
    random = np.random.RandomState(2)
    words = {*COLOURS, *SHAPES}
    for i in range(60):
        files, keep = kept()
        messages = getattr(conversations, skill)(random, bool(i % 2), keep)
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]
        assert min(load_image(files[messages[0]["content"][0]["image"]]).shape[:2]) >= 64
        for message in messages[1::2]:
            said = set(message["content"].lower().strip(".").split())
            assert said & (words | set(conversations.COUNTS)), message
            assert message["content"][0].isupper() and message["content"].endswith(".")


def test_relations_are_those_of_the_cells():
    left, right, below = (Thing("circle", "red", x, y) for x, y in ((0, 0), (2, 0), (0, 2)))
    assert conversations._relation(left, right) == "left of" and conversations._relation(right, left) == "right of"
    assert conversations._relation(below, left) == "below" and conversations._relation(left, below) == "above"
    assert conversations._relation(right, below) is None


@pytest.mark.parametrize(("way", "step"), [(way, step) for way, (step, _) in clips.WAYS.items()])
def test_clips_move_as_they_are_said_to(way, step):
    import av

    content = clips.moving(np.random.RandomState(3), Thing("circle", "red", 1, 1), way)
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(np.float32) for frame in container.decode(video=0)]
    assert len(frames) == 8
    middles = []
    for frame in (frames[0], frames[-1]):
        red = np.abs(frame - COLOURS["red"]).sum(-1) < 90
        middles.append(np.argwhere(red).mean(axis=0)[::-1])
    assert (np.sign(np.round((middles[1] - middles[0]) / 20)) == step).all(), middles


def test_what_it_is_to_say_of_other_pictures_is_that_it_does_not_know():
    files, keep = kept()
    random = np.random.RandomState(4)
    answers = {conversations.outside(random, False, keep)[-1]["content"] for _ in range(20)}
    assert answers == {conversations.UNKNOWN} and files
    assert all(isinstance(Image.open(io.BytesIO(c)), Image.Image) for n, c in files.items() if not n.endswith("flac"))
