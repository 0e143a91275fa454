"""Replies: text and tokens, streams, stop strings, defaults of the checkpoint, with a tokenizer and without."""

import json
import re
import shutil

import numpy as np
import pytest

import omni
from omni.config import GenerationConfig
from omni.generation.reply import Usage
from omni.loading import find_directory
from tests.golden import media, text_families, tiny

TALK = [
    [{"role": "user", "content": text}]
    for text in ("Hi", "Tell me about the sea, at length, and mind the gulls.", "1 2 3", "A longer question? " * 3)
]
SAMPLED = {"max_new_tokens": 24, "temperature": 1.0, "top_p": 0.9, "seed": 3}


def ids(replies):
    return [reply.token_ids for reply in replies]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.9, "seed": [7, 8, 9, 7]}])
def test_replies_do_not_depend_on_the_batch(model, options):
    options = {"max_new_tokens": 8, **options}
    seeds = options.pop("seed", [0] * 4)
    together = model.generate(TALK, seed=seeds, **options)
    alone = [model.generate(talk, seed=seed, **options) for talk, seed in zip(TALK, seeds, strict=True)]
    assert together == alone
    assert model.generate(TALK, seed=seeds, batch_size=1, **options) == together
    assert model.generate(TALK * 2, seed=seeds * 2, batch_size=4, **options) == together * 2


def test_one_seed_for_all(model):
    first, second = model.generate([TALK[0]] * 2, **SAMPLED)
    assert first == second == model.generate(TALK[0], **SAMPLED)
    assert model.generate([TALK[0]] * 2, **SAMPLED | {"seed": [3, 4]})[0] == first


def test_without_a_seed_replies_differ(model):
    options = SAMPLED | {"seed": None}
    assert len({model.generate(TALK[0], **options).text for _ in range(3)}) > 1
    greedy = SAMPLED | {"seed": None, "temperature": 0.0}
    assert len({model.generate(TALK[0], **greedy).text for _ in range(3)}) == 1


def test_a_stream_is_the_reply_in_pieces(model):
    for talk in TALK[:2]:
        reply, pieces = model.generate(talk, **SAMPLED), list(model.stream(talk, **SAMPLED))
        assert len(pieces) > 5 and all(pieces)
        assert "".join(pieces) == reply.text == model.tokenizer.decode(reply.token_ids)


def test_what_a_reply_says_of_itself(model):
    reply = model.generate(TALK[1], **SAMPLED)
    assert reply.finish_reason == "length" and len(reply.token_ids) == 24
    assert reply.usage == Usage(len(model.prepare(TALK[1]).token_ids), 0, 24)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_stop_string_ends_a_reply_before_it(model, as_list):
    text = model.generate(TALK[1], **SAMPLED).text
    stop = text[5:8]
    given = [stop, "never seen"] if as_list else stop
    reply = model.generate(TALK[1], stop=given, **SAMPLED)
    assert reply.text == text[: text.index(stop)] and reply.finish_reason == "stop"
    assert 0 < reply.usage.completion_tokens < 24
    assert "".join(model.stream(TALK[1], stop=given, **SAMPLED)) == reply.text


def test_one_reply_stops_and_its_neighbours_go_on(model):
    free = model.generate(TALK, **SAMPLED)
    stop = free[1].text[5:8]
    for found, wanted in zip(model.generate(TALK, stop=stop, **SAMPLED), free, strict=True):
        assert found.text == wanted.text.split(stop)[0]
        assert found.finish_reason == ("stop" if stop in wanted.text else "length")


def test_an_end_token_ends_and_is_not_part_of_the_reply(tiny_checkpoint, tmp_path, model):
    wanted = model.generate(TALK[0], max_new_tokens=4, temperature=0.0)
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "ends")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": wanted.token_ids[2]}))
    reply = omni.load(directory, parts="text").generate(TALK[0], max_new_tokens=4)
    assert reply.token_ids == wanted.token_ids[:2] and reply.finish_reason == "stop"
    assert reply.usage.completion_tokens == 2 and reply.text == model.tokenizer.decode(wanted.token_ids[:2])


def test_token_ids_in_token_ids_out(model):
    prompt = model.prepare(TALK[1]).token_ids
    wanted = model.generate(TALK[1], max_new_tokens=5, temperature=0.0)
    for given in (prompt, prompt.tolist(), tuple(prompt.tolist()), prompt.astype(np.int64), list(prompt)):
        assert model.generate(given, max_new_tokens=5, temperature=0.0) == wanted
    assert model.generate([prompt.tolist(), TALK[1]], max_new_tokens=5, temperature=0.0) == [wanted] * 2
    assert model.generate(np.stack([prompt, prompt]), max_new_tokens=5, temperature=0.0) == [wanted] * 2
    assert "".join(model.stream(prompt.tolist(), max_new_tokens=5, temperature=0.0)) == wanted.text
    np.testing.assert_array_equal(model.logits(prompt.tolist()), model.logits(model.prepare(TALK[1])))
    inputs = model.prepare(prompt.tolist())
    np.testing.assert_array_equal(inputs.position_ids, np.broadcast_to(np.arange(len(prompt)), (3, len(prompt))))


def test_without_a_tokenizer(tiny_checkpoint, tmp_path, model):
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (directory / name).unlink()
    bare = omni.load(directory, parts=("text",))
    prompt = model.prepare(TALK[1]).token_ids.tolist()
    wanted, reply = (m.generate([prompt], max_new_tokens=5)[0] for m in (model, bare))
    assert (reply.token_ids, reply.usage, reply.text) == (wanted.token_ids, wanted.usage, "")
    np.testing.assert_array_equal(bare.logits(prompt), model.logits(prompt))
    for call in (
        lambda: bare.generate(TALK[0]),
        lambda: bare.generate(prompt, stop="a"),
        lambda: bare.stream(prompt),
        lambda: bare.chat().send("Hi"),
    ):
        with pytest.raises(omni.InputError) as error:
            call()
        assert error.value.code == "no_tokenizer"


def test_a_model_of_text_alone_takes_no_media(model, tmp_path, monkeypatch):
    roomy = text_families.CONFIGS["qwen3"] | {"vocab_size": tiny.VOCABULARY}
    monkeypatch.setitem(text_families.CONFIGS, "qwen3", roomy)
    text_families.write_checkpoint(tmp_path, "qwen3")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny.HERE / "tokenizer.json", tmp_path / name)
    embedding = model.encode(media.image("small"))
    with pytest.raises(omni.InputError) as error:
        omni.load(tmp_path).prepare([{"role": "user", "content": [{"type": "image", "image": embedding}]}])
    assert error.value.code == "no_media"


# --- options and their defaults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, GenerationConfig()),
        ({"eos_token_id": 5}, GenerationConfig((5,))),
        ({"eos_token_id": [5, 6], "temperature": 0.7}, GenerationConfig((5, 6))),
        ({"do_sample": True}, GenerationConfig((), 1.0, 1.0, 50)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.8, "top_k": 20}, GenerationConfig((), 0.6, 0.8, 20)),
        ({"do_sample": True, "eos_token_id": None, "top_k": None}, GenerationConfig((), 1.0, 1.0, 50)),
    ],
)
def test_generation_config(written, read):
    assert GenerationConfig.from_dict(written) == read


# What programs write into the file that says nothing of the next token.
NOTES = {
    "_from_model_config": True,
    "bos_token_id": 1,
    "cache_implementation": "static",
    "early_stopping": True,
    "length_penalty": 2.0,
    "max_new_tokens": 2048,
    "num_beams": 1,
    "pad_token_id": [1],
    "repetition_penalty": 1.0,
    "some_flag": False,
    "suppress_tokens": [],
    "talker_temperature": 0.9,
    "transformers_version": "5.23.0",
    "use_cache": True,
}


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    "field",
    [
        {"encoder_repetition_penalty": 1.05},
        {"num_beams": 4},
        {"no_repeat_ngram_size": 3},
        {"suppress_tokens": [5]},
        {"bad_words_ids": [[5]]},
        {"min_new_tokens": 2},
        {"stop_strings": ["end"]},
        {"guidance_scale": 1.5},
        {"some_future_field": 3},
    ],
    ids=str,
)
def test_a_field_that_changes_replies_and_is_not_read_is_named(field, sampled):
    ((name, value),) = field.items()
    with pytest.warns(
        UserWarning, match=rf"generation_config.json: fields that .*: {name}(={re.escape(repr(value))})?$"
    ):
        GenerationConfig.from_dict(NOTES | field | {"do_sample": sampled})


@pytest.mark.parametrize("name", ["typical_p", "epsilon_cutoff", "top_h"])
def test_a_field_of_sampling_matters_where_tokens_are_sampled(name):
    assert GenerationConfig.from_dict(NOTES | {name: 0.3}) == GenerationConfig()
    with pytest.warns(UserWarning, match=f"not applied: {name}=0.3$"):
        GenerationConfig.from_dict(NOTES | {name: 0.3, "do_sample": True})


def test_a_warning_names_only_so_many_fields():
    with pytest.warns(UserWarning) as caught:
        GenerationConfig.from_dict({f"field_{i}" + "x" * 500: "y" * 500 for i in range(500)} | {"num_beams": 2})
    assert all(len(str(warning.message)) < 700 for warning in caught) and len(caught) == 2


@pytest.mark.parametrize("written", [{"eos_token_id": "end"}, {"do_sample": True, "temperature": "hot"}])
def test_generation_config_that_holds_no_numbers(written):
    with pytest.raises(omni.CheckpointError, match="generation_config"):
        GenerationConfig.from_dict(written)


def test_the_checkpoints_own_sampling(tiny_checkpoint, tmp_path):
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "sampling")
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.8, "top_k": 20, "eos_token_id": [5, 6]}
    (directory / "generation_config.json").write_text(json.dumps(own))
    model = omni.load(directory, parts="text")

    def settings(**options):
        found = omni.GenerationOptions(**options).sampling(model.generation)
        return found.temperature, found.top_p, found.top_k

    assert omni.GenerationOptions().ends(model.generation) == {5, 6}
    assert omni.GenerationOptions(stop_tokens=[7]).ends(model.generation) == {5, 6, 7}
    assert settings() == (0.6, 0.8, 20)
    assert settings(temperature=0.0) == (0.0, 0.8, 20)
    assert settings(temperature=0.9, top_p=1.0, top_k=0) == (0.9, 1.0, 0)
    found, wanted = (
        model.generate(TALK[0], seed=4, max_new_tokens=8, **more).token_ids
        for more in ({}, {"temperature": 0.6, "top_p": 0.8, "top_k": 20})
    )
    assert found == wanted


def test_the_checkpoints_own_repetition_penalty(tiny_checkpoint, tmp_path):
    """Greedy as well, as the reference obeys it; and what the caller says goes before."""
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "penalty")
    (directory / "generation_config.json").write_text(json.dumps({"repetition_penalty": 5.0}))
    model = omni.load(directory, parts="text")
    own = model.generate(TALK[0], max_new_tokens=12).token_ids
    told = model.generate(TALK[0], max_new_tokens=12, repetition_penalty=5.0).token_ids
    free = model.generate(TALK[0], max_new_tokens=12, repetition_penalty=1.0).token_ids
    assert own == told != free
    for written in ("much", 0, -1):
        with pytest.raises(omni.CheckpointError, match="repetition_penalty"):
            GenerationConfig.from_dict({"repetition_penalty": written})


def test_a_sampling_option_turns_sampling_on(model):
    for options in ({"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}):
        assert omni.GenerationOptions(**options).sampling(model.generation).temperature == 1.0
    assert omni.GenerationOptions().sampling(model.generation).temperature == 0.0


def test_an_untrained_demo_says_so(tmp_path):
    shutil.copytree(find_directory("demo"), tmp_path / "demo")
    config = json.loads((tmp_path / "demo" / "config.json").read_text())
    (tmp_path / "demo" / "config.json").write_text(json.dumps(config | {"omni_demo": {"trained": False}}))
    demo = omni.load(tmp_path / "demo", parts="text")
    for answer in (
        lambda: demo.generate(TALK[0], max_new_tokens=2),
        lambda: list(demo.stream(TALK[0], max_new_tokens=2)),
        lambda: demo.chat(max_new_tokens=2).send("Hi"),
    ):
        with pytest.warns(UserWarning, match="untrained"):
            answer()
