"""The loss of whole conversations and its gradient to every tensor, against the reference's own."""

import dataclasses

import jax
import media
import numpy as np
import pytest
from flax import nnx
from gradients import CASES, assert_agree
from load import DATA

import omni
from omni.families import QWEN3_OMNI
from omni.training import collate, loss_and_counts, make_example


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return omni.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "gradients.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_every_tensor_is_the_references(model, golden, reference, name):
    case = golden.case(name)
    # The reference's loss counts the prompt itself: an answer is added to have an example, and taken away again.
    messages = case.with_media()
    for part in messages[-1]["content"]:
        if "audio" in part and part["type"] == "video":
            part["audio"] = omni.Audio(part["audio"], media.RATE)
    example = make_example(model, [*messages, {"role": "assistant", "content": "."}])
    count = len(case.token_ids)
    np.testing.assert_array_equal(example.token_ids[:count], case.token_ids)
    np.testing.assert_array_equal(example.position_ids[:, :count], case.position_ids)
    text = np.ones(count, bool)
    for span in example.spans:
        text[span.indices] = False
    example = dataclasses.replace(example, token_ids=case.token_ids, position_ids=case.position_ids, learned=text)
    batch = collate([example], model.config)
    graph, weights = nnx.split(model.parts)
    (loss, _), gradients = jax.jit(
        jax.value_and_grad(lambda weights: loss_and_counts(nnx.merge(graph, weights), batch), has_aux=True)
    )(weights)
    assert float(loss) == pytest.approx(float(reference[f"{name}/loss"]), rel=1e-5)

    compared, sources = 0, QWEN3_OMNI.sources(model.config)
    theirs = {QWEN3_OMNI.canonical(key.partition("/")[2]): key for key in reference if key.startswith(f"{name}/")}
    for path, leaf in nnx.to_flat_state(gradients):
        gradient = np.asarray(leaf[...], np.float64)
        for tensor, place, shape in sources[".".join(map(str, path))].pieces(gradient.shape):
            found = gradient[place].reshape(shape)
            if tensor not in theirs:
                assert not found.any(), tensor
                continue
            key = theirs[tensor]
            assert_agree(key.partition("/")[2], found, reference[key])
            compared += 1
    assert compared > 150
