"""`Model.embed` gives Qwen3-VL-Embedding's vectors: the reference's last hidden state, of length 1."""

import json
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest
from flax import nnx

import omni
from omni.tasks.embed import as_conversation
from omni.tools.summary import summary
from processors import Access, Limits, Sources
from tests.golden import media, text_families, tiny, vl
from tests.golden.load import DATA, relative_error, with_media


@pytest.fixture(scope="module")
def expected():
    with np.load(DATA / "vl.npz") as archive:
        return {name: archive[name] for name in archive if name.endswith("/embedded")}


@pytest.fixture(scope="module", params=vl.NAMES)
def loaded(request, tmp_path_factory):
    return request.param, omni.load(vl.write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


FILM = omni.Video(*media.video("seven"))
ITEMS = {
    "embed_text": "A harbour at five in the morning.",
    "embed_image": media.image("small"),
    "embed_video": FILM,
}
BOTH = {
    "role": "user",
    "content": [{"type": "image", "image": media.image("half")}, {"type": "text", "text": "By the sea."}],
}


def test_the_references_vectors(loaded, expected):
    name, model = loaded
    for case, messages in vl.EMBEDDED.items():
        wanted = expected[f"{name}/{case}/embedded"]
        found = model.embed(with_media(messages))
        assert found.dtype == np.float32 and found.shape == wanted.shape
        assert relative_error(found, wanted) < 1e-5, case
    for case, item in ITEMS.items():
        assert relative_error(model.embed(item), expected[f"{name}/{case}/embedded"]) < 1e-5, case
    both = model.embed([BOTH], instruction=" Find the place ")
    assert relative_error(both, expected[f"{name}/embed_both/embedded"]) < 1e-5


def test_a_list_gives_the_same_in_order(loaded):
    _, model = loaded
    items = [*ITEMS.values(), [BOTH], list(range(30)), model.prepare(list(range(40)))]
    alone = np.stack([model.embed(item) for item in items])
    for batch_size in (1, 4, 8):
        np.testing.assert_allclose(model.embed(items, batch_size=batch_size), alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=-1), 1, atol=1e-6)
    assert model.embed([]).shape == (0, alone.shape[1])


def test_tokens_are_read_as_they_are(loaded):
    _, model = loaded
    messages = [{"role": "system", "content": "Represent the user's input."}, {"role": "user", "content": "The sea."}]
    inputs = model.prepare(messages)
    wanted = model.embed("The sea.")
    for same in (messages, inputs, inputs.token_ids, inputs.token_ids.tolist()):
        np.testing.assert_allclose(model.embed(same), wanted, atol=1e-6)
    assert np.abs(model.embed("The sea.", instruction="Find the place.") - wanted).max() > 1e-3
    np.testing.assert_array_equal(model.embed(""), model.embed("NULL"))


@pytest.mark.parametrize(
    ("item", "options", "code"),
    [
        (
            [{"role": "system", "content": "Be."}, {"role": "user", "content": "x"}],
            {"instruction": "y"},
            "bad_instruction",
        ),
        ([1, 2, 3], {"instruction": "y"}, "bad_instruction"),
        ("x", {"batch_size": 0}, "bad_batch_size"),
        (b"neither picture nor sound", {}, "media_unknown"),
        (omni.Audio(np.zeros(16000, np.float32), 16000), {}, "no_media"),
    ],
)
def test_what_is_refused(loaded, item, options, code):
    with pytest.raises(omni.InputError) as error:
        loaded[1].embed(item, **options)
    assert error.value.code == code


NAMED = {"file": "cat.jpg", "URL": "https://example.org/cat.jpg", "data": "data:image/png;base64,iVBORw0KGgo="}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize(
    "form", [lambda t: t, lambda t: [t], lambda t: ("text", t), lambda t: [media.image("small"), t]]
)
def test_a_string_that_encode_reads_as_media_is_refused(loaded, tmp_path, monkeypatch, kind, form):
    (tmp_path / "cat.jpg").write_bytes(b"no image, and no text either")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(omni.InputError, match=r"(?s)pathlib.Path|omni.Image") as error:
        loaded[1].embed(form(NAMED[kind]))
    assert error.value.code == "ambiguous_text" and len(str(error.value)) <= 500
    assert '{"role": "user"' in str(error.value)


def test_the_remedies_for_a_name(loaded, tmp_path, monkeypatch):
    _, model = loaded
    PIL.Image.fromarray(media.image("small")).save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    picture = model.embed(media.image("small"))
    for named in (pathlib.Path("cat.png"), omni.Image("cat.png")):
        np.testing.assert_allclose(model.embed(named), picture, atol=1e-6)
    text = model.embed([{"role": "user", "content": "cat.png"}])
    (tmp_path / "cat.png").unlink()
    np.testing.assert_allclose(model.embed("cat.png"), text, atol=1e-6)
    assert np.abs(text - picture).max() > 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "dog.jpg",
        "/no/such/cat.jpg",
        "~/cat.jpg",
        "C:\\cat.jpg",
        "folder",
        ".",
        "a cat.jpg",
        "cat.jpg\n",
        "see https://example.org/cat.jpg",
        "ftp://example.org/cat.jpg",
        "data: the new oil, they say",
        "Data:we/you, and they",
        "*",
        "",
        "NUL\0",
        "x" * 5000,
    ],
)
def test_other_strings_are_text(tmp_path, monkeypatch, text):
    (tmp_path / "cat.jpg").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert as_conversation(text, None)[1] == {"role": "user", "content": text or "NULL"}


def test_of_files_that_may_not_be_read_nothing_is_told(tmp_path, monkeypatch):
    (tmp_path / "cat.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    url = f"file://{tmp_path / 'cat.jpg'}"
    for folders, refused in [((), ()), ([tmp_path], ("cat.jpg", url)), ([tmp_path / "folder"], ())]:
        access = Access(Limits(), Sources(schemes=("file",), folders=folders))
        for text in ("cat.jpg", str(tmp_path / "dog.jpg"), url):
            if text in refused:
                with pytest.raises(omni.InputError, match="is a file"):
                    as_conversation(text, None, access)
            else:
                assert as_conversation(text, None, access)[1]["content"] == text


def test_an_instruction_is_a_string():
    with pytest.raises(omni.InputError, match="must be a string") as error:
        as_conversation("x", 3)
    assert error.value.code == "bad_instruction"


def without_head(directory, how):
    """A checkpoint whose files have no output head, and say so in one of the ways there are."""
    vl.write_checkpoint(directory, "vl_moe")
    tensors = {key: value for key, value in vl.tensors("vl_moe").items() if key != "lm_head.weight"}
    tiny.write_safetensors(directory / "model.safetensors", tensors)
    if how == "sentence-transformers":
        (directory / "modules.json").write_text("[]")
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    elif how is not None:
        (directory / "config.json").write_text(json.dumps(vl.config("vl_moe") | {"architectures": [how]}))
    return directory


@pytest.mark.parametrize("how", ["sentence-transformers", "Qwen3VLMoeModel", "Qwen3VLMoeForEmbedding"])
def test_a_model_without_an_output_head(tmp_path, expected, how):
    model = omni.load(without_head(tmp_path / "there", how))
    found = model.embed(ITEMS["embed_text"])
    assert relative_error(found, expected["vl_moe/embed_text/embedded"]) < 1e-5
    weights = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model.parts, nnx.Param)))
    assert f" {weights / 1e6:.2f} M" in summary(tmp_path / "there").split("total")[1]
    for call in (model.generate, model.logits):
        with pytest.raises(omni.InputError, match="no output head") as error:
            call([1, 2, 3])
        assert error.value.code == "no_output_head"
    for _ in range(2):  # anew, and in the place of what is there
        model.save(tmp_path / "saved", overwrite=True)
        again = omni.load(tmp_path / "saved")
        np.testing.assert_array_equal(again.embed(ITEMS["embed_text"]), found)
    pooling = [place / "1_Pooling" / "config.json" for place in (tmp_path / "there", tmp_path / "saved")]
    assert pooling[0].is_file() == pooling[1].is_file() == (how == "sentence-transformers")


def test_a_head_that_is_merely_lost_is_missed(tmp_path):
    with pytest.raises(omni.CheckpointError, match=r"lm_head\.weight"):
        omni.load(without_head(tmp_path, None))


def test_models_without_media_embed_too(tmp_path):
    model = omni.load(text_families.write_checkpoint(tmp_path, "qwen3"))
    vectors = model.embed([[1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)
    with pytest.raises(omni.InputError, match="no tokenizer"):
        model.embed("The sea.")
    vision = omni.load(vl.write_checkpoint(tmp_path / "vl", "vl"), parts="vision")
    with pytest.raises(omni.InputError, match="without its text part"):
        vision.embed([1, 2, 3])
