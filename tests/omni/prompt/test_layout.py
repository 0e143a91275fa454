"""Token layouts equal the reference's to the last bit."""

import time

import numpy as np
import pytest

from omni.config import SpecialTokens
from omni.errors import InputError
from omni.prompt.layout import MediaLayout, lay_out
from omni.prompt.messages import parse
from omni.prompt.template import ChatTemplate
from omni.prompt.tokenizer import Tokenizer
from tests.golden import tiny
from tests.golden.load import CASES, DATA, media

# As in make_layout.py.
IMAGE, VIDEO, AUDIO, VISION_START, VISION_END, AUDIO_START, AUDIO_END = range(100, 107)
SPECIAL = SpecialTokens(IMAGE, VIDEO, AUDIO, AUDIO_START, AUDIO_END)
KINDS = {IMAGE: "image", VIDEO: "video", AUDIO: "audio"}


def random_layouts():
    with np.load(DATA / "layout.npz") as archive:
        arrays = dict(archive)
    names = [name for name in arrays if not name.endswith("_ends")]
    axes = {name: int(name == "position_ids") for name in names}
    split = {name: np.split(arrays[name], arrays[f"{name}_ends"][:-1], axes[name]) for name in names}
    return [{name: split[name][i] for name in names} for i in range(len(split["prompt"]))]


def media_of(case) -> list[MediaLayout]:
    found = []
    for (token, tokens, *grid, sound), seconds in zip(case["media"].tolist(), case["seconds"].tolist(), strict=True):
        kind = KINDS[token]
        found.append(
            MediaLayout(
                kind,
                tokens,
                None if kind == "audio" else tuple(grid),
                seconds if kind == "video" else None,
                sound if sound >= 0 else None,
            )
        )
    return found


def test_random_layouts_are_the_references():
    cases = random_layouts()
    assert len(cases) > 100
    for i, case in enumerate(cases):
        layout = lay_out(case["prompt"], media_of(case), SPECIAL, 13.0, 2)
        np.testing.assert_array_equal(layout.token_ids, case["token_ids"], err_msg=str(i))
        np.testing.assert_array_equal(layout.position_ids, case["position_ids"], err_msg=str(i))
        assert layout.next_position == case["next_position"][0], i


def test_spans_cover_every_placeholder_once():
    for case in random_layouts():
        given = media_of(case)
        layout = lay_out(case["prompt"].tolist(), given, SPECIAL, 13.0, 2)
        counted = np.zeros(len(layout.token_ids), int)
        for span in layout.spans:
            assert span.indices.dtype == np.int32
            assert (np.diff(span.indices) > 0).all()
            assert {KINDS[i] for i in layout.token_ids[span.indices].tolist()} == {span.kind}
            medium = given[span.media_index]
            own = span.kind == medium.kind
            assert len(span.indices) == (medium.tokens if own else medium.audio_tokens)
            counted[span.indices] += 1
        np.testing.assert_array_equal(counted, np.isin(layout.token_ids, list(KINDS)))


def test_text_counts_up():
    layout = lay_out([5, 6, 7], [], SPECIAL, 13.0, 2)
    np.testing.assert_array_equal(layout.position_ids, np.broadcast_to(np.arange(3, dtype=np.float32), (3, 3)))
    assert layout.token_ids.dtype == np.int32 and layout.next_position == 3 and layout.spans == ()
    assert lay_out([], [], SPECIAL, 13.0, 2).next_position == 0


def audio_token_count(frames: int) -> int:
    rest = frames % 100
    for _ in range(3):
        rest = (rest + 1) // 2
    return 13 * (frames // 100) + rest


def golden_media(case, golden) -> list[MediaLayout]:
    """What the reference's towers made of a conversation's media."""
    parts = [part for m in case.messages if not isinstance(m["content"], str) for part in m["content"]]
    found = []
    for part in parts:
        kind = part["type"]
        if kind == "audio":
            found.append(MediaLayout("audio", len(golden.audio[f"{part['audio']}/tokens"])))
        elif kind != "text":
            name = part[kind]
            grid = tuple(golden.vision[f"{name}/grid_thw"].reshape(-1).tolist())
            seconds = float(golden.vision[f"{name}/seconds_per_grid"]) if kind == "video" else None
            frames = len(media.soundtrack(part["audio"])) // 160 if "audio" in part else None
            sound = None if frames is None else audio_token_count(frames)
            found.append(MediaLayout(kind, len(golden.vision[f"{name}/tokens"]), grid, seconds, sound))
    return found


@pytest.mark.parametrize("name", CASES)
def test_golden_conversations(name, golden, tiny_checkpoint):
    case = golden.case(name)
    parsed = parse(case.with_media())
    tokenizer = Tokenizer.from_directory(tiny_checkpoint)
    rendered = ChatTemplate.from_directory(tiny_checkpoint).render(parsed.messages, tokenizer.control_tokens)
    prompt = tokenizer.encode_prompt(rendered.text, rendered.mark)
    special = SpecialTokens.from_dict(tiny.thinker_config())
    layout = lay_out(prompt, golden_media(case, golden), special, 13.0, 2)
    np.testing.assert_array_equal(layout.token_ids, case.token_ids)
    np.testing.assert_array_equal(layout.position_ids, case.position_ids)
    assert layout.next_position == case.next_position


def test_a_frame_comes_before_the_sound_of_its_moment():
    # Frames at 0 and 2, two tokens each; sound at 0..3.
    video = MediaLayout("video", 4, (2, 2, 4), 2 / 13, 4)
    layout = lay_out([1, VISION_START, VIDEO, VISION_END, 2], [video], SPECIAL, 13.0, 2)
    inside = [VIDEO, VIDEO, AUDIO, AUDIO, VIDEO, VIDEO, AUDIO, AUDIO]
    assert layout.token_ids.tolist() == [1, VISION_START, AUDIO_START, *inside, AUDIO_END, VISION_END, 2]
    assert layout.position_ids[0].tolist() == [0, 1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7, 8, 9]
    assert layout.position_ids[2, 3:5].tolist() == [3, 4]
    kinds = {span.kind: span for span in layout.spans}
    assert kinds["video"].indices.tolist() == [3, 4, 7, 8] and kinds["audio"].media_index == 0


def test_media_of_different_kinds_need_not_keep_their_order():
    image, audio = MediaLayout("image", 1, (1, 2, 2)), MediaLayout("audio", 3)
    layout = lay_out([AUDIO, 1, IMAGE], [image, audio], SPECIAL, 13.0, 2)
    assert layout.token_ids.tolist() == [AUDIO, AUDIO, AUDIO, 1, IMAGE]
    assert [(s.kind, s.media_index, s.indices.tolist()) for s in layout.spans] == [
        ("audio", 1, [0, 1, 2]),
        ("image", 0, [4]),
    ]


@pytest.mark.parametrize(
    "prompt, media, code",
    [
        ([1, IMAGE], [], "media_count"),
        ([1, 2], [MediaLayout("audio", 3)], "media_count"),
        ([IMAGE, IMAGE], [MediaLayout("image", 1, (1, 2, 2))], "media_count"),
        ([AUDIO], [MediaLayout("image", 1, (1, 2, 2))], "media_count"),
        ([IMAGE], [MediaLayout("image", 3, (1, 2, 2))], "bad_embedding"),
        ([IMAGE], [MediaLayout("image", 3)], "bad_embedding"),
        ([VIDEO], [MediaLayout("video", 1, (1, 2, 2))], "bad_embedding"),
        ([VIDEO], [MediaLayout("video", 1, (1, 2, 2), float("nan"))], "bad_embedding"),
        ([IMAGE], [MediaLayout("image", 12, (-1, -6, 8))], "bad_embedding"),
        ([IMAGE], [MediaLayout("image", 6, (1, 5, 7))], "bad_embedding"),
        ([IMAGE], [MediaLayout("image", 0, (0, 2, 2))], "bad_embedding"),
    ],
)
def test_what_does_not_fit_is_refused(prompt, media, code):
    with pytest.raises(InputError) as caught:
        lay_out(prompt, media, SPECIAL, 13.0, 2)
    assert caught.value.code == code


def test_special_tokens_name_what_is_missing():
    config = tiny.thinker_config()
    del config["audio_end_token_id"]
    with pytest.raises(ValueError, match="audio_end_token_id"):
        SpecialTokens.from_dict(config)
    pictures_alone = SpecialTokens.from_dict(config, ("image_token_id", "video_token_id"))
    assert pictures_alone.placeholder("image") == config["image_token_id"]
    assert pictures_alone.placeholder("audio") is None


def test_a_long_video_is_laid_out_without_a_loop_over_tokens():
    video = MediaLayout("video", 384 * 700, (384, 40, 70), 1.0, 13 * 768)
    started = time.process_time()
    layout = lay_out([VISION_START, VIDEO, VISION_END], [video], SPECIAL, 13.0, 2)
    assert len(layout.token_ids) == 384 * 700 + 13 * 768 + 4
    assert time.process_time() - started < 2
