"""What notebooks show of results: facts, escaped and short, never an error."""

from dataclasses import replace

import numpy as np
import pytest

from omni.generation.reply import Reply, Usage
from omni.media.embedding import Embedding
from omni.prompt.inputs import Inputs
from omni.tasks.transcribe import Piece, Transcript

HOSTILE = "<script>alert(1)</script>&"
EMBEDDING = Embedding(
    "video",
    np.ones((6, 4), np.float32),
    np.zeros((2, 6, 4), np.float32),
    grid_thw=(2, 6, 2),
    seconds_per_grid=1.0,
    audio=Embedding("audio", np.ones((3, 4), np.float32)),
    timestamps=(0.25, 1.5),
)
REPLY = Reply(HOSTILE, [1, 2], "length", Usage(28, 7, 2))
TRANSCRIPT = Transcript(tuple(Piece(i, i + 1.0, HOSTILE, "English", "stop") for i in range(60)))
INPUTS = replace(Inputs.from_token_ids([1, 2, 3], 10), media=(EMBEDDING,), prompt=HOSTILE * 1000)


@pytest.mark.parametrize(
    "shown, facts",
    [
        (EMBEDDING, ["video", "6 of width 4", "2 x 6 x 2", "2 levels", "0.25 to 1.50", "3 tokens"]),
        (REPLY, ["28 read, 7 of them before; 2 written", "length"]),
        (TRANSCRIPT, ["English", "49.00 to 50.00 s", "10 more"]),
        (INPUTS, ["video of 6", "2 2 2"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_facts_are_shown_escaped_and_short(shown, facts):
    html = shown._repr_html_()
    assert all(fact in html for fact in facts)
    assert "<script" not in html and len(html) < 20_000
    assert "<table" not in repr(shown)


def test_what_cannot_be_shown_raises_nothing():
    broken = replace(REPLY)
    object.__setattr__(broken, "usage", None)
    assert broken._repr_html_() is None
