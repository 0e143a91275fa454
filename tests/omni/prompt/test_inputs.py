"""What two turns of a conversation have in common."""

import numpy as np
import pytest

from omni.config import SpecialTokens
from omni.errors import InputError
from omni.media.embedding import Embedding
from omni.prompt.inputs import Inputs, from_layout, media_layout
from omni.prompt.layout import lay_out

IMAGE, VIDEO, AUDIO, AUDIO_START, AUDIO_END = range(100, 105)
SPECIAL = SpecialTokens(IMAGE, VIDEO, AUDIO, AUDIO_START, AUDIO_END)


def rows(count: int) -> np.ndarray:
    return np.zeros((count, 8), np.float32)


def heard(width: int) -> Embedding:
    """One frame, heard for three tokens."""
    return Embedding("video", rows(width), None, (1, 2, 2 * width), 1.0, Embedding("audio", rows(3)))


def inputs(prompt: list[int], *media: Embedding) -> Inputs:
    return from_layout(lay_out(prompt, [media_layout(m) for m in media], SPECIAL, 13.0, 2), media, "", prompt)


def common(mine: Inputs, theirs: Inputs) -> int:
    return mine.to_prompt().shared_prefix(theirs.to_prompt())


def test_messages_end_after_their_end_tokens():
    assert Inputs.from_token_ids([1, 9, 2, 8, 9], 100).to_prompt({9, 8}).message_ends == (2, 4, 5)
    assert Inputs.from_token_ids([1, 9, 2], 100).to_prompt().message_ends == ()


def test_text_is_shared_up_to_the_first_other_token():
    mine, theirs = (Inputs.from_token_ids(ids, 100) for ids in ([1, 2, 3, 4], [1, 2, 5, 4, 6]))
    assert common(mine, theirs) == common(theirs, mine) == 2
    assert common(mine.followed_by([7]), Inputs.from_token_ids([1, 2, 3, 4, 7, 8], 100)) == 5


def test_another_medium_of_the_same_shape_is_not_shared():
    picture, same, other = (Embedding("image", rows(2) + add, None, (1, 2, 4)) for add in (0, 0, 1))
    assert common(inputs([1, IMAGE, 2], picture), inputs([1, IMAGE, 2], same)) == 4
    assert common(inputs([1, IMAGE, 2], picture), inputs([1, IMAGE, 2], other)) == 1


def test_ids_that_the_decoder_has_no_row_for_are_refused():
    layout = lay_out([1, IMAGE, 99], [media_layout(Embedding("image", rows(2), None, (1, 2, 4)))], SPECIAL, 13.0, 2)
    assert len(from_layout(layout, (), "", [], IMAGE + 1).token_ids) == 4
    for vocabulary in (IMAGE, 99):
        with pytest.raises(InputError, match=f"outside 0..{vocabulary - 1}") as caught:
            from_layout(layout, (), "", [], vocabulary)
        assert caught.value.code == "bad_token_ids"


@pytest.mark.parametrize("width, shared", [(2, True), (40, False)])
def test_an_answer_is_shared_where_its_positions_are(width, shared):
    video = heard(width)
    first = inputs([1, 2, VIDEO, 3, 4], video)
    later = inputs([1, 2, VIDEO, 3, 4, 50, 51, 5], video)
    assert common(first.followed_by([50, 51]), later) == len(first.token_ids) + (2 if shared else 0)
