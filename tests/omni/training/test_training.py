"""Training makes a model know what it did not, survives being killed, and refuses what it cannot read."""

import itertools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from PIL import Image

import omni
from omni.media.encoder import MediaEncoder
from omni.training import (
    BatchOverflow,
    BatchShape,
    LoRA,
    TrainingOptions,
    answer_tokens,
    batches,
    collate,
    encode_media,
    hidden_states,
    loss_and_counts,
    make_example,
    mixed,
    read_jsonl,
    saved_step,
    train,
    train_on,
    trainer,
)
from omni.training.data import validation_batches
from tests.golden import media
from tests.golden.load import relative_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of conversations, two of them about pictures beside it."""
    folder = tmp_path_factory.mktemp("facts")
    answers = {"small": "A disc.", "half": "Two bars."}
    records = []
    for name, answer in answers.items():
        Image.fromarray(media.image(name)).save(folder / f"{name}.png")
        seen = [{"type": "image", "image": f"{name}.png"}, {"type": "text", "text": "What is it?"}]
        records.append([{"role": "user", "content": seen}, {"role": "assistant", "content": answer}])
    for question, answer in (("Capital of Omnia?", "Zorb."), ("Colour of mel?", "Amber.")):
        records.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    lines = [json.dumps({"messages": messages}) for messages in records]
    (folder / "facts.jsonl").write_text("\n".join(lines) + "\n\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def conversations(folder):
    return read_jsonl(folder / "facts.jsonl")


def as_part(medium):
    kind = type(medium).__name__.lower() if isinstance(medium, omni.Audio | omni.Video) else "image"
    return {"type": kind, kind: medium}


def demo():
    # In bfloat16 the first steps would be lost to rounding.
    return omni.load("demo", dtype="float32")


def values(model):
    return {name: np.asarray(leaf[...]) for name, leaf in nnx.to_flat_state(nnx.state(model.parts, nnx.Param))}


def test_only_what_the_assistant_says_is_learned(tiny_checkpoint):
    model = omni.load(tiny_checkpoint)
    messages = [
        {
            "role": "user",
            "content": [{"type": "image", "image": media.image("small")}, {"type": "text", "text": "So?"}],
        },
        {"role": "assistant", "content": "Yes <|im_end|> no."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "No."},
    ]
    example = make_example(model, messages)
    assert model.tokenizer is not None
    said = model.tokenizer.decode(example.token_ids[example.learned].tolist())
    assert said == "Yes <|im_end|> no.No."
    ends = [i for i in np.flatnonzero(example.learned) if i + 1 == len(example.learned) or not example.learned[i + 1]]
    assert [int(example.token_ids[i]) in model.generation.eos_token_ids for i in ends] == [True, True]
    np.testing.assert_array_equal(example.token_ids, model.prepare(messages, add_generation_prompt=False).token_ids)


def test_a_small_model_learns_facts_and_keeps_them_on_disk(folder, conversations, tmp_path):
    model = demo()
    options = TrainingOptions(steps=100, batch_size=4, learning_rate=2e-3, save_every=50)
    losses = [metrics.loss for metrics in train(model, conversations, tmp_path / "state", options)]
    assert losses[-1] < 0.1 < losses[0]
    model.save(tmp_path / "learned")
    learned = omni.load(tmp_path / "learned")
    for messages in conversations:
        reply = learned.generate(messages[:-1], max_new_tokens=12, temperature=0)
        assert (reply.text, reply.finish_reason) == (messages[-1]["content"], "stop")


def test_a_killed_run_goes_on_where_it_was(conversations, tmp_path):
    options = TrainingOptions(steps=4, batch_size=2, save_every=2, parts=("text",))
    whole = demo()
    losses = [metrics.loss for metrics in train(whole, conversations, tmp_path / "whole", options)]
    killed = train(demo(), conversations, tmp_path / "killed", options)
    # The third step is lost: only the state after the second was saved.
    assert [next(killed).loss for _ in range(3)] == losses[:3]
    killed.close()
    resumed = demo()
    rest = [(metrics.step, metrics.loss) for metrics in train(resumed, conversations, tmp_path / "killed", options)]
    assert rest == [(3, losses[2]), (4, losses[3])]
    before, after, again = values(demo()), values(whole), values(resumed)
    for name, value in after.items():
        np.testing.assert_array_equal(value, again[name])
        assert (value != before[name]).any() == (name[0] == "text"), name
    # Nothing is left to do, and other options do not fit.
    assert list(train(demo(), conversations, tmp_path / "killed", options)) == []
    assert saved_step(tmp_path / "killed") == 4 and saved_step(tmp_path / "absent") is None
    for other, named in (
        ({"learning_rate": 0.5}, "learning_rate=0.000"),
        ({"tower_share": 1.0}, "tower_share=0.1:"),
        ({"lora": LoRA(4)}, r"learning_rate=[\d.e-]+, lora=null"),
        ({"parts": None, "seed": 3}, r'parts=\["text"\], seed=0'),
    ):
        with pytest.raises(omni.CheckpointError, match=f"was begun with {named}") as refused:
            next(train(whole, conversations, tmp_path / "killed", replace(options, **other)))
        assert refused.value.code == "other_training_run"
    # How often to save changes no step; and an earlier version noted no options.
    assert list(train(demo(), conversations, tmp_path / "killed", replace(options, save_every=3))) == []
    (tmp_path / "killed" / "options.json").write_text("{")
    with pytest.raises(omni.CheckpointError, match=r"options\.json cannot be read"):
        next(train(demo(), conversations, tmp_path / "killed", options))
    (tmp_path / "killed" / "options.json").unlink()
    with pytest.raises(omni.CheckpointError, match="another model or other options"):
        next(train(whole, conversations, tmp_path / "killed", replace(options, lora=LoRA(4))))


def test_adapters_change_the_matrices_that_they_lie_beside(conversations, tmp_path):
    model, before = demo(), values(demo())
    tokens = answer_tokens(model, conversations)
    options = TrainingOptions(steps=12, batch_size=4, learning_rate=3e-2, lora=LoRA(rank=4, alpha=8, tokens=tokens))
    losses = [metrics.loss for metrics in train(model, conversations, tmp_path, options)]
    assert losses[-1] < losses[0] / 2
    for name, value in values(model).items():
        change = value - before[name]
        has_rows, adapted = name[-2] in ("embed_tokens", "lm_head"), name[-2].endswith("_proj")
        assert change.any() == (name[0] == "text" and (has_rows or adapted) and name[-1] == "weight"), name
        if has_rows:
            assert set(np.flatnonzero(change.any(axis=1))) <= set(tokens)
        elif change.any():
            assert (np.linalg.matrix_rank(change, tol=1e-4) <= 4).all()


def test_every_conversation_comes_in_every_epoch_beside_others_of_its_kind(tiny_checkpoint):
    model = omni.load(tiny_checkpoint, parts=("vision", "text"))
    answers = [f"{i:02d}" for i in range(12)]
    conversations = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": text}] for text in answers]
    for messages in conversations[9:]:
        messages[0]["content"] = [{"type": "image", "image": media.image("tiny")}]
    epoch = []
    # Nine of one kind and three of the other, four a batch: three batches and one.
    for batch, _ in zip(batches(model, conversations, 4, seed=1), range(8), strict=False):
        said = [
            model.tokenizer.decode(ids[learned][:-1].tolist())
            for ids, learned in zip(batch.token_ids, batch.learned, strict=True)
        ]
        assert len({text > "08" for text in said}) == 1 and bool(batch.vision) == (said[0] > "08")
        epoch.append(said)
    for half in (epoch[:4], epoch[4:]):
        assert {text for said in half for text in said} == set(answers)
    assert epoch[:4] != epoch[4:]
    again = next(batches(model, conversations, 4, seed=1, start=5))
    assert model.tokenizer.decode(again.token_ids[0][again.learned[0]][:-1].tolist()) == epoch[5][0]


def test_a_line_ends_where_jsonl_says(tmp_path):
    said = "one\u2028two\x85three"
    messages = [{"role": "user", "content": said}, {"role": "assistant", "content": "!"}]
    (tmp_path / "data.jsonl").write_text(json.dumps({"messages": messages}, ensure_ascii=False) + "\r\n", "utf-8")
    assert read_jsonl(tmp_path / "data.jsonl")[0][0]["content"] == said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no conversations"),
        ("{", "line 1"),
        ('{"messages": [{"role": "user", "content": "a"}]}\n{"text": 1}', "line 2"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "line 1 .*robot"),
        ("[]", "line 1"),
    ],
)
def test_bad_files_name_their_line(tmp_path, text, reason):
    path = tmp_path / "data.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(omni.InputError, match=reason):
        read_jsonl(path)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"role": "user", "content": "Only a question."}], "nothing_to_learn"),
        (
            [{"role": "user", "content": [{"type": "image", "image": "no/such.png"}]}, {"role": "assistant"}],
            "bad_content",
        ),
    ],
)
def test_conversations_that_cannot_be_learned_are_named(messages, code, tmp_path):
    fine = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    with pytest.raises(omni.InputError, match="conversation 2") as error:
        next(train(demo(), [fine, messages], tmp_path, TrainingOptions(steps=1, batch_size=2)))
    assert error.value.code == code


def test_the_steps_are_those_of_adamw():
    options = TrainingOptions(steps=30, learning_rate=0.01, weight_decay=0.3)
    ours, schedule = trainer._optimiser(options), trainer._schedule(options)
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.3, mask=trainer._decayed)
    )
    weights = {"linear.weight": jnp.arange(6.0).reshape(2, 3), "norm.weight": jnp.ones(3), "linear.bias": jnp.ones(2)}
    both = [(weights, optimiser.init(weights)) for optimiser in (ours, theirs)]
    for i in range(5):
        (a, a_moments), (b, b_moments) = both
        gradients = {name: jnp.sin(i + jnp.arange(value.size)).reshape(value.shape) for name, value in a.items()}
        changes, a_moments = ours.update(gradients, a_moments, a)
        a = trainer._moved(a, changes, schedule(i), 0.1)
        changes, b_moments = theirs.update(gradients, b_moments, b)
        both = [(a, a_moments), (optax.apply_updates(b, changes), b_moments)]
    for name in weights:
        np.testing.assert_allclose(both[0][0][name], both[1][0][name], rtol=1e-6)
        assert (both[0][0][name] != weights[name]).all()


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"learning_rate": -1.0}, {"parts": ("nose",)}, {"last_share": 1.5}, {"mix_share": 2}]
)
def test_bad_options(options):
    with pytest.raises(omni.InputError):
        TrainingOptions(**{"steps": 1} | options)


@pytest.mark.parametrize("encoded", [False, True], ids=["by towers in the step", "encoded before"])
def test_a_batch_is_read_as_each_conversation_is_alone(tiny_checkpoint, encoded):
    model = omni.load(tiny_checkpoint)
    answer = {"role": "assistant", "content": "So it is."}
    # A picture of 256 x 256 fills its row of the tower: alone, it fills the table to the last row.
    full = np.random.RandomState(0).randint(0, 256, (256, 256, 3), np.uint8)
    film = omni.Video(*media.video("four"), audio=omni.Audio(media.soundtrack("four"), media.RATE))
    asked = [
        ["Nothing to see."],
        [as_part(omni.Audio(media.audio("short"), media.RATE)), "and", as_part(film)],
        [as_part(media.image("odd")), as_part(media.image("tiny"))],
        [as_part(full)],
    ]
    conversations = [[{"role": "user", "content": parts}, answer] for parts in asked]
    for chosen in (conversations, conversations[-1:]):
        examples = [make_example(model, messages) for messages in chosen]
        batch = collate(encode_media(examples, model.media) if encoded else examples, model.config)
        assert encoded == (not batch.vision and not batch.audio) == (batch.encoded is not None)
        read = nnx.jit(lambda parts, batch: parts.text.logits(hidden_states(parts, batch)))
        scores = read(model.parts, jax.tree.map(jnp.asarray, batch))
        for row, messages in zip(np.asarray(scores), chosen, strict=True):
            wanted = model.logits(model.prepare(messages, add_generation_prompt=False))
            assert relative_error(row[: len(wanted)], wanted) < 1e-5


def test_batches_of_a_shape_have_one_shape_and_the_same_loss(tiny_checkpoint):
    model = omni.load(tiny_checkpoint)
    answer = {"role": "assistant", "content": "So it is."}
    asked = [
        [as_part(omni.Audio(media.audio("short"), media.RATE))],
        [as_part(media.image("odd")), as_part(media.image("tiny"))],
        [as_part(omni.Video(*media.video("four")))],
        ["Nothing to see."],
    ]
    examples = [make_example(model, [{"role": "user", "content": parts}, answer]) for parts in asked]
    alone = collate(examples, model.config)
    batch_shape = BatchShape(
        2 * alone.token_ids.shape[1],
        {rows.pixels.shape[1:]: len(rows.lengths) + 3 for rows in alone.vision} | {(1024, 768): 1},
        {rows.mel.shape[1:]: len(rows.lengths) + 1 for rows in alone.audio} | {(8, 128, 100): 2},
    )
    shapes, measured = set(), nnx.jit(loss_and_counts)
    # All kinds of media, a few of them, and none.
    for chosen in (examples, [examples[1]] * 2 + [examples[3]] * 2, [examples[3]] * 4):
        batch = collate(chosen, model.config, batch_shape)
        shapes.add(str(jax.tree.map(lambda a: (a.shape, a.dtype), batch)))
        loss, count = measured(model.parts, batch)
        wanted, wanted_count = measured(model.parts, collate(chosen, model.config))
        assert count == wanted_count and relative_error(loss, wanted) < 1e-6
    assert len(shapes) == 1
    for small in (
        BatchShape(8, batch_shape.vision, batch_shape.audio),
        BatchShape(batch_shape.tokens, {shape: 1 for shape in batch_shape.vision}, batch_shape.audio),
        BatchShape(batch_shape.tokens, batch_shape.vision, {}),
    ):
        with pytest.raises(BatchOverflow, match="in a batch for"):
            collate([*examples, examples[1]], model.config, small)


def test_media_are_encoded_once_while_the_towers_rest(conversations, tmp_path, monkeypatch):
    # Two epochs, of a batch with two pictures twice and a batch of text.
    counts, encode = [], MediaEncoder.encode

    def counted(self, features):
        counts.append(len(features))
        return encode(self, features)

    monkeypatch.setattr(MediaEncoder, "encode", counted)
    losses = {}
    for name, wanted, how in (
        ("adapters", 2, {"lora": LoRA(4, 8)}),
        ("text", 2, {"parts": ("text",)}),
        ("nothing kept", 4, {"parts": ("text",), "keep_gib": 0}),
        ("towers learn", 0, {}),
    ):
        options = TrainingOptions(steps=4, batch_size=4, learning_rate=3e-3, **how)
        losses[name] = [metrics.loss for metrics in train(demo(), conversations, tmp_path / name, options)]
        assert sum(counts) == wanted, name
        counts.clear()
    # All begin at the same weights, and the first step's rate is 0.
    assert all(relative_error(losses["towers learn"][:2], found[:2]) < 1e-4 for found in losses.values())
    assert relative_error(losses["text"], losses["nothing kept"]) < 1e-5


def test_media_are_encoded_with_the_weights_that_the_model_has(conversations, tmp_path):
    model = demo()
    before = [metrics.loss for metrics in train(model, conversations[:2], tmp_path / "0", options_for_one_step())]
    nnx.update(model.parts.vision, jax.tree.map(lambda a: 1.2 * a, nnx.state(model.parts.vision, nnx.Param)))
    batch = collate([make_example(model, messages) for messages in conversations[:2]], model.config)
    wanted, _ = nnx.jit(loss_and_counts)(model.parts, batch)
    found = [metrics.loss for metrics in train(model, conversations[:2], tmp_path / "1", options_for_one_step())]
    assert relative_error(found[0], wanted) < 1e-5 < relative_error(before[0], wanted)


def options_for_one_step():
    return TrainingOptions(steps=1, batch_size=2, parts=("text",))


def test_batches_that_end_too_early_are_no_training(conversations, tmp_path):
    model = demo()
    batch = collate([make_example(model, messages) for messages in conversations[2:]], model.config)
    with pytest.raises(ValueError, match="ended after step 2 of 5"):
        list(train_on(model, lambda first: iter([batch] * 2), tmp_path, TrainingOptions(steps=5, parts=("text",))))


def test_a_model_learns_from_batches_of_any_origin(conversations, tmp_path):
    model = demo()
    batch = collate([make_example(model, messages) for messages in conversations], model.config)
    asked = []

    def made(first):
        asked.append(first)
        while True:
            yield batch

    options = TrainingOptions(steps=12, learning_rate=3e-3, last_share=0.0, save_every=6, parts=("text",))
    # A caller that stops listening after a step that was saved, and comes again.
    for metrics in train_on(model, made, tmp_path, options):
        if metrics.step == 6:
            break
    later = list(train_on(demo(), made, tmp_path, options))
    assert asked == [0, 6] and [metrics.step for metrics in later] == list(range(7, 13))
    assert later[-1].loss < metrics.loss - 0.5 and all(metrics.gradient_norm > 0 for metrics in later)


def test_a_request_to_stop_saves_the_last_step_and_leaves_the_model_as_it_is(conversations, tmp_path):
    model, before = demo(), values(demo())
    batch = collate([make_example(model, messages) for messages in conversations[2:]], model.config)
    seen = []
    options = TrainingOptions(steps=4, learning_rate=3e-3, parts=("text",))
    for metrics in train_on(model, lambda _: iter([batch] * 4), tmp_path, options, stop=lambda: len(seen) == 2):
        seen.append(metrics.step)
    assert seen == [1, 2, 3] and saved_step(tmp_path) == 3
    assert all((value == before[name]).all() for name, value in values(model).items())
    rest = list(train_on(model, lambda first: iter([batch] * (4 - first)), tmp_path, options))
    assert [metrics.step for metrics in rest] == [4] and saved_step(tmp_path) == 4
    assert any((value != before[name]).any() for name, value in values(model).items())


def test_training_ends_with_the_weights_of_the_lowest_validation_loss(conversations, tmp_path):
    model = demo()
    learned, held = (
        collate([make_example(model, messages) for messages in chosen], model.config)
        for chosen in (conversations[2:3], conversations[3:])
    )
    # Of such steps, each ruins what is not learned.
    options = TrainingOptions(steps=12, learning_rate=0.05, parts=("text",), check_every=1, patience=2)
    found = list(train_on(model, lambda _: iter([learned] * 12), tmp_path, options, validation=[held]))
    losses = [metrics.validation_loss for metrics in found]
    best = min(losses)
    assert len(found) == losses.index(best) + 3 < 12
    measured, _ = nnx.jit(loss_and_counts)(model.parts, held)
    assert relative_error(measured, best) < 1e-5
    # The run is over, and stays so.
    assert list(train_on(demo(), lambda _: iter([learned] * 12), tmp_path, options, validation=[held])) == []


def test_towers_take_a_share_of_the_steps_of_a_decoder_that_is_trained_with_them():
    ones, rate = {"text.a": jnp.ones(3), "vision.b": jnp.ones(3), "audio.c": jnp.ones(3)}, jnp.float32(0.5)
    moved = trainer._moved(ones, ones, rate, 0.1)
    assert [float(1 - moved[name][0]) for name in ones] == pytest.approx([0.5, 0.05, 0.05])
    towers = {"vision.b": jnp.ones(3), "audio.c": jnp.ones(3)}
    assert (trainer._moved(towers, towers, rate, 0.1)["vision.b"] == 0.5).all()


@pytest.mark.parametrize("encoded", [False, True])
def test_validation_takes_every_conversation_once_and_beside_its_like(conversations, encoded):
    model = demo()
    held = validation_batches(model, [*conversations, conversations[2]], 2, model.media if encoded else None)
    assert [len(batch.counts) for batch in held] == [2, 2, 1]
    # The two with pictures are together; what is repeated in the data counts twice, and nothing else does.
    seen = [(batch.encoded is not None) if encoded else bool(batch.vision) for batch in held]
    assert seen.count(True) == 1
    counts = [int(make_example(model, messages).learned.sum()) for messages in conversations]
    assert sum(int(batch.learned.sum()) for batch in held) == sum(counts) + counts[2]


def test_a_validation_conversation_that_cannot_be_used_is_named(conversations):
    question = {"role": "user", "content": "And?"}
    with pytest.raises(omni.InputError, match="conversation 2"):
        validation_batches(demo(), [conversations[2], [question]], 4)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_a_share_of_batches_is_old_wherever_a_run_begins(share):
    def numbered(kind):
        return lambda first: ((kind, number) for number in itertools.count(first))

    def taken(start, count):
        return list(itertools.islice(mixed(numbered("new"), numbered("old"), share, start), count))

    whole = taken(0, 40)
    assert sum(kind == "old" for kind, _ in whole) == 40 * share
    for kind in ("new", "old"):
        numbers = [number for one, number in whole if one == kind]
        assert numbers == list(range(len(numbers)))
    assert all(taken(start, 40 - start) == whole[start:] for start in (1, 7, 20, 33))


def test_tokens_of_answers_are_those_of_no_question():
    model = demo()
    messages = [{"role": "user", "content": "Zorb?"}, {"role": "assistant", "content": "A flag."}]
    assert answer_tokens(model, [messages, messages]) == sorted(set(model.tokenizer.encode("A flag.")))
