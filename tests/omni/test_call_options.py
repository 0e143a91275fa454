"""Keyword arguments that editors know are those that calls take, and results show themselves in one short line."""

import dataclasses

import numpy as np
import pytest

import omni
from omni import chat
from omni.call_options import ChatOptions, GenerateOptions, PrepareOptions
from omni.generation.reply import Reply, Usage
from omni.options import OPTIONS
from omni.tasks.transcribe import Piece, Transcript


def names(options) -> set[str]:
    return set(options.__annotations__)


def test_typed_keywords_are_the_ones_that_are_taken():
    assert names(GenerateOptions) | {"n"} == OPTIONS | names(PrepareOptions)
    assert names(ChatOptions) == chat._OPTIONS


LONG = "a long answer " * 100
EMBEDDING = omni.Embedding("image", np.ones((6, 4), np.float32), np.ones((2, 6, 4), np.float32), (1, 6, 4))


@pytest.mark.parametrize(
    "value, facts",
    [
        (EMBEDDING, ["image", "6 tokens of width 4", "1 x 6 x 4", "2 levels"]),
        (dataclasses.replace(EMBEDDING, audio=omni.Embedding("audio", np.ones((3, 4), np.float32))), ["3 tokens"]),
        (Reply(LONG, [1] * 300, "length", Usage(28, 7, 300)), ["a long answer", "300 tokens", "length"]),
        (Transcript(tuple(Piece(i, i + 1.0, LONG, "English", "stop") for i in range(60))), ["60 pieces", "English"]),
        (omni.Inputs.from_token_ids(range(500), 1000), ["500 tokens"]),
        (omni.Image(b"0" * 10_000, max_pixels=9), ["10,000 bytes", "max_pixels=9"]),
        (omni.Image("cat.jpg"), ["omni.Image('cat.jpg')"]),
        (omni.Audio(np.zeros(32_000, np.float32), 16_000), ["float32[32000]", "sampling_rate=16000"]),
        (omni.Video([np.zeros((8, 8, 3), np.uint8)] * 9, fps=2.0, audio=True), ["9 images", "fps=2.0", "audio=True"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_reprs_are_short(value, facts):
    text = repr(value)
    assert len(text) <= 160 and "\n" not in text and " at 0x" not in text
    assert all(fact in text for fact in facts), text


def test_models_and_chats_tell_of_themselves(model):
    talk = model.chat("Be brief.")
    assert len(repr(model)) <= 300 and "vision" in repr(model)
    assert "1 messages" in repr(talk) and len(repr(talk)) <= 300
