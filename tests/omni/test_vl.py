"""Qwen3-VL and Qwen3.5, dense and MoE, against the reference: token ids and positions exact, logits to 1e-5, greedy
continuations equal; pictures and clips together, apart, and over several turns."""

import json

import jax
import numpy as np
import pytest

import omni
from omni.checkpoint.safetensors import open_tensors
from omni.families import QWEN3_VL
from omni.generation.buckets import Buckets
from omni.training.example import make_example
from tests.golden import media, tiny, vl
from tests.golden.load import DATA, as_array, assert_stages, end_tokens, prepared, relative_error, with_media


@pytest.fixture(scope="module")
def expected():
    records = json.loads((DATA / "vl.json").read_text("utf-8"))
    with np.load(DATA / "vl.npz") as archive:
        return records, dict(archive)


@pytest.fixture(scope="module", params=vl.NAMES)
def loaded(request, tmp_path_factory):
    model = omni.load(vl.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))
    # Few programs to compile: one conversation at a time or all, in parts of 128 tokens, which cut pictures and clips.
    model.engine.buckets = Buckets((1, len(vl.CONVERSATIONS)), (128,), 128 * len(vl.CONVERSATIONS))
    return request.param, model


@pytest.mark.parametrize("case", vl.CONVERSATIONS)
def test_a_conversation(loaded, expected, case):
    name, model = loaded
    record, arrays = expected[0][name][case], expected[1]
    inputs = model.prepare(with_media(vl.CONVERSATIONS[case]))
    wanted = {
        "prompt": as_array(record["prompt"]),
        "token_ids": np.asarray(record["token_ids"]),
        "positions": arrays[f"{name}/{case}/position_ids"],
        "positions/next": np.asarray([record["next_position"]]),
        "logits": arrays[f"{name}/{case}/logits"],
    }
    ours = prepared(inputs) | {"logits": model.logits(inputs)[arrays[f"{name}/{case}/logits_at"]]}
    assert_stages(case, ours, wanted)


def test_greedy_continuations_all_in_one_batch(loaded, expected):
    name, model = loaded
    ends = end_tokens(model)
    replies = model.generate([with_media(m) for m in vl.CONVERSATIONS.values()], max_new_tokens=12, temperature=0.0)
    for case, reply in zip(vl.CONVERSATIONS, replies, strict=True):
        wanted = expected[0][name][case]["greedy"]
        stop = next((i for i, token in enumerate(wanted) if token in ends), len(wanted))
        assert reply.token_ids == wanted[:stop], case


@pytest.mark.parametrize("case", ["images", "videos"])
def test_embeddings(loaded, expected, case):
    name, model = loaded
    arrays = expected[1]
    parts = [part for part in with_media(vl.CONVERSATIONS[case])[0]["content"] if part["type"] != "text"]
    given = [omni.Image(p["image"]) if p["type"] == "image" else omni.Video(p["video"], p["fps"]) for p in parts]
    found = model.encode(given)
    keys = {"pixels": "grid_thw", "vision": "tokens", "deepstack": "deepstack"}
    wanted = {stage: arrays[f"{name}/{case}/{key}"] for stage, key in keys.items() if f"{name}/{case}/{key}" in arrays}
    ours = {"pixels": np.asarray([e.grid_thw for e in found]), "vision": np.concatenate([e.tokens for e in found])}
    if "deepstack" in wanted:
        ours["deepstack"] = np.concatenate([e.deepstack for e in found], axis=1)[:, ::4]
    else:
        assert all(e.deepstack is None for e in found)
    assert_stages(case, ours, wanted)


@pytest.mark.parametrize("turned", [False, True])
def test_experts_either_way_round_are_read_and_saved_as_they_lay(loaded, tmp_path, turned):
    name, model = loaded
    source = vl.write_checkpoint(tmp_path / "source", name, turned=turned)
    again = omni.load(source)
    ids = list(range(20))
    np.testing.assert_array_equal(again.logits(ids), model.logits(ids))
    again.save(tmp_path / "saved", max_shard_size="300KB")
    before, after = (
        {key: tensor.array for key, tensor in open_tensors(place).items()} for place in (source, tmp_path / "saved")
    )
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_experts_over_a_mesh(loaded, tmp_path):
    name, model = loaded
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()).reshape(1, -1), ("data", "model"))
    spread = omni.load(vl.write_checkpoint(tmp_path, name), mesh=mesh)
    ids = list(range(20))
    assert relative_error(spread.logits(ids), model.logits(ids)) < 1e-6


@pytest.mark.parametrize("layout", ["", "model."])
def test_older_prefixes(loaded, tmp_path, layout):
    """`visual.` and `model.layers.` at the top, and parts without an outer prefix."""
    name, model = loaded
    vl.write_checkpoint(tmp_path, name)
    kept = {
        key.replace("model.visual.", "visual.").replace("model.language_model.", layout or "language_model."): value
        for key, value in vl.tensors(name).items()
    }
    tiny.write_safetensors(tmp_path / "model.safetensors", kept)
    ids = list(range(20))
    np.testing.assert_array_equal(omni.load(tmp_path).logits(ids), model.logits(ids))


def test_chat_reads_only_what_is_new_and_answers_as_generate_does(loaded):
    _, model = loaded
    chat = model.chat(max_new_tokens=4, temperature=0.0)
    film, fps = media.video("crooked")
    first = chat.send("What moves?", omni.Video(film, fps), media.image("small"))
    assert "".join(model.stream(chat.messages[:1], max_new_tokens=4, temperature=0.0)) == first.text
    before, asked = chat._reusable, {"role": "user", "content": "Which way?"}
    second = chat.send(asked["content"])
    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    inputs = model.prepare_turn([*chat.messages[:2], asked], before)
    best = np.argmax(model.logits(inputs)[-1])
    assert second.usage.prompt_tokens == len(inputs.token_ids)
    assert second.token_ids[:1] == [best] or best in end_tokens(model)


def test_training_lays_out_what_chat_reads(loaded):
    _, model = loaded
    messages = [*with_media(vl.CONVERSATIONS["together"]), {"role": "assistant", "content": "A disc."}]
    example, inputs = make_example(model, messages), model.prepare(messages, add_generation_prompt=False)
    np.testing.assert_array_equal(example.token_ids, inputs.token_ids)
    np.testing.assert_array_equal(example.position_ids, inputs.position_ids)


def test_sound_is_refused(loaded):
    _, model = loaded
    with pytest.raises(omni.InputError, match="no audio part") as error:
        model.encode(omni.Audio(media.audio("short"), media.RATE))
    assert error.value.code == "no_media"
    film, fps = media.video("four")
    with pytest.raises(omni.InputError, match="no audio part"):
        model.encode(omni.Video(film, fps, audio=omni.Audio(media.soundtrack("four"), media.RATE)))
    heard = omni.Embedding("audio", np.zeros((3, 64), np.float32))
    with pytest.raises(omni.InputError, match="does not read media of kind audio"):
        model.prepare([{"role": "user", "content": [{"type": "audio", "audio": heard}]}])


def test_an_embedding_stands_for_its_medium(loaded, tmp_path):
    _, model = loaded
    film, fps = media.video("crooked")
    seen = model.encode(omni.Video(film, fps))
    assert seen.timestamps == pytest.approx([1 / 6, 5 / 6, 4 / 3])
    seen.save(tmp_path / "film.safetensors")

    def ask(video):
        return model.prepare([{"role": "user", "content": [{"type": "video", "video": video}, "What moves?"]}])

    read, saved = ask(omni.Video(film, fps)), ask(omni.Embedding.load(tmp_path / "film.safetensors"))
    np.testing.assert_array_equal(saved.token_ids, read.token_ids)
    np.testing.assert_array_equal(saved.position_ids, read.position_ids)
    without = omni.Embedding("video", seen.tokens, seen.deepstack, seen.grid_thw, seen.seconds_per_grid)
    with pytest.raises(omni.InputError, match="lacks the times of its"):
        ask(without)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_config": None}, "lacks vision_config"),
        ({"image_token_id": None}, "lacks image_token_id"),
        ({"text_config": None}, "lacks text_config"),
        ({"text_config": {"norm_topk_prob": False}}, "norm_topk_prob"),
        ({"text_config": {"attention_sinks": True}}, "attention_sinks"),
    ],
)
@pytest.mark.parametrize("name", ["vl_moe", "qwen3_5_moe"])
def test_configs_that_are_refused(tmp_path, name, change, message):
    vl.write_checkpoint(tmp_path, name)
    if change.get("text_config"):
        change = {"text_config": vl.TEXT[name] | change["text_config"]}
    (tmp_path / "config.json").write_text(json.dumps(vl.config(name) | change))
    with pytest.raises(omni.CheckpointError, match=message):
        omni.load(tmp_path)


def test_a_config_as_transformers_5_writes_it():
    old = vl.config("vl_moe")
    text = dict(old["text_config"])
    rope = {**text.pop("rope_scaling"), "rope_theta": text.pop("rope_theta")}
    text |= {"rope_parameters": rope, "num_local_experts": text.pop("num_experts"), "tie_word_embeddings": True}
    assert QWEN3_VL.read({**old, "text_config": text}) == QWEN3_VL.read(old)


def test_tied_by_the_outer_config_or_the_inner_one():
    def read(outer, inner):
        raw = {**vl.config("vl"), "text_config": {**vl.TEXT["vl"], "tie_word_embeddings": inner}}
        raw = {**raw, "tie_word_embeddings": outer} if outer is not None else dict(raw)
        if outer is None:
            del raw["tie_word_embeddings"]
        return QWEN3_VL.read(raw).text.tie_word_embeddings

    assert read(None, True) and read(True, False) and not read(False, True) and not read(None, False)
