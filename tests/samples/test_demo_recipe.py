"""What the demo is to learn from is true, and training shares no composition with testing."""

import io
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import omni
from encoders import VisionConfig
from processors import VideoConfig, load_image
from samples.demo_recipe import (
    clips,
    conversations,
    photographs,
    pictures,
    sounds,
    stream,
    train_demo_towers,
    voices,
)
from samples.demo_recipe.pictures import COLOURS, SHAPES, Thing


def kept():
    files = {}

    def keep(content, suffix):
        files[f"{len(files)}.{suffix}"] = content
        return f"{len(files) - 1}.{suffix}"

    return files, keep


def test_things_have_their_colours_where_they_are_said_to_be():
    random, checked = np.random.RandomState(0), 0
    for colour, levels in COLOURS.items():
        for x, y in ((0, 0), (2, 0), (1, 1), (0, 2), (2, 2)):
            picture = np.asarray(pictures.draw(random, [Thing("circle", colour, x, y)]), np.float32)
            height, width = picture.shape[:2]
            apart = np.stack([np.abs(picture - COLOURS[name]).sum(-1) for name in COLOURS])
            named = apart.argmin(0) == list(COLOURS).index(colour)
            cell = np.zeros((height, width), bool)
            cell[y * height // 3 : (y + 1) * height // 3, x * width // 3 : (x + 1) * width // 3] = True
            if named[~cell].mean() < 0.5:  # the ground may be nearest to that colour too
                checked += 1
                assert named[cell].mean() > named[~cell].mean() + 0.05, (colour, levels)
    assert checked > 40


@pytest.mark.parametrize("test", [False, True])
def test_splits_share_no_composition(test):
    random = np.random.RandomState(1)
    for count in (1, 2, 5):
        for _ in range(50):
            things = pictures.some_things(random, count, test=test)
            assert pictures.held_out(things) == test and len({t.name for t in things}) == count


@pytest.mark.parametrize("skill", ["shapes", "counts", "relations", "describe", "follow_up"])
def test_conversations_about_pictures_name_what_there_is(skill):
    random = np.random.RandomState(2)
    words = {*COLOURS, *SHAPES, "yes", "no", "there", *(count.lower() for count in conversations.COUNTS)}
    words |= {word for row in conversations.PLACES for place in row for word in place.split()}
    for i in range(60):
        files, keep = kept()
        messages = getattr(conversations, skill)(random, bool(i % 2), keep)
        if not messages:
            continue
        assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2)
        assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]
        assert min(load_image(files[messages[0]["content"][0]["image"]]).shape[:2]) >= 64
        for message in messages[1::2]:
            said = {word.strip(",") for word in message["content"].lower().strip(".").split()}
            assert said & words, message
            assert message["content"][0].isupper() and message["content"].endswith(".")


def test_answers_are_true_of_the_things():
    random = np.random.RandomState(5)
    things = [Thing("circle", "red", 0, 0), Thing("square", "red", 2, 0), Thing("star", "blue", 0, 2)]
    found = {kind: set() for kind in ("count", "count_colour", "count_shape", "colour", "where", "is_it", "is_there")}
    for kind, answers in found.items():
        for _ in range(300):
            if answered := conversations._question(random, kind, things):
                answers.add(answered)
    assert {answer for _, answer in found["count"]} == {"Three."}
    for question, answer in found["count_colour"]:
        wanted = "Two." if " red " in f" {question.lower()} " or "red?" in question.lower() else None
        assert wanted is None or answer == wanted, question
    for question, answer in found["colour"]:
        lower = question.lower()
        shape = next(shape for shape in SHAPES if shape in lower)
        assert answer == {"circle": "Red.", "square": "Red.", "star": "Blue."}.get(shape, f"There is no {shape}.")
    for question, answer in found["where"]:
        shape = next(shape for shape in SHAPES if shape in question.lower())
        wanted = {"circle": "At the top left.", "square": "At the top right.", "star": "At the bottom left."}
        assert answer == wanted[shape]
    truths = {("circle", "left of", "square"), ("square", "right of", "circle")}
    truths |= {("circle", "above", "star"), ("star", "below", "circle")}
    for question, answer in found["is_it"]:
        lower = question.lower()
        relation = next(r for r in ("left of", "right of", "above", "below") if r in lower)
        first, second = (next(s for s in SHAPES if s in part) for part in lower.split(relation))
        assert answer == ("Yes." if (first, relation, second) in truths else "No."), question
    for question, answer in found["is_there"]:
        assert answer == ("Yes." if any(t.name in question.lower() for t in things) else "No."), question


def test_relations_are_those_of_the_cells():
    left, right, below = (Thing("circle", "red", x, y) for x, y in ((0, 0), (2, 0), (0, 2)))
    assert conversations._relation(left, right) == "left of" and conversations._relation(right, left) == "right of"
    assert conversations._relation(below, left) == "below" and conversations._relation(left, below) == "above"
    assert conversations._relation(right, below) is None


@pytest.mark.parametrize(("way", "step"), [(way, kind.step) for way, kind in clips.WAYS.items()])
def test_clips_move_as_they_are_said_to(way, step):
    import av

    content = clips.moving(np.random.RandomState(3), Thing("circle", "red", 1, 1), way)
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(np.float32) for frame in container.decode(video=0)]
    assert len(frames) >= 8
    middles = []
    for frame in (frames[0], frames[-1]):
        red = np.abs(frame - COLOURS["red"]).sum(-1) < 90
        middles.append(np.argwhere(red).mean(axis=0)[::-1])
    assert (np.sign(np.round((middles[1] - middles[0]) / 20)) == step).all(), middles


def test_what_it_is_to_say_of_other_media_is_that_it_does_not_know(monkeypatch):
    # Other photographs and voices need packages and programs that the tests do without.
    shown = Image.open(Path(conversations.__file__).parents[1] / "china.jpg").convert("RGB")
    monkeypatch.setattr(photographs, "_photographs", lambda test: [shown])
    monkeypatch.setattr(sounds, "elsewhere", lambda random, *, test: sounds.noise(random))
    files, keep = kept()
    random = np.random.RandomState(4)
    answers = {conversations.outside(random, False, keep)[-1]["content"] for _ in range(20)}
    assert answers == {conversations.UNKNOWN} and files
    assert all(Image.open(io.BytesIO(c)).size for n, c in files.items() if n.endswith(("png", "jpg")))


def test_a_token_is_asked_for_the_thing_whose_middle_lies_in_it():
    grid = np.array([[1, 8, 6]], np.int32)  # 4 x 3 tokens
    classes = train_demo_towers._asked(grid, [(0.5, 0.5), (1.2, 0.1)], [(1, 2, 0, -1), (3, 4, 0, -1)], -1)
    named = {tuple(map(int, at)): classes[at[0] * 3 + at[1]].tolist() for at in np.ndindex(4, 3)}
    assert named.pop((2, 1)) == [1, 2, 0, -1] and named.pop((0, 2)) == [3, 4, 0, -1]
    assert set(map(tuple, named.values())) == {(0, 0, 0, -1)} and (classes[12:] == -1).all()


def test_the_token_of_a_moving_thing_is_asked_for_its_way():
    model_config, video = VisionConfig(num_position_embeddings=256), VideoConfig(min_pixels=96**2, max_pixels=128**2)
    ways = set()
    # Of the clips, one in ten pans over a photograph.
    for seed in [seed for seed in range(8) if np.random.RandomState((seed, 9)).rand() < 0.9]:
        rows = train_demo_towers.clip(model_config, video, seed)
        found = {tuple(token) for _, classes in rows for token in classes.tolist() if token[3] > 0}
        assert len(found) == 1 and len(rows) in (2, 3), found  # one thing, one way, in every pair of frames
        assert all((classes[:, 3] > 0).sum() == 1 for _, classes in rows)
        ways |= {token[3] for token in found}
    assert len(ways) > 2


def test_recorded_voices_say_what_they_said(tmp_path, monkeypatch):
    def tone(voice, text, speed):
        seconds = 0.2 + 0.01 * len(text)
        return (
            np.sin(2 * np.pi * (300 + speed) * np.arange(int(voices.RATE * seconds)) / voices.RATE).astype("float32")
            / 2
        )

    voice, words = ("espeak", "en-gb+m1"), ["seven", "a longer text", "one"]
    with monkeypatch.context() as speaking:
        speaking.setattr(voices, "spoken", tone)
        voices.record(tmp_path / "voices.zip", [(voice, 120, words), (voice, 150, words[:1])])
    monkeypatch.setattr(voices, "_recorded", tmp_path / "voices.zip")
    for text, speed in [(word, 120) for word in words] + [("seven", 150)]:
        heard, said = voices.spoken.__wrapped__(voice, text, speed), tone(voice, text, speed)
        assert len(heard) == len(said)
        # The codec keeps the tone, not its samples.
        spectrum = np.abs(np.fft.rfft(heard))
        assert abs(np.argmax(spectrum) * voices.RATE / len(heard) - 300 - speed) < 10
    with pytest.raises(KeyError):
        voices.spoken.__wrapped__(voice, "never said", 120)


def test_every_text_of_training_is_among_those_that_are_recorded(monkeypatch):
    jobs = {(voice, speed): texts for voice, speed, texts in voices.to_record()}
    said = set()

    def looked_up(voice, text, speed):
        assert text in jobs[voice, speed]
        said.add(text)
        return np.ones(800, np.float32)

    monkeypatch.setattr(sounds, "spoken", looked_up)
    random = np.random.RandomState(0)
    for _ in range(500):
        sounds.speak(random, [sounds.WORDS[random.randint(len(sounds.WORDS))]], test=False)
        sounds.elsewhere(random, test=False)
    assert said == {*sounds.WORDS, *sounds._OTHERS}


def test_things_of_one_name_are_counted_and_not_told_apart():
    random = np.random.RandomState(6)
    things = [Thing("circle", "red", 0, 0), Thing("circle", "red", 2, 0), Thing("star", "blue", 0, 2)]
    for kind in ("where", "what_is", "is_it"):
        assert all(conversations._question(random, kind, things) is None for _ in range(100))
    found = {
        kind: {conversations._question(random, kind, things) for _ in range(300)}
        for kind in ("count", "count_colour", "count_shape", "colour", "shape", "is_there", "list")
    }
    assert {answer for _, answer in found["count"]} == {"Three."}
    for question, answer in found["count_shape"] - {None}:
        asked = question.lower()
        colour = next((colour for colour in COLOURS if f"{colour} " in asked), None)
        shape = next(shape for shape in SHAPES if shape in asked)
        count = sum(thing.shape == shape and colour in (None, thing.colour) for thing in things)
        assert answer == conversations.COUNTS[count] + ".", question
    for question, answer in found["colour"] - {None}:
        assert "circle" not in question.lower() and (answer == "Blue." or answer.startswith("There is no")), question
    assert {answer for _, answer in found["shape"] - {None}} == {"A star."}
    assert {answer for _, answer in found["list"]} == {
        "A red circle at the top left, a red circle at the top right, a blue star at the bottom left."
    }
    for question, answer in found["is_there"]:
        assert answer == ("Yes." if "red circle" in question.lower() or "blue star" in question.lower() else "No.")


def test_things_are_whole_and_apart():
    random = np.random.RandomState(7)
    for _ in range(150):
        things = conversations._drawn(random, False, 4)
        plain = [Thing(thing.shape, "red", thing.x, thing.y) for thing in things]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures, "_ground", lambda random, width, height, taken: Image.new("RGB", (width, height)))
            patch.setattr(pictures, "_worn", lambda random, picture: picture)
            red = np.asarray(pictures.draw(random, plain))[..., 0] > 90
        # A ring and all others are one piece each, and none touches the border but one that fills the picture.
        assert ndimage.label(red, np.ones((3, 3)))[1] == len(things)
        assert len(things) == 1 or not (red[0].any() or red[-1].any() or red[:, 0].any() or red[:, -1].any())


def test_streamed_batches_have_one_shape_and_new_ones_come_first(monkeypatch):
    # Conversations that need neither voices nor photographs.
    makers = (conversations.shapes, conversations.tones, conversations.motion, conversations.knows)
    monkeypatch.setattr(stream, "conversation", lambda random, *how: (makers[random.randint(4)](random, *how), ""))
    monkeypatch.setattr(stream, "_model", omni.load("demo"))
    made = [stream._make(6, (0, number)) for number in range(3)]
    shapes = {str(jax.tree.map(lambda a: (a.shape, a.dtype), batch)) for batch in made}
    assert len(shapes) == 1 and made[0].token_ids.shape == (6, stream.batch_shape(6).tokens)
    assert len({batch.token_ids.tobytes() for batch in made}) == 3

    class Pool(ThreadPoolExecutor):
        """The first batches are there at once, and the others never."""

        def __init__(self, *_):
            super().__init__(1)

        def submit(self, make, size, seed):
            future = Future()
            if seed[1] < len(made):
                future.set_result(made[seed[1]])
            return future

    monkeypatch.setattr(stream, "ProcessPoolExecutor", Pool)
    batches = stream.stream(Path("unused"), Path("unused"), 6, 1)
    given = [np.asarray(next(batches).token_ids).tobytes() for _ in range(9)]
    batches.close()
    assert sorted(given[:3]) == sorted(batch.token_ids.tobytes() for batch in made)
    # While the next ones are being made, those come again.
    assert set(given[3:]) <= set(given[:3]) and len(set(given[3:])) > 1
