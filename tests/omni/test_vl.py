"""Qwen3-VL, dense and MoE, against the reference: token ids and positions exact, logits to 1e-5, greedy continuations
equal; pictures and clips together, apart, and over several turns."""

import json

import numpy as np
import pytest
import vl
from load import DATA, relative_error, with_media

import omni


@pytest.fixture(scope="module")
def expected():
    records = json.loads((DATA / "vl.json").read_text("utf-8"))
    with np.load(DATA / "vl.npz") as archive:
        return records, dict(archive)


@pytest.fixture(scope="module", params=vl.NAMES)
def loaded(request, tmp_path_factory):
    return request.param, omni.load(vl.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


@pytest.mark.parametrize("case", vl.CONVERSATIONS)
def test_a_conversation(loaded, expected, case):
    name, model = loaded
    record, arrays = expected[0][name][case], expected[1]
    inputs = model.prepare(with_media(vl.CONVERSATIONS[case]))
    assert inputs.prompt == record["prompt"]
    np.testing.assert_array_equal(inputs.token_ids, record["token_ids"])
    np.testing.assert_array_equal(inputs.position_ids, arrays[f"{name}/{case}/position_ids"])
    assert inputs.next_position == record["next_position"]
    logits = model.logits(inputs)
    assert relative_error(logits[arrays[f"{name}/{case}/logits_at"]], arrays[f"{name}/{case}/logits"]) < 1e-5


def test_greedy_continuations_all_in_one_batch(loaded, expected):
    name, model = loaded
    ends = model.options(1, 1, None, None, None, 0, ()).ends
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
    np.testing.assert_array_equal([e.grid_thw for e in found], arrays[f"{name}/{case}/grid_thw"])
    assert relative_error(np.concatenate([e.tokens for e in found]), arrays[f"{name}/{case}/tokens"]) < 1e-5
    levels = np.concatenate([e.deepstack for e in found], axis=1)[:, ::4]
    assert relative_error(levels, arrays[f"{name}/{case}/deepstack"]) < 1e-5
