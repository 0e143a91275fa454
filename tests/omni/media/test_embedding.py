"""An embedding survives its file exactly; half a file, and what is no embedding, are refused."""

import os
import stat

import numpy as np
import pytest
from safetensors.numpy import save_file

import omni
from tests.golden import media

ROWS = np.random.RandomState(0).normal(size=(6, 8)).astype(np.float32)
LEVELS = np.random.RandomState(1).normal(size=(3, 6, 8)).astype(np.float32)
FORMAT = {"format": "omni-embedding-1", "kind": "image"}


def assert_equal(found: omni.Embedding, wanted: omni.Embedding) -> None:
    assert (found.kind, found.grid_thw, found.seconds_per_grid) == (
        wanted.kind,
        wanted.grid_thw,
        wanted.seconds_per_grid,
    )
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    assert found.tokens.dtype == wanted.tokens.dtype
    assert (found.deepstack is None) == (wanted.deepstack is None)
    if found.deepstack is not None:
        np.testing.assert_array_equal(found.deepstack, wanted.deepstack)
    assert (found.audio is None) == (wanted.audio is None)
    if found.audio is not None and wanted.audio is not None:
        assert_equal(found.audio, wanted.audio)


def test_encoded_media_survive_a_file(model, tmp_path):
    film, fps = media.video("crooked")
    sound = omni.Audio(media.soundtrack("crooked"), media.RATE)
    given = [
        media.image("odd"),
        omni.Audio(media.audio("short"), media.RATE),
        omni.Video(film, fps),
        omni.Video(film, fps, audio=sound),
    ]
    for embedding in model.encode(given):
        embedding.save(tmp_path / "e")
        assert_equal(omni.Embedding.load(tmp_path / "e"), embedding)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize(
    "embedding",
    [
        omni.Embedding("image", ROWS, LEVELS, (1, 4, 6)),
        omni.Embedding("image", ROWS[::2, ::2], LEVELS[:, ::2, ::2], (1, 4, 3)),
        omni.Embedding("audio", ROWS[:0]),
        omni.Embedding("video", ROWS, None, (2, 4, 3), 1 / 3),
        omni.Embedding("video", ROWS, LEVELS, (2, 4, 3), np.float64(0.1), omni.Embedding("audio", ROWS[:1])),
    ],
    ids=["image", "strided", "empty", "silent", "heard"],
)
def test_made_by_hand(tmp_path, embedding):
    embedding.save(str(tmp_path / "e.safetensors"))
    assert_equal(omni.Embedding.load(str(tmp_path / "e.safetensors")), embedding)


def test_pooled_is_the_mean_over_tokens():
    np.testing.assert_allclose(omni.Embedding("audio", ROWS).pooled(), ROWS.mean(0), rtol=1e-6)


def test_others_may_read_the_file(tmp_path):
    """As any file that a program makes: what the user's mask leaves."""
    before = os.umask(0o022)
    try:
        omni.Embedding("audio", ROWS).save(tmp_path / "e")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "e").stat().st_mode) == 0o644


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    omni.Embedding("audio", ROWS).save(tmp_path / "e")

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        omni.Embedding("audio", -ROWS).save(tmp_path / "e")
    np.testing.assert_array_equal(omni.Embedding.load(tmp_path / "e").tokens, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_half_a_file(tmp_path, part):
    omni.Embedding("image", ROWS, LEVELS, (1, 4, 6)).save(tmp_path / "whole")
    raw = (tmp_path / "whole").read_bytes()
    (tmp_path / "e").write_bytes(raw[: int(part * len(raw))])
    with pytest.raises(omni.InputError, match="is not a readable embedding file") as error:
        omni.Embedding.load(tmp_path / "e")
    assert error.value.code == "unreadable_embedding"


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"tokens": ROWS}, None),
        ({"tokens": ROWS}, {"format": "pt"}),
        ({"x": ROWS}, FORMAT),
        ({"tokens": ROWS}, {"format": "omni-embedding-1"}),
        ({"tokens": ROWS}, FORMAT | {"grid_thw": "1 x 4"}),
        ({"tokens": ROWS}, FORMAT | {"seconds_per_grid": "soon"}),
    ],
)
def test_other_safetensors_files(tmp_path, tensors, header):
    save_file(tensors, tmp_path / "e", metadata=header)
    with pytest.raises(omni.InputError, match=r"was not written by Embedding.save|is a damaged embedding file"):
        omni.Embedding.load(tmp_path / "e")


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(omni.InputError, match="not a readable"):
            omni.Embedding.load(path)
