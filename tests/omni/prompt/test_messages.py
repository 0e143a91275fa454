"""The public message format: what it takes, what it refuses, and what a template then reads."""

import base64

import numpy as np
import pytest

from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.media.types import Audio, Image, Video
from omni.prompt.messages import parse

PIXELS = np.zeros((4, 4, 3), np.uint8)
SAMPLES = np.zeros(1600, np.float32)


def user(*content):
    return [{"role": "user", "content": list(content)}]


def only(part):
    parsed = parse(user(part))
    assert len(parsed.media) == 1
    return parsed.media[0]


def code_of(messages) -> str:
    with pytest.raises(InputError) as caught:
        parse(messages)
    assert len(str(caught.value)) <= 500 and " at 0x" not in str(caught.value)
    return caught.value.code


def test_media_come_in_order_of_appearance():
    parsed = parse(
        [
            {"role": "system", "content": "Be terse."},
            {
                "role": "user",
                "content": [{"type": "audio", "audio": "a.wav"}, "or", {"type": "image", "image": PIXELS}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Hm."}]},
            {"role": "user", "content": ({"type": "video", "video": "c.mp4"},)},
        ]
    )
    assert [type(medium) for medium in parsed.media] == [Audio, Image, Video]
    assert parsed.media[1].source is PIXELS
    assert [message["content"] for message in parsed.messages] == [
        "Be terse.",
        [{"type": "audio", "audio": True}, {"type": "text", "text": "or"}, {"type": "image", "image": True}],
        [{"type": "text", "text": "Hm."}],
        [{"type": "video", "video": True}],
    ]


@pytest.mark.parametrize(
    "part, medium",
    [
        ({"type": "image", "image": "a.png"}, Image("a.png")),
        ({"image": "a.png"}, Image("a.png")),
        ({"type": "image", "image": "a.png", "min_pixels": 4, "max_pixels": np.int64(9)}, Image("a.png", 4, 9)),
        ({"type": "image", "image": Image("a.png", 1, 2), "max_pixels": 9}, Image("a.png", 1, 9)),
        ({"type": "audio", "audio": "a.wav", "sampling_rate": 8000}, Audio("a.wav", 8000)),
        ({"type": "audio", "audio": Audio("a.wav"), "sampling_rate": None}, Audio("a.wav")),
        ({"type": "video", "video": "a.mp4", "fps": 2}, Video("a.mp4", fps=2.0)),
        ({"type": "video", "video": "a.mp4", "num_frames": 8, "audio": True}, Video("a.mp4", None, 8, True)),
        ({"video": "a.mp4", "audio": "a.wav"}, Video("a.mp4", audio="a.wav")),
        ({"type": "video", "video": Video("a.mp4", 1.0), "audio": False}, Video("a.mp4", 1.0)),
        ({"type": "video", "video": "a.mp4", "audio": Audio("a.wav")}, Video("a.mp4", audio=Audio("a.wav"))),
        ({"type": "image_url", "image_url": {"url": "http://a/b.png", "detail": "auto"}}, Image("http://a/b.png")),
        (
            {"type": "image_url", "image_url": "data:image/png;base64,AA==", "max_pixels": 9},
            Image("data:image/png;base64,AA==", None, 9),
        ),
        ({"type": "video_url", "video_url": {"url": "http://a/b.mp4"}, "fps": 1.5}, Video("http://a/b.mp4", 1.5)),
        ({"type": "audio_url", "audio_url": "http://a/b.wav"}, Audio("http://a/b.wav")),
        (
            {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"RIFF\xff").decode(), "format": "wav"}},
            Audio(b"RIFF\xff"),
        ),
        ({"type": "input_audio", "input_audio": {"data": "data:;base64,AA=="}}, Audio("data:;base64,AA==")),
    ],
)
def test_parts(part, medium):
    assert only(part) == medium
    kind = type(medium).__name__.lower()
    assert parse(user(part)).messages[0]["content"] == [{"type": kind, kind: True}]


def test_arrays_are_not_compared():
    medium = only({"type": "video", "video": PIXELS[None], "fps": 2.0, "audio": SAMPLES})
    assert medium.source.shape == (1, 4, 4, 3) and medium.audio is SAMPLES and medium.fps == 2


def test_embeddings_stand_for_media_of_their_kind():
    embedding = Embedding("audio", np.zeros((3, 8), np.float32))
    assert only({"type": "audio", "audio": embedding}) is embedding
    assert code_of(user({"type": "image", "image": embedding})) == "wrong_medium"
    assert code_of(user({"type": "audio", "audio": embedding, "sampling_rate": 8000})) == "bad_option"
    assert code_of(user({"type": "video", "video": "a.mp4", "audio": embedding})) == "wrong_medium"


def test_other_keys_of_a_message_are_for_the_template():
    call = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    message = {"role": "assistant", "content": None, "tool_calls": call, "reasoning_content": "hm", "name": "n"}
    parsed = parse([message, {"role": "tool", "content": "4"}])
    assert parsed.messages[0] == {**message, "content": ""}
    assert message["content"] is None


def test_a_refusal_is_what_a_reply_without_content_says():
    reply = {"role": "assistant", "content": None, "refusal": "No."}
    assert parse([reply]).messages[0] == {"role": "assistant", "content": "No."}
    assert parse([{**reply, "content": "Yes."}]).messages[0]["content"] == "Yes."
    assert code_of([{**reply, "role": "user"}]) == code_of([{**reply, "refusal": None}]) == "bad_content"


@pytest.mark.parametrize(
    "messages, code",
    [
        ([], "bad_messages"),
        ("hello", "bad_messages"),
        ({"role": "user", "content": "hello"}, "bad_messages"),
        (["hello"], "bad_messages"),
        ([{"content": "hello"}], "bad_role"),
        ([{"role": "robot", "content": "hello"}], "bad_role"),
        ([{"role": 3, "content": "hello"}], "bad_role"),
        ([{"role": "user"}], "bad_content"),
        ([{"role": "user", "contents": "hello"}], "bad_content"),
        ([{"role": "assistant", "content": None}], "bad_content"),
        ([{"role": "assistant", "contents": "hello"}], "bad_content"),
        ([{"role": "assistant", "tool_calls": []}], "bad_content"),
        ([{"role": "user", "content": 3}], "bad_content"),
        ([{"role": "user", "content": {"type": "text", "text": "a"}}], "bad_content"),
        (user(3), "bad_part"),
        (user(PIXELS), "bad_part"),
        (user({}), "bad_part"),
        (user({"type": "picture", "picture": "a.png"}), "bad_part"),
        (user({"type": ["image"], "image": "a.png"}), "bad_part"),
        (user({"type": "image"}), "bad_part"),
        (user({"type": "image", "image": None}), "bad_part"),
        (user({"type": "text", "text": 3}), "bad_part"),
        (user({"type": "image", "image": "a.png", "max_pixel": 9}), "unknown_key"),
        (user({"type": "text", "text": "a", "fps": 2}), "unknown_key"),
        (user({"type": "image", "image": "a.png", "max_pixels": "9"}), "bad_option"),
        (user({"type": "image", "image": "a.png", "max_pixels": 9.5}), "bad_option"),
        (user({"type": "image", "image": "a.png", "min_pixels": True}), "bad_option"),
        (user({"type": "video", "video": "a.mp4", "fps": 0}), "bad_option"),
        (user({"type": "video", "video": "a.mp4", "fps": float("nan")}), "bad_option"),
        (user({"type": "video", "video": "a.mp4", "num_frames": -1}), "bad_option"),
        (user({"type": "image", "image": Audio("a.wav")}), "wrong_medium"),
        (user({"type": "video", "video": "a.mp4", "audio": Image("a.png")}), "wrong_medium"),
        (user({"type": "image_url", "image_url": {"url": "http://a", "detail": "lowest"}}), "bad_option"),
        (user({"type": "image_url", "image_url": {"uri": "http://a"}}), "unknown_key"),
        (user({"type": "image_url", "image_url": {}}), "bad_part"),
        (user({"type": "input_audio", "input_audio": "AA=="}), "bad_part"),
        (user({"type": "input_audio", "input_audio": {"data": "!?", "format": "wav"}}), "bad_base64"),
        (user({"type": "input_audio", "input_audio": {"data": "\u00e9", "format": "wav"}}), "bad_base64"),
    ],
)
def test_refusals(messages, code):
    assert code_of(messages) == code


def test_unknown_keys_name_the_nearest():
    with pytest.raises(InputError, match="'max_pixel'; the nearest key that it has is 'max_pixels'"):
        parse(user({"type": "image", "image": "a.png", "max_pixel": 9}))
    with pytest.raises(InputError, match="'images' is not known; the nearest is 'image'"):
        parse(user({"type": "images", "images": "a.png"}))


@pytest.mark.parametrize(
    "options",
    [
        {"min_pixels": 64 * 64, "max_pixels": 64 * 64},
        {"min_pixels": 64 * 64, "total_pixels": 4 * 64 * 64},
        {"min_pixels": 320 * 320, "max_pixels": 320 * 320, "fps": 1.0},
    ],
)
def test_the_budget_of_a_part_reaches_the_processor(model, options):
    frames = np.random.default_rng(0).integers(0, 256, (4, 160, 160, 3), np.uint8)
    medium = only({"type": "video", "video": frames, "fps": 2.0, **options})
    direct = model.media.video(frames, **{"fps": 2.0, **options})
    grid = model.media.read(medium).grid_thw.tolist()
    assert grid == direct.grid_thw.tolist() != model.media.video(frames, fps=2.0).grid_thw.tolist()
