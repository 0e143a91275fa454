"""Weights that are edited are seen: every call uses what `save` writes."""

import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import omni
from omni.checkpoint.safetensors import open_tensors
from tests.golden import media, text_families, tiny
from tests.omni.scheduling import afresh

PICTURE, SOUND = media.image("small"), omni.Audio(media.audio("short"), media.RATE)
ASK = [{"role": "user", "content": "Hi"}]
SHOWN = [{"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "What is it?"}]}]
OPTIONS = {"max_new_tokens": 4, "temperature": 0.0}


def answers(model):
    """What every public call gives that weights have a part in, by the part that it shows first."""
    picture = model.encode(PICTURE)
    return {
        "vision": picture.tokens,
        "deepstack": picture.deepstack,
        "audio": model.encode(SOUND).tokens,
        "logits": model.logits(model.prepare(ASK)),
        "shown": model.logits(model.prepare(SHOWN)),
        "embed": model.embed("text"),
        "embed image": model.embed(PICTURE),
        "generate": np.asarray(model.generate(ASK, **OPTIONS).token_ids),
    }


def assert_same(left, right):
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def noisy(weight, scale=0.5):
    noise = np.random.default_rng(0).normal(size=weight.shape) * scale
    return weight + jnp.asarray(noise, weight.dtype)


def set_value(module, name):
    variable = getattr(module, name)
    variable.set_value(noisy(variable.get_value()))


def write_in_place(module, name):
    getattr(module, name)[...] = noisy(getattr(module, name)[...])


def another_variable(module, name):
    setattr(module, name, nnx.Param(noisy(getattr(module, name).get_value())))


def update(module, name):
    nnx.update(module, jax.tree.map(noisy, nnx.state(module)))


def numpy_value(module, name):
    variable = getattr(module, name)
    variable.set_value(np.asarray(noisy(variable.get_value())))


def another_module(module, name):
    graph, state = nnx.split(module.proj1)
    module.proj1 = nnx.merge(graph, jax.tree.map(noisy, state))


VISION, AUDIO = {"vision", "deepstack", "shown", "embed image"}, {"audio"}
TEXT = {"logits", "shown", "embed", "embed image"}
EDITS = {
    "patches": (set_value, lambda parts: parts.vision.encoder.patch_embed.proj, "weight", VISION),
    "positions": (another_variable, lambda parts: parts.vision.encoder.pos_embed, "weight", VISION),
    "block": (write_in_place, lambda parts: parts.vision.encoder.blocks.attn.qkv, "bias", VISION),
    "merger": (update, lambda parts: parts.vision.projector.merger, "", VISION - {"deepstack"}),
    "deepstack": (
        numpy_value,
        lambda parts: parts.vision.projector.deepstack_mergers.linear_fc2,
        "bias",
        {"deepstack", "shown", "embed image"},
    ),
    "audio": (set_value, lambda parts: parts.audio.encoder.ln_post, "weight", AUDIO),
    "audio projector": (another_module, lambda parts: parts.audio.projector, "", AUDIO),
    "embedding": (write_in_place, lambda parts: parts.text.embed_tokens, "weight", TEXT),
    "layers": (set_value, lambda parts: parts.text.layers.self_attn.o_proj, "weight", TEXT),
    "norm": (another_variable, lambda parts: parts.text.norm, "weight", TEXT),
    "head": (update, lambda parts: parts.text.lm_head, "", {"logits", "shown"}),
}


@pytest.fixture(scope="module")
def edited(tiny_checkpoint):
    """A model that each test edits further, and what it answers."""
    model = omni.load(tiny_checkpoint)
    return model, answers(model)


@pytest.mark.parametrize("name", EDITS)
def test_every_call_uses_what_is_saved(edited, tmp_path, name):
    edit, module, attribute, changed = EDITS[name]
    model, before = edited[0], dict(edited[1])
    edit(module(model.parts), attribute)
    edited[1].update(answers(model))
    differing = {key for key in before if not np.array_equal(before[key], edited[1][key])}
    assert differing - {"generate"} == changed  # the tokens of a reply may stay the same with other scores
    model.save(tmp_path)
    assert_same(edited[1], answers(omni.load(tmp_path)))


def test_other_parts_in_the_places_of_those_that_were_loaded(tiny_checkpoint, tmp_path):
    model, other = omni.load(tiny_checkpoint), omni.load(tiny_checkpoint)
    answers(model)
    for part in (other.parts.vision.encoder.patch_embed.proj, other.parts.audio.projector.proj1, other.parts.text.norm):
        set_value(part, "weight")
    for name in ("vision", "audio", "text"):
        setattr(model.parts, name, getattr(other.parts, name))
    assert_same(answers(model), answers(other))
    model.parts = omni.load(tiny_checkpoint).parts
    assert_same(answers(model), answers(omni.load(tiny_checkpoint)))
    del model.parts.text
    with pytest.raises(omni.InputError) as error:
        model.generate(ASK)
    assert error.value.code == "part_not_loaded"


def test_a_reply_goes_on_with_the_weights_that_it_began_with(tiny_checkpoint):
    model = omni.load(tiny_checkpoint)
    options = {"max_new_tokens": 12, "temperature": 0.0}
    whole = model.generate(ASK, **options).text
    stream = model.stream(ASK, **options)
    begun = next(stream)
    set_value(model.parts.text.norm, "weight")
    update(model.parts.text.lm_head, "")
    assert begun + "".join(stream) == whole != model.generate(ASK, **options).text


def test_a_conversation_forgets_what_other_weights_made_of_it(tiny_checkpoint, tmp_path, monkeypatch):
    model, prepared = omni.load(tiny_checkpoint), []
    prepare = model.prepare_turn
    monkeypatch.setattr(model, "prepare_turn", lambda *given: (prepared.append(prepare(*given)), prepared[-1])[1])
    chat = model.chat(**OPTIONS)
    chat.send("What is it?", PICTURE)
    assert chat.send("Sure?").usage.cached_tokens > 0
    for part in (model.parts.vision.encoder.patch_embed.proj, model.parts.text.layers.self_attn.o_proj):
        set_value(part, "weight")
    reply = chat.send("Really?")
    assert reply.usage.cached_tokens == 0
    model.save(tmp_path)
    again = omni.load(tmp_path)
    np.testing.assert_array_equal(prepared[2].media[0].tokens, again.encode(PICTURE).tokens)
    assert (prepared[0].media[0].tokens != prepared[2].media[0].tokens).any()
    ends = frozenset(again.generation.eos_token_ids)
    assert reply.token_ids == afresh(again, prepared[2].to_prompt(), OPTIONS["max_new_tokens"], ends)
    assert chat.send("And now?").usage.cached_tokens > 0


def test_an_embedding_that_is_the_output_head_too(tmp_path):
    model = omni.load(text_families.write_checkpoint(tmp_path / "source", "qwen3_tied"), dtype="bfloat16")
    ids = list(range(20))
    before = model.logits(ids)
    set_value(model.parts.text.embed_tokens, "weight")
    after = model.logits(ids)
    assert np.abs(after - before).max() > 0
    model.save(tmp_path / "saved")
    again = omni.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.logits(ids), after)
    assert again.generate(ids, **OPTIONS).token_ids == model.generate(ids, **OPTIONS).token_ids


def test_float32_that_an_edit_needs_is_saved(tmp_path):
    """Of a stack of bfloat16 with one layer in float32, which is float32 in memory, any layer may be edited."""
    source = text_families.write_checkpoint(tmp_path / "source", "qwen3")
    name = "model.layers.{}.input_layernorm.weight"
    values = {key: tensor.array.astype(ml_dtypes.bfloat16) for key, tensor in open_tensors(source).items()}
    values[name.format(1)] = values[name.format(1)].astype(np.float32)
    for file in source.glob("*.safetensors*"):
        file.unlink()
    write = {key: jax.ShapeDtypeStruct(array.shape, array.dtype) for key, array in values.items()}
    omni.checkpoint.safetensors.write_tensors(source / "model.safetensors", write, iter(values.values()))
    model = omni.load(source)
    weight = model.parts.text.layers.input_layernorm.weight
    weight.set_value(weight.get_value().at[2].multiply(1.001))
    after = model.logits([1, 2, 3])
    model.save(tmp_path / "saved")
    dtypes = [open_tensors(tmp_path / "saved")[name.format(i)].array.dtype.name for i in range(3)]
    assert dtypes == ["bfloat16", "float32", "float32"]
    np.testing.assert_array_equal(omni.load(tmp_path / "saved").logits([1, 2, 3]), after)


def lengthened(parts):
    weight = parts.text.embed_tokens.weight
    weight.set_value(jnp.concatenate([weight.get_value(), weight.get_value()[:2]]))


def with_bias(parts):
    parts.text.norm.bias = nnx.Param(jnp.zeros(64))


def without_norm(parts):
    parts.text.norm.weight = None


@pytest.mark.parametrize(
    ("edit", "named"), [(lengthened, "has the shape"), (with_bias, "is new"), (without_norm, "is gone")]
)
def test_edits_that_no_file_can_hold_are_refused(tmp_path, edit, named):
    model = omni.load(text_families.write_checkpoint(tmp_path / "source", "qwen3"))
    edit(model.parts)
    with pytest.raises(omni.InputError, match=named) as error:
        model.save(tmp_path / "saved")
    assert error.value.code == "parameters_changed" and len(str(error.value)) <= 500
    assert not (tmp_path / "saved").exists()


def test_the_old_name_of_refresh(tmp_path):
    model = omni.load(tiny.write_checkpoint(tmp_path))
    with pytest.warns(DeprecationWarning, match="refresh"):
        model.take_over()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.refresh()
