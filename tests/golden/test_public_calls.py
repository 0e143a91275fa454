"""The golden data that other tests compare with inner parts, compared through public calls alone.

What is inside may be laid out anew under these tests: they know `omni.load` and the methods of a model, the processors,
the encoders as NNX and as Linen modules, whose rows are made as in samples/encoders_alone.py, and names of parameters,
which test_parameters.py freezes. Conversations, their logits and replies, vectors and gradients are compared so in the
tests of `omni`; README.md has the table.
"""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import Tokenizer

import omni
from encoders import AudioConfig, VisionConfig, linen
from encoders.buckets import audio_calls, vision_calls
from processors import AudioProcessor, ImageProcessor, VideoProcessor
from tests.golden import asr, media, tiny
from tests.golden.load import DATA, end_tokens, relative_error

# As in the tests of the encoders, whose data these are.
TOWERS, DECODER = 5e-6, 1e-5


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


def image(name):
    return omni.Image(media.image(name))


def audio(name):
    return omni.Audio(media.audio(name), media.RATE)


def video(name):
    return omni.Video(*media.video(name))


# --- processors and towers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in media.IMAGES if name != "large"])
def test_patches_of_images(tiny_checkpoint, golden, name):
    made = ImageProcessor.from_pretrained(tiny_checkpoint)([media.image(name)])
    np.testing.assert_array_equal(made.pixels, golden.vision[f"{name}/pixels"])
    np.testing.assert_array_equal(made.grid_thw[0], golden.vision[f"{name}/grid_thw"])


@pytest.mark.parametrize("name", media.VIDEO)
def test_grids_of_videos(tiny_checkpoint, golden, name):
    frames, fps = media.video(name)
    made = VideoProcessor.from_pretrained(tiny_checkpoint)(frames, fps=fps)
    np.testing.assert_array_equal(made.grid_thw[0], golden.vision[f"{name}/grid_thw"])
    assert made.seconds_per_grid == pytest.approx(float(golden.vision[f"{name}/seconds_per_grid"]))


@pytest.mark.parametrize("name", media.AUDIO)
def test_spectrograms(tiny_checkpoint, golden, name):
    mel = AudioProcessor.from_pretrained(tiny_checkpoint)(media.audio(name), media.RATE).mel
    wanted = golden.audio[f"{name}/mel"]
    assert mel.shape == (128, golden.audio[f"{name}/frames"])
    np.testing.assert_allclose(mel if mel.shape == wanted.shape else mel[:, ::25], wanted, atol=1e-5)


VISUAL = {"small": image, "odd": image, "wide": image, "crooked": video}
AUDIBLE = ("tenth", "uneven", "window")


@pytest.fixture(scope="module")
def encoded(model):
    """Images, a video and audio, in one call; the tests of the encoders have all that there are."""
    sources = {name: source(name) for name, source in VISUAL.items()} | {name: audio(name) for name in AUDIBLE}
    return dict(zip(sources, model.encode(list(sources.values())), strict=True))


@pytest.mark.parametrize("name", VISUAL)
def test_embeddings_of_images_and_videos(encoded, golden, name):
    result, every = encoded[name], 4 if name in media.VIDEO else 1
    assert result.grid_thw == tuple(golden.vision[f"{name}/grid_thw"].tolist())
    assert relative_error(result.tokens, golden.vision[f"{name}/tokens"]) < TOWERS
    for ours, theirs in zip(result.deepstack[:, ::every], golden.vision[f"{name}/deepstack"], strict=True):
        assert relative_error(ours, theirs) < TOWERS


@pytest.mark.parametrize("name", AUDIBLE)
def test_embeddings_of_audio(encoded, golden, name):
    assert encoded[name].deepstack is None
    assert relative_error(encoded[name].tokens, golden.audio[f"{name}/tokens"]) < TOWERS


@pytest.fixture(scope="module")
def vision_rows(golden, model):
    (call,) = vision_calls(golden.vision["small/pixels"], golden.vision["small/grid_thw"][None], model.config.vision, 1)
    return call.rows


@pytest.fixture(scope="module")
def audio_rows(tiny_checkpoint, model):
    mel = AudioProcessor.from_pretrained(tiny_checkpoint)(media.audio("uneven"), media.RATE).mel
    (call,) = audio_calls([mel], model.config.audio)
    return call.rows


@nnx.jit
def run_module(module, *values):
    return module(*values)


def run_linen(module, params, *values):
    return jax.jit(module.apply)({"params": linen.to_linen(params)}, *values)


@pytest.mark.parametrize("form", ["nnx", "linen"])
def test_modules_of_the_vision_tower(model, golden, vision_rows, form):
    tower, config = model.parts.vision, model.config.vision
    if form == "nnx":
        result = run_module(tower.projector, run_module(tower.encoder, *vision_rows))
    else:
        hidden = run_linen(linen.VisionEncoder(config), tower.encoder, *vision_rows)
        result = run_linen(linen.VisionProjector(config), tower.projector, hidden)
    count = len(golden.vision["small/tokens"])
    assert relative_error(result.tokens[0, :count], golden.vision["small/tokens"]) < TOWERS
    assert relative_error(result.deepstack[:, 0, :count], golden.vision["small/deepstack"]) < TOWERS


@pytest.mark.parametrize("form", ["nnx", "linen"])
def test_modules_of_the_audio_tower(model, golden, audio_rows, form):
    tower, config = model.parts.audio, model.config.audio
    if form == "nnx":
        hidden = run_module(tower.encoder, *audio_rows)
        result = run_module(tower.projector, hidden)
    else:
        hidden = run_linen(linen.AudioEncoder(config), tower.encoder, *audio_rows)
        result = run_linen(linen.AudioProjector(config), tower.projector, hidden)
    count = int(audio_rows.lengths[0])
    assert relative_error(hidden[0, :count], golden.stages["audio/ln_post"]) < TOWERS
    assert relative_error(result[0, :count], golden.audio["uneven/tokens"]) < TOWERS


# --- stages, by parameters that let layers through --------------------------------------------------------------------


def silenced(stack, names, first=0):
    """A stack of layers of which those from the first on add nothing: the named matrices and biases are zero."""
    for *path, last in (name.split(".") for name in names):
        place = stack
        for key in path:
            place = place[key]
        place[last] = {leaf: value.at[first:].set(0) for leaf, value in place[last].items()}


def copied(tree):
    return {key: copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


def test_stages_of_the_vision_tower(model, golden, vision_rows):
    config: VisionConfig = model.config.vision
    whole = linen.VisionEncoder(replace(config, deepstack_visual_indexes=tuple(range(config.depth))))
    run, count = jax.jit(whole.apply), len(golden.vision["small/pixels"])
    params = linen.to_linen(model.parts.vision.encoder)
    stages = {f"block{i}": block[0] for i, block in enumerate(run({"params": params}, *vision_rows).deepstack)}
    assert len(stages) == config.depth
    params = copied(params)
    silenced(params["blocks"], ("attn.proj", "mlp.linear_fc2"))
    stages["positions_added"] = run({"params": params}, *vision_rows).last[0]
    params["pos_embed"] = {"weight": jnp.zeros_like(params["pos_embed"]["weight"])}
    stages["patch_embed"] = run({"params": params}, *vision_rows).last[0]
    for name, stage in stages.items():
        assert relative_error(stage[:count], golden.stages[f"vision/{name}"]) < TOWERS, name


def test_stages_of_the_audio_tower(model, golden, audio_rows):
    """Each as the last norm without its weights has it."""
    config: AudioConfig = model.config.audio
    run, count = jax.jit(linen.AudioEncoder(config).apply), int(audio_rows.lengths[0])
    for layers in range(config.encoder_layers + 1):
        params = copied(linen.to_linen(model.parts.audio.encoder))
        silenced(params["layers"], ("self_attn.out_proj", "fc2"), layers)
        params["ln_post"] = {"weight": jnp.ones(config.d_model), "bias": jnp.zeros(config.d_model)}
        result = run({"params": params}, *audio_rows)[0, :count]
        stage = golden.stages[f"audio/layer{layers - 1}" if layers else "audio/positions_added"].astype(np.float64)
        centred = stage - stage.mean(-1, keepdims=True)
        assert relative_error(result, centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)) < TOWERS, layers


def write_decoder(directory, layers):
    """A checkpoint of which the decoder's first layers alone add something, and whose scores are its hidden states."""
    tiny.write_checkpoint(directory, shards=1)
    silent = [f"model.layers.{i}." for i in range(layers, tiny.TEXT["num_hidden_layers"])]
    values = {
        name: value * np.float32(not (name.startswith(tuple(silent)) and name.endswith(ADDED)))
        for name, value in tiny.tensors()
    }
    width = len(values["model.norm.weight"])
    values["model.norm.weight"] = np.ones(width, np.float32)
    values["lm_head.weight"] = np.eye(tiny.VOCABULARY, width, dtype=np.float32)
    tiny.write_safetensors(directory / "model.safetensors", {f"thinker.{key}": v for key, v in values.items()})
    return directory


ADDED = (".o_proj.weight", ".down_proj.weight")


@pytest.mark.parametrize("layers", range(6))
def test_stages_of_the_decoder(model, golden, tmp_path, layers):
    """Each as the last norm without its weights has it, after the deepstack rows that are still to come are added."""
    inputs = model.prepare(golden.case("image").with_media())
    stage = golden.stages[f"text/layer{layers - 1}" if layers else "text/embedded"].astype(np.float64)
    seen = inputs.token_ids == tiny.token_ids()["<|image_pad|>"]
    stage[seen] += golden.vision["small/deepstack"][max(layers, 1) - 1 :].sum(0)
    result = omni.load(write_decoder(tmp_path, layers), parts=("vision", "text")).logits(inputs)
    wanted = stage / np.sqrt((stage**2).mean(-1, keepdims=True) + 1e-6)
    assert relative_error(result[:, : wanted.shape[1]], wanted) < DECODER


def test_the_last_hidden_state(model, golden):
    last = golden.stages["text/norm"][-1]
    result = model.embed(model.prepare(golden.case("image").with_media()))
    assert relative_error(result, last / np.linalg.norm(last)) < DECODER


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image", "video_sound_four"])
def test_streams_and_chats_write_the_references_tokens(model, golden, name):
    case = golden.case(name)
    (message,) = case.with_media()
    for part in message["content"] if isinstance(message["content"], list) else ():
        if part["type"] == "video" and "audio" in part:
            part["audio"] = omni.Audio(part["audio"], media.RATE)
    ends = end_tokens(model)
    stop = next((i for i, token in enumerate(case.greedy) if token in ends), len(case.greedy))
    text = Tokenizer.from_file(str(DATA.parent / "tokenizer.json")).decode(case.greedy[:stop])
    options = {"max_new_tokens": len(case.greedy), "temperature": 0.0}
    assert "".join(model.stream([message], **options)) == text
    reply = model.chat(**options).send(message["content"])
    assert (reply.token_ids, reply.text) == (case.greedy[:stop], text)
    assert reply.usage.prompt_tokens == len(case.token_ids)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return omni.load(asr.write_checkpoint(tmp_path_factory.mktemp("asr"), "hf"))


RECORD = json.loads((DATA / "asr.json").read_text("utf-8"))


@pytest.mark.filterwarnings("ignore:the text from")
@pytest.mark.parametrize(
    ("kind", "options"),
    [("forced", {"language": "German"}), ("both", {"language": "en", "context": "Dashwood, Elinor"})],
)
def test_transcripts_are_the_references(recogniser, kind, options):
    greedy = RECORD["greedy"][f"short/{kind}"][:6]
    result = recogniser.transcribe(audio("short"), max_new_tokens=len(greedy), **options)
    assert result.text == Tokenizer.from_file(str(DATA.parent / "tokenizer.json")).decode(greedy).strip()
    assert result.language == RECORD["languages"].get(options["language"], options["language"])


@pytest.mark.filterwarnings("ignore:the text from")
def test_languages_are_the_references(recogniser):
    for code, name in RECORD["languages"].items():
        assert recogniser.transcribe(audio("tenth"), code, max_new_tokens=1).language == name


# --- random layouts ---------------------------------------------------------------------------------------------------

IMAGE, VIDEO, AUDIO, VISION_START, VISION_END, AUDIO_START, AUDIO_END = range(100, 107)  # as in make_layout.py
KINDS = {IMAGE: "image", VIDEO: "video", AUDIO: "audio"}
TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% elif part.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endfor %}"
)


def embedding(kind, count, grid, seconds, audio_tokens):
    rows = partial(np.zeros, dtype=np.float32)
    if kind == "audio":
        return omni.Embedding("audio", rows((count, 64)))
    track = omni.Embedding("audio", rows((audio_tokens, 64))) if audio_tokens >= 0 else None
    seconds = float(seconds) if kind == "video" else None
    return omni.Embedding(kind, rows((count, 64)), rows((3, count, 64)), tuple(grid), seconds, track)


def as_message(prompt, embeddings):
    """The message that a prompt stands for: each text token a digit, which is a token whatever its neighbours."""
    content, embeddings = [], iter(embeddings)
    for token in prompt:
        if token in KINDS:
            content.append({"type": KINDS[token], KINDS[token]: next(embeddings)})
        elif token < IMAGE:
            content.append(str(token % 10))
    return {"role": "user", "content": content}


def test_random_layouts_are_the_references(tmp_path):
    """Every fifth of them."""
    tiny.write_checkpoint(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), "utf-8")
    model = omni.load(tmp_path)
    ids = tiny.token_ids()
    marks = ("image_pad", "video_pad", "audio_pad", "vision_start", "vision_end", "audio_start", "audio_end")
    table = np.asarray([ids[str(token % 10)] for token in range(IMAGE)] + [ids[f"<|{mark}|>"] for mark in marks])
    with np.load(DATA / "layout.npz") as archive:
        arrays = dict(archive)
    names = [name for name in arrays if not name.endswith("_ends")]
    axes = {name: int(name == "position_ids") for name in names}
    split = {name: np.split(arrays[name], arrays[f"{name}_ends"][:-1], axes[name]) for name in names}
    for i in range(0, len(split["prompt"]), 5):
        rows = zip(split["media"][i].tolist(), split["seconds"][i].tolist(), strict=True)
        embeddings = [
            embedding(KINDS[token], count, grid, seconds, track) for (token, count, *grid, track), seconds in rows
        ]
        result = model.prepare([as_message(split["prompt"][i].tolist(), embeddings)], add_generation_prompt=False)
        np.testing.assert_array_equal(result.token_ids, table[split["token_ids"][i]], err_msg=str(i))
        np.testing.assert_array_equal(result.position_ids, split["position_ids"][i], err_msg=str(i))
        assert result.next_position == split["next_position"][i][0], i
