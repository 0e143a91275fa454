"""Ids are those of the tokenizers library; text is never a control token; streams never show half a character."""

import json
import time

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from omni.errors import CheckpointError, InputError
from omni.prompt.tokenizer import ControlTokens, StreamDecoder, Tokenizer
from tests.golden import tiny

MARK = "\ue000"
TEXTS = [
    "",
    " ",
    "a",
    "don't  stop\n\n",
    "Cafe\u0301 \u6e2f\u306f 👩🏽‍🚀",
    "<|im_end|>",
    "x<think>y",
    "3136 * 12845056",
    "\r\n\t",
]


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.json"])
def tokenizer(request, tmp_path_factory):
    directory = tiny.write_checkpoint(
        tmp_path_factory.mktemp("tokenizer"), shards=1, tokenizer_json=request.param == "tokenizer.json"
    )
    return Tokenizer.from_directory(directory)


@pytest.fixture(scope="module")
def library():
    return tokenizers.Tokenizer.from_file(str(tiny.TOKENIZER))


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(TEXTS))
@settings(max_examples=300, deadline=None)
def test_prompts_get_the_ids_of_the_whole_tokenizer(tokenizer, library, text):
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<think>\n{text}"
    if MARK not in text:
        assert tokenizer.encode_prompt(prompt, MARK) == library.encode(prompt).ids


@pytest.mark.parametrize("text", TEXTS)
def test_plain_text_holds_no_control_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.control_tokens.values())
    assert tokenizer.decode(ids) == text.replace("e\u0301", "\u00e9")


def test_a_prompt_that_is_too_long_is_refused_before_all_of_it_is_encoded(tokenizer):
    prompt = "<|im_start|>" + "word " * 100_000 + "<|im_end|>"
    length = len(tokenizer.encode_prompt(prompt, MARK))
    assert len(tokenizer.encode_prompt(prompt, MARK, length)) == length
    for most in (1, 1000, length - 1):
        with pytest.raises(InputError) as caught:
            tokenizer.encode_prompt(prompt, MARK, most)
        assert caught.value.code == "too_many_tokens"
    began = time.process_time()
    with pytest.raises(InputError):
        tokenizer.encode_prompt("a" * 10_000_000, MARK, 1000)
    assert time.process_time() - began < 2


def test_marked_control_tokens_are_text_and_the_mark_is_gone(tokenizer):
    end = tokenizer.control_tokens["<|im_end|>"]
    assert tokenizer.encode_prompt(f"a<{MARK}|im_end|>", MARK) == tokenizer.encode("a<|im_end|>")
    assert tokenizer.encode_prompt(f"a {MARK}b<|im_end|>", MARK) == [*tokenizer.encode("a b"), end]


def test_control_tokens_know_which_are_special(tokenizer):
    ids = tiny.token_ids()
    assert tokenizer.control_tokens == {t: i for t, i in ids.items() if i >= 856}
    assert "<think>" not in tokenizer.control_tokens.special and "<|im_end|>" in tokenizer.control_tokens.special
    shown = [ids["<|im_start|>"], ids["<think>"], *tokenizer.encode("so"), ids["<|im_end|>"]]
    assert tokenizer.decode(shown) == "<think>so"
    assert tokenizer.decode(shown, skip_special=False) == "<|im_start|><think>so<|im_end|>"


@given(ids=st.lists(st.integers(0, tiny.VOCABULARY - 1), max_size=80))
@settings(max_examples=300, deadline=None)
def test_streamed_text_is_the_text_of_the_whole(tokenizer, library, ids):
    stream = StreamDecoder(tokenizer)
    pieces = [stream.push(i) for i in ids]
    whole = tokenizer.decode(ids)
    assert "".join(pieces) + stream.flush() == whole == library.decode(ids)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(deadline=None)
def test_a_stream_shows_whole_characters(tokenizer, text):
    stream, shown = StreamDecoder(tokenizer), ""
    ids = tokenizer.encode(text)
    whole = tokenizer.decode(ids)
    for i in ids:
        shown += stream.push(i)
        assert whole.startswith(shown)
    assert shown == whole and stream.flush() == ""


def test_a_token_of_one_letter_of_the_byte_alphabet_is_its_byte(tmp_path):
    """GPT-2 writes bytes that are printable in Latin-1 as themselves, and others from U+0100 on in their order."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    library.decoder = tokenizers.decoders.ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    made = Tokenizer.from_directory(tmp_path)
    others = iter(byte for byte in range(256) if not (0x21 <= byte < 0x7F or (byte >= 0xA1 and byte != 0xAD)))
    known = [next(others) if ord(letter) > 0xFF else ord(letter) for letter in alphabet]
    assert [made.token_bytes(i) for i in range(256)] == [bytes([byte]) for byte in known]


@pytest.mark.parametrize("bad", [-1, tiny.VOCABULARY, 2**40])
def test_ids_outside_the_vocabulary_are_refused(tokenizer, bad):
    for call in (lambda: tokenizer.decode([bad]), lambda: StreamDecoder(tokenizer).push(bad)):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.code == "bad_token_ids"


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(InputError) as caught:
        tokenizer.encode("a\ud83d")
    assert caught.value.code == "bad_text"


def test_added_tokens_of_the_config_join_those_of_the_tokenizer(tmp_path):
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    listed = {"871": {"content": "<|extra|>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": listed}), "utf-8")
    tokenizer = Tokenizer.from_directory(tmp_path)
    assert tokenizer.encode_prompt("<|extra|><|im_end|>", MARK) == [871, tiny.token_ids()["<|im_end|>"]]


@pytest.mark.parametrize("text", ["a  <x>\n b", "a <y>\n b", "a<z> <z> b<z>b", " <x><y> <z>", "<xx> <x>x"])
def test_flags_of_added_tokens_are_the_librarys(tmp_path, text):
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    flagged = {"<x>": {"lstrip": True}, "<y>": {"rstrip": True}, "<z>": {"single_word": True}, "<xx>": {}}
    spec["added_tokens"] += [
        {"id": 871 + i, "content": token, **flags, **own} for i, (token, own) in enumerate(flagged.items())
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    expected = tokenizers.Tokenizer.from_str(json.dumps(spec)).encode(text).ids
    assert Tokenizer.from_directory(tmp_path).encode_prompt(text, MARK) == expected


@pytest.mark.parametrize("text", ["<x>", "<x>y", "<x>yz", "<x>yzz <x>y<x>", "a<x>z"])
@pytest.mark.parametrize("turn", [1, -1])
def test_of_added_tokens_that_begin_alike_the_longest_is_meant(tmp_path, text, turn):
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    alike = ["<x>", "<x>y", "<x>yz"][::turn]
    spec["added_tokens"] += [{"id": 871 + i, "content": token, **flags} for i, token in enumerate(alike)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    expected = tokenizers.Tokenizer.from_str(json.dumps(spec)).encode(text).ids
    assert Tokenizer.from_directory(tmp_path).encode_prompt(text, MARK) == expected


def test_a_tokenizer_without_tokens_knows_no_id():
    empty = Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()), ControlTokens({}, []))
    assert empty.size == 0 and empty.decode([]) == ""
    with pytest.raises(InputError) as caught:
        empty.decode([0])
    assert caught.value.code == "bad_token_ids"


def test_a_directory_has_a_tokenizer_or_not(tmp_path):
    assert not Tokenizer.exists(tmp_path)
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "vocab.json").write_text("{}", "utf-8")
    assert not Tokenizer.exists(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    assert Tokenizer.exists(str(tmp_path))


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"decoder": {"type": "ByteLevel"}}', '{"decoder": {"type": "WordPiece"}}']
)
def test_damaged_tokenizers_are_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("vocab, merges", [('{"a": 0}', "a b"), ('{"a": 0}', "a"), ('{"a": "x"}', "")])
def test_damaged_vocabularies_are_refused(tmp_path, vocab, merges):
    (tmp_path / "vocab.json").write_text(vocab, "utf-8")
    (tmp_path / "merges.txt").write_text(merges, "utf-8")
    with pytest.raises(CheckpointError):
        Tokenizer.from_directory(tmp_path)


def test_a_text_at_which_the_library_panics_is_refused(tmp_path, capfd):
    spec = json.loads(tiny.TOKENIZER.read_text("utf-8"))
    spec["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
    with pytest.raises(InputError, match="retry-limit") as caught:
        Tokenizer.from_directory(tmp_path).encode("a" * 40 + "b")
    assert caught.value.code == "bad_text"


def test_tokens_by_their_texts(tokenizer):
    ids = tiny.token_ids()
    assert tokenizer.id_of("<|im_end|>") == ids["<|im_end|>"] and tokenizer.id_of("user") == ids["user"]
    assert tokenizer.id_of("no token") is None and tokenizer.size == max(ids.values()) + 1
