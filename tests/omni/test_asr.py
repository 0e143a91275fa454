"""Qwen3-ASR against the reference, in both namings: spectrograms, embeddings, prompts, logits and greedy replies."""

import json
from pathlib import Path

import numpy as np
import pytest

import omni
from omni.checkpoint.load import parameter_shapes
from omni.checkpoint.safetensors import open_tensors
from omni.families import QWEN3_ASR
from omni.loading import abstract_parts
from omni.prompt.template import ChatTemplate
from processors import AudioProcessor, ImageConfig
from tests.golden import asr, media, tiny
from tests.golden.load import DATA, as_array, assert_stages, end_tokens, prepared, relative_error

STEPS = 12
NAMES = Path(__file__).parents[1] / "golden" / "asr_names.json"


@pytest.fixture(scope="module")
def expected():
    return np.load(DATA / "asr.npz"), json.loads((DATA / "asr.json").read_text("utf-8"))


@pytest.fixture(scope="module", params=asr.NAMINGS)
def model(request, tmp_path_factory):
    return omni.load(asr.write_checkpoint(tmp_path_factory.mktemp("asr"), request.param))


@pytest.fixture(scope="module")
def sounds(model):
    """Every clip, encoded in one call."""
    clips = [omni.Audio(media.audio(name), media.RATE) for name in asr.CLIPS]
    return dict(zip(asr.CLIPS, model.encode(clips, batch_size=len(clips)), strict=True))


def messages(sound, context=""):
    return [
        {"role": "system", "content": context},
        {"role": "user", "content": [{"type": "audio", "audio": sound}]},
    ]


def thinned(rows, wanted):
    return rows if len(rows) == len(wanted) else rows[::25]


@pytest.mark.parametrize("clip", asr.CLIPS)
def test_spectrograms(model, expected, clip):
    arrays, _ = expected
    mel = AudioProcessor.from_pretrained(model.name)(media.audio(clip)).mel
    assert mel.shape == (128, arrays[f"{clip}/frames"])
    wanted = arrays[f"{clip}/mel"]
    np.testing.assert_allclose(thinned(mel.T, wanted.T).T, wanted, atol=1e-5)


@pytest.mark.parametrize("clip", asr.CLIPS)
def test_embeddings_in_a_mixed_batch(sounds, expected, clip):
    wanted = expected[0][f"{clip}/tokens"]
    assert relative_error(thinned(sounds[clip].tokens, wanted), wanted) < 1e-5


@pytest.mark.parametrize("clip", asr.CLIPS)
def test_token_ids_and_logits(model, sounds, expected, clip):
    arrays, record = expected
    inputs = model.prepare(messages(sounds[clip]))
    wanted = {
        "prompt": as_array(record["prompts"][f"{clip}/plain"]),
        "token_ids": np.asarray(record["token_ids"][f"{clip}/plain"]),
        "positions": np.broadcast_to(np.arange(len(inputs.token_ids)), inputs.position_ids.shape),
        "logits": arrays[f"{clip}/plain/logits"],
    }
    ours = prepared(inputs) | {"logits": model.logits(inputs)[-len(wanted["logits"]) :]}
    assert_stages(clip, ours, wanted)


def test_greedy_replies_together(model, sounds, expected):
    ends = end_tokens(model)
    wanted = []
    for clip in asr.CLIPS:
        # The reference was made to go on after an end token; a reply ends there.
        greedy = expected[1]["greedy"][f"{clip}/plain"]
        wanted.append(greedy[: next((i for i, token in enumerate(greedy) if token in ends), STEPS)])
    replies = model.generate([messages(sounds[clip]) for clip in asr.CLIPS], max_new_tokens=STEPS)
    assert [reply.token_ids for reply in replies] == wanted


def test_alone_equals_in_a_batch(model, sounds):
    alone = model.encode(omni.Audio(media.audio("short"), media.RATE))
    assert relative_error(alone.tokens, sounds["short"].tokens) < 1e-6


def test_the_context_is_read(model, sounds, expected):
    arrays, record = expected
    inputs = model.prepare(messages(sounds["short"], "Dashwood, Elinor"))
    assert inputs.token_ids.tolist() == record["token_ids"]["short/context"]
    wanted = arrays["short/context/logits"]
    assert relative_error(model.logits(inputs)[-len(wanted) :], wanted) < 1e-5


def test_chat_and_stream(model):
    clip = omni.Audio(media.audio("second"), media.RATE)
    said = "".join(model.stream(messages(clip), max_new_tokens=6))
    chat = model.chat(max_new_tokens=6)
    assert chat.send([{"type": "audio", "audio": clip}]).text == said
    assert chat.send([{"type": "audio", "audio": clip}]).usage.prompt_tokens > 2 * 13


def test_words_of_a_user_are_refused_rather_than_dropped(model):
    with pytest.raises(omni.InputError, match="reads only recordings"):
        model.prepare([{"role": "user", "content": "Hello"}])


def test_pictures_are_refused(model):
    picture = Path(__file__).parents[2] / "samples" / "china.jpg"
    with pytest.raises(omni.InputError, match="no vision part"):
        model.encode(picture)


def test_the_default_template_is_the_familys(tmp_path):
    assert ChatTemplate.from_directory(tmp_path, default=QWEN3_ASR.template).source == asr.TEMPLATE.read_text("utf-8")


def test_saved_in_its_own_naming(model, tmp_path):
    model.save(tmp_path / "saved")
    origin = Path(model.name)
    here, there = open_tensors(tmp_path / "saved"), open_tensors(origin)
    # The tied output head is written once.
    assert set(here) == {name for name in there if "lm_head" not in name}
    assert all(here[name].array.tobytes() == there[name].array.tobytes() for name in here)
    again = omni.load(tmp_path / "saved")
    assert again.config == model.config
    assert again.media.audio.config == model.media.audio.config


@pytest.mark.parametrize("naming", asr.NAMINGS)
@pytest.mark.parametrize(("size", "millions"), [("0.6B", 782), ("1.7B", 2038)])
def test_every_published_tensor_has_one_place(size, naming, millions):
    config = QWEN3_ASR.read(asr.real_config(size, naming))
    shapes = parameter_shapes(abstract_parts(config, ImageConfig()))
    sources = QWEN3_ASR.sources(config)
    assert shapes.keys() == sources.keys()
    ours = {name: list(shape) for path in shapes for name, _, shape in sources[path].pieces(shapes[path].shape)}
    published = {}
    for pattern, entry in json.loads(NAMES.read_text())[f"{size} {naming}"].items():
        for layer in range(entry["count"]):
            canonical = QWEN3_ASR.canonical(pattern.format(layer))
            assert canonical not in published, canonical
            published[canonical] = entry["shape"]
    head = published.pop("lm_head.weight", None)
    assert head == (published["model.embed_tokens.weight"] if naming == "thinker" else None)
    assert ours == published
    assert sum(leaf.size for leaf in shapes.values()) // 1_000_000 == millions


def test_an_output_head_that_differs_from_the_embedding_is_refused(tmp_path):
    directory = asr.write_checkpoint(tmp_path, "thinker")
    values = asr.in_naming("thinker")
    values["thinker.lm_head.weight"] = values["thinker.lm_head.weight"] + 1
    tiny.write_safetensors(directory / "model.safetensors", values)
    with pytest.raises(omni.CheckpointError, match="ties lm_head"):
        omni.load(directory)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"thinker_config": {}}, "lacks audio_config, text_config"),
        ({"architectures": ["Qwen3ASRForTokenClassification"]}, "forced aligner"),
        ({"support_languages": "English"}, "support_languages"),
    ],
)
def test_configs_that_cannot_be_used(change, sentence):
    with pytest.raises(omni.CheckpointError, match=sentence):
        QWEN3_ASR.read(asr.config("thinker") | change)
