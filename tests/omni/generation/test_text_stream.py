"""Text as it comes: whole characters, nothing of a stop string, and the same however it is cut into tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni.generation.text_stream import TextStream
from omni.prompt.tokenizer import Tokenizer
from tests.golden.tiny import token_ids

TEXT = "The first boats come in, gulls and 🎉 all.\n\nNew boats 👩🏽‍🚀 — done"


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return Tokenizer.from_directory(tiny_checkpoint)


def pieces(tokenizer, ids, stop=()) -> tuple[list[str], TextStream]:
    """What a caller is shown, token by token and then at the end."""
    stream, shown = TextStream(tokenizer, stop), []
    for token in ids:
        shown.append(stream.push(token))
        if stream.stopped:
            break
    return [*shown, stream.flush()], stream


def cut(text: str, stop: list[str]) -> str:
    """A text as far as the stop string that is whole first; of several, the longest."""
    for end in range(1, len(text) + 1):
        found = [s for s in stop if s and text[:end].endswith(s)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def as_bytes(tokenizer, text: str) -> list[int]:
    """Token ids that spell a text a byte at a time."""
    byte_ids = {tokenizer.token_bytes(i): i for i in range(256)}
    return [byte_ids[bytes([byte])] for byte in text.encode()]


@pytest.mark.parametrize(
    ("stop", "wanted"),
    [
        ([], TEXT),
        (["gull"], "The first boats come in, "),
        (["s and"], "The first boats come in, gull"),
        (["g", "boats come"], "The first "),
        (["never", "done."], TEXT),
        (["done"], TEXT[:-4]),
        (["The"], ""),
        (["\n\n"], "The first boats come in, gulls and 🎉 all."),
        (["🎉"], "The first boats come in, gulls and "),
        (["boats 👩🏽"], "The first boats come in, gulls and 🎉 all.\n\nNew "),
        ([""], TEXT),
        # The second is whole before the first, which began before it.
        (["first boats", "st b"], "The fir"),
        (["boats", "first boats"], "The "),
    ],
)
@pytest.mark.parametrize("spelled", ["tokens", "bytes"])
def test_a_reply_ends_before_its_stop_string(tokenizer, stop, wanted, spelled):
    ids = tokenizer.encode(TEXT) if spelled == "tokens" else as_bytes(tokenizer, TEXT)
    shown, stream = pieces(tokenizer, ids, stop)
    assert "".join(shown) == stream.text == wanted
    assert stream.stopped == (wanted != TEXT)


def test_no_piece_holds_half_a_character(tokenizer):
    shown, _ = pieces(tokenizer, as_bytes(tokenizer, TEXT))
    assert "".join(shown) == TEXT and not any("\ufffd" in piece for piece in shown)
    assert sum(piece != "" for piece in shown) == len(TEXT)


def test_an_unfinished_character_shows_at_the_end(tokenizer):
    shown, _ = pieces(tokenizer, as_bytes(tokenizer, "🎉")[:2])
    assert shown == ["", "", "\ufffd"]


def test_what_may_become_a_stop_string_waits(tokenizer):
    stream = TextStream(tokenizer, ["###"])
    given = [stream.push(token) for token in as_bytes(tokenizer, "a##b#")]
    assert given == ["a", "", "", "##b", ""] and stream.flush() == "#"


def test_control_tokens_are_not_shown_and_thoughts_are(tokenizer):
    ids = token_ids()
    shown, stream = pieces(tokenizer, [ids["<|im_start|>"], ids["<think>"], *tokenizer.encode("hm"), ids["</think>"]])
    assert "".join(shown) == stream.text == "<think>hm</think>"


LETTERS = st.text("ab🎉", min_size=1, max_size=4)


@given(ids=st.lists(st.integers(0, 895), max_size=40), at=st.integers(0, 30), length=st.integers(1, 5), more=LETTERS)
def test_any_tokens(tokenizer, ids, at, length, more):
    whole = tokenizer.decode(ids)
    stop = [whole[at : at + length], more]
    shown, stream = pieces(tokenizer, ids, stop)
    assert "".join(shown) == stream.text == cut(whole, stop)
    for i in range(len(shown)):
        assert stream.text.startswith("".join(shown[:i]))


@given(text=st.text("ab🎉", max_size=30), stop=st.lists(LETTERS, max_size=4))
def test_many_stop_strings_that_overlap(tokenizer, text, stop):
    for ids in (tokenizer.encode(text), as_bytes(tokenizer, text)):
        assert "".join(pieces(tokenizer, ids, stop)[0]) == cut(text, stop)
