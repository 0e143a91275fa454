"""`Encoder` and `Decoder`: rows in, rows of our table out, by plain calls, as Ray Data and Daft make them."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import omni
from omni.bulk.ray_data import Decoder, Encoder, RayEngine
from omni.bulk.table_rows import vectors_of
from tests.golden.load import relative_error

SAMPLES = Path(__file__).parents[3] / "samples"
IMAGE, AUDIO = SAMPLES / "shapes.png", SAMPLES / "seven.flac"


@pytest.fixture(scope="module")
def demo() -> omni.Model:
    return omni.load("demo")


@pytest.fixture(scope="module")
def encoder(demo) -> Encoder:
    return Encoder(demo, column="media", id_column="name", batch_size=2)


CELLS = [str(IMAGE), AUDIO.read_bytes(), {"bytes": IMAGE.read_bytes(), "path": "a.png"}, "s3://b/c.png", None, b"none"]
ROWS = {"media": CELLS, "name": ["path", "bytes", "dict", "address", "empty", "bad"]}


def unit(embedding: omni.Embedding) -> np.ndarray:
    mean = embedding.pooled()
    return mean / np.linalg.norm(mean)


def test_every_row_is_what_the_model_gives_or_a_code(demo, encoder):
    table = encoder(ROWS)
    assert table.schema.equals(encoder.schema) and table.column_names[:4] == ["id", "source", "kind", "vector"]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ROWS["name"]
    codes = [row["error_code"] for row in rows]
    assert codes == [None, None, None, "source_scheme", "table_row", "media_unknown"]
    assert [row["kind"] for row in rows[:3]] == ["image", "audio", "image"] and rows[0]["source"] == str(IMAGE)
    image, audio = unit(demo.encode(IMAGE)), unit(demo.encode(AUDIO))
    for row, wanted in zip(rows, (image, audio, image), strict=False):
        assert relative_error(np.array(row["vector"], np.float32), wanted) < 1e-5


def test_batches_of_any_form_and_size_give_the_same_rows(encoder):
    whole = encoder(ROWS)
    arrays = {name: np.array([*values, None], object)[:-1] for name, values in ROWS.items()}
    assert encoder(arrays).equals(whole)
    tables = {"media": pa.array(CELLS[:1] * 3), "name": pa.array(["0", "1", "2"])}
    single = encoder(pa.table(tables)).slice(2)
    assert relative_error(vectors_of(single["vector"])[0], vectors_of(whole["vector"])[0]) < 1e-5


def test_rows_of_a_decoder_become_the_same(encoder):
    decoded = Decoder(column="media", id_column="name")(ROWS)
    assert [type(one).__name__ for one in decoded["content"]][:4] == [
        "ImageFeatures", "AudioFeatures", "ImageFeatures", "InputError",
    ]  # fmt: skip
    moved = pickle.loads(pickle.dumps(decoded))
    assert encoder(moved).equals(encoder(ROWS))
    # What others put into a column of that name is not believed.
    forged = {name: np.array([value], object) for name, value in zip(decoded, ("x", "medium", "x", 7), strict=True)}
    assert encoder(forged)["error_code"].to_pylist() == ["table_row"]


def test_ids_are_what_cells_name_or_a_digest(demo):
    encoder = Encoder(demo, column="media", text="words", protocols=["s3"])
    rows = encoder({"media": [str(IMAGE), AUDIO.read_bytes()], "words": ["one", "two"]}).to_pylist()
    names = [row["id"] for row in rows]
    assert names[:2] == [str(IMAGE), f"{IMAGE}#text"] and names[3] == f"{names[2]}#text"
    assert names[2].startswith("sha256:") and [row["source"] for row in rows[1:]] == [str(IMAGE), names[2], names[2]]
    assert [row["error_code"] for row in rows] == [None, "text_not_embedded"] * 2


def test_no_cell_reads_files_by_a_protocol(demo):
    """`file://` and chains of protocols pass by the policy of sources, which refuses them."""
    cells = [f"file://{IMAGE}", f"local://{IMAGE}", f"simplecache::file://{IMAGE}", f"s3::file://{IMAGE}"]
    rows = Encoder(demo, column="media", protocols=["s3"])({"media": cells}).to_pylist()
    assert [row["error_code"] for row in rows] == ["source_scheme"] * 4


@pytest.mark.parametrize("options", [{"encoders": 0}, {"cpus": -1}, {"gpus": -0.5}])
def test_options_of_an_engine(options):
    with pytest.raises(omni.InputError) as error:
        RayEngine(**options)
    assert error.value.code == "bad_option"


def test_columns_and_options_that_are_not_there(demo, tmp_path):
    for call, code in (
        (lambda: Encoder(demo, column="a")({"b": []}), "table_column"),
        (lambda: Encoder(demo, column=None)({"b": []}), "bad_option"),
        (lambda: Encoder(demo, dtype="int8"), "bad_option"),
        (lambda: Encoder(demo, batch_size=0), "bad_batch_size"),
        (lambda: omni.encode_files(IMAGE, tmp_path, model=demo, engine="ray"), "bad_option"),
        (lambda: omni.encode_files(IMAGE, tmp_path, engine="spark"), "bad_option"),
    ):
        with pytest.raises(omni.InputError) as error:
            call()
        assert error.value.code == code
