"""The loss of whole conversations and its gradient to every tensor, against the reference's own."""

import dataclasses

import numpy as np
import pytest

import omni
from omni.training import collate, make_example
from tests.golden import media, tiny
from tests.golden.gradients import CASES, assert_agree, loss_and_gradients
from tests.golden.load import DATA

# The reference's own names of the parts, under which their gradients are kept.
PREFIXES = {"model.": "model.language_model.", "visual.": "model.visual.", "audio_tower.": "model.audio_tower."}


def renamed(name):
    return next((new + name.removeprefix(old) for old, new in PREFIXES.items() if name.startswith(old)), name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tiny.write_checkpoint(tmp_path_factory.mktemp("renamed"), prefix="", shards=1)
    tiny.write_safetensors(directory / "model.safetensors", {renamed(name): value for name, value in tiny.tensors()})
    return omni.load(directory)


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "gradients.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_every_tensor_is_the_references(model, golden, reference, tmp_path, name):
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
    loss, found = loss_and_gradients(model, batch, tmp_path / "saved")
    assert loss == pytest.approx(float(reference[f"{name}/loss"]), rel=1e-5)

    theirs = {key.partition("/")[2]: value for key, value in reference.items() if key.startswith(f"{name}/")}
    assert theirs.keys() - found.keys() == {"loss"} and len(theirs) > 150
    for tensor, gradient in found.items():
        if tensor in theirs:
            assert_agree(tensor, gradient, theirs[tensor])
        else:
            assert not gradient.any(), tensor
