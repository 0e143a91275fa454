"""Jobs: rows are what the model gives, one for each item, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import omni
from omni.bulk import pipeline
from omni.bulk.table_rows import vectors_of
from omni.bulk.table_sinks import ParquetSink
from processors import Access, AudioConfig, ImageConfig
from processors.features import Processors, isolated_features
from tests.golden.load import relative_error

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def demo() -> omni.Model:
    return omni.load("demo")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Small pictures, audio, two files that are damaged or none, and one that is not even called a medium."""
    folder = tmp_path_factory.mktemp("pictures")
    dice = np.random.default_rng(0)
    for i in range(18):
        Image.fromarray(dice.integers(0, 256, (40 + i, 50, 3), np.uint8)).save(folder / f"{i:02d}.png")
    shutil.copy(SAMPLES / "seven.flac", folder)
    (folder / "07b.png").write_bytes((folder / "07.png").read_bytes()[:-30])
    (folder / "notes.jpg").write_text("no medium")
    (folder / "readme.txt").write_text("no item")
    return folder


class Ending(Processors):
    """Settings on which the process ends that reads them."""

    def __reduce__(self):
        return os._exit, (3,)


def rows(out) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(Path(out).glob("part-*.parquet"))]
    return pa.concat_tables(tables).to_pylist()


def parts(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("part-*.parquet"))}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    return error.value.code


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(demo, pictures, tmp_path_factory):
    """A job in parts of eight rows, with its tokens."""
    out = tmp_path_factory.mktemp("table")
    summary = omni.encode_files(pictures, out, format="parquet", model=demo, part_rows=8, batch_size=4, tokens=True)
    assert (summary.items, summary.encoded, summary.failed, summary.skipped) == (21, 19, 2, 1)
    return out


def test_rows_are_what_the_model_gives(demo, pictures, table):
    found = rows(table)
    wanted = sorted(path.name for path in pictures.iterdir() if path.name != "readme.txt")
    assert [Path(row["id"]).name for row in found] == wanted
    for row in found:
        name = Path(row["source"]).name
        if name in ("07b.png", "notes.jpg"):
            assert row["error_code"] == {"07b.png": "image_corrupt", "notes.jpg": "media_unknown"}[name]
            assert name in row["error"] and row["vector"] is row["tokens"] is row["token_embeddings"] is None
            continue
        wanted = demo.encode(row["source"])
        assert (row["kind"], row["tokens"], row["error"]) == (wanted.kind, len(wanted.tokens), None)
        assert row["grid_thw"] == (None if wanted.grid_thw is None else list(wanted.grid_thw))
        assert relative_error(np.array(row["token_embeddings"], np.float32), wanted.tokens) < 1e-5
        mean = wanted.pooled()
        assert relative_error(np.array(row["vector"], np.float32), mean / np.linalg.norm(mean)) < 1e-5
        assert row["seconds"] == (None if wanted.kind == "image" else pytest.approx(0.5, abs=0.5))


def test_the_schema_is_written_down(table):
    schema = pq.read_schema(next(table.glob("part-*.parquet")))
    assert schema.names[:9] == "id source kind vector tokens grid_thw seconds error_code error".split()
    assert schema.field("vector").type == pa.list_(pa.float32(), 128)
    assert schema.field("token_embeddings").type == pa.list_(pa.list_(pa.float32(), 128))
    notes = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    manifest = json.loads((table / "manifest.json").read_text())
    assert notes["omni.fingerprint"] == manifest["fingerprint"] and notes["omni.pooling"] == "mean"


def test_what_is_there_is_left_alone_and_what_came_since_is_added(demo, pictures, tmp_path):
    folder = shutil.copytree(pictures, tmp_path / "media")
    options: Any = {"format": "parquet", "model": demo, "part_rows": 8, "batch_size": 4, "dtype": "float16"}
    omni.encode_files(folder, tmp_path / "out", **options)
    before = parts(tmp_path / "out")
    again = omni.encode_files(folder, tmp_path / "out", **options)
    assert (again.there, again.encoded, again.failed) == (21, 0, 2) and parts(tmp_path / "out") == before
    shutil.copy(folder / "00.png", folder / "000.png")
    more = omni.encode_files(folder, tmp_path / "out", **options)
    after = parts(tmp_path / "out")
    assert (more.there, more.encoded, more.failed) == (21, 1, 2)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 1
    ids = [row["id"] for row in rows(tmp_path / "out")]
    assert len(set(ids)) == len(ids) == 22
    vector = pq.read_table(tmp_path / "out" / "part-00000-of-00001-000000.parquet")["vector"]
    assert vector.type == pa.list_(pa.float16(), 128)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(vector), axis=1), 1, atol=1e-3)
    for other in ({"dtype": "float32"}, {"pooling": "embed"}, {"batch_size": 5}, {"shard": (0, 2)}):
        assert refusal(omni.encode_files, folder, tmp_path / "out", **options | other) == "other_job"


def test_shards_make_one_table(demo, pictures, tmp_path, table):
    for index in range(2):
        omni.encode_files(pictures, tmp_path, format="parquet", model=demo, shard=f"{index}/2", batch_size=4)
    found = {row["id"]: row for row in rows(tmp_path)}
    assert found.keys() == {row["id"] for row in rows(table)} and len(rows(tmp_path)) == 21
    for row in rows(table):
        if row["vector"]:
            assert relative_error(np.array(found[row["id"]]["vector"]), np.array(row["vector"])) < 1e-5


def test_lance_has_the_same_rows(demo, pictures, tmp_path, table):
    lance = pytest.importorskip("lance")
    options: Any = {"format": "lance", "model": demo, "part_rows": 8, "batch_size": 4, "tokens": True}
    written = []
    append = lance.write_dataset

    def end_at_the_second(*arguments, **more):
        written.append(arguments)
        if len(written) == 2:
            raise KeyboardInterrupt
        return append(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lance, "write_dataset", end_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            omni.encode_files(pictures, tmp_path, **options)
    assert omni.encode_files(pictures, tmp_path, **options).there == 8
    assert lance.dataset(str(tmp_path / "table.lance")).to_table().to_pylist() == rows(table)


def test_what_is_no_medium_fails_where_it_is_named(demo, pictures, tmp_path):
    for form in ("parquet", "files"):
        options: Any = {"format": form, "model": demo}
        named = omni.encode_files([pictures / "00.png", pictures / "readme.txt"], tmp_path / form, **options)
        assert [code for _, code, _ in named.failures] == ["media_unknown"] and named.skipped == 0
        folder = tmp_path / f"{form}-folder"
        folder.mkdir()
        (folder / "a.txt").write_text("no medium")
        (folder / "b").write_bytes(b"")
        with pytest.raises(omni.InputError, match="none of the 2 files") as error:
            omni.encode_files([folder, f"{folder}/*"][form == "files"], tmp_path / f"{form}-out", **options)
        assert error.value.code == "nothing_to_encode"
        shutil.copy(pictures / "00.png", folder / "picture.dat")
        mixed = omni.encode_files(folder, tmp_path / f"{form}-out", **options)
        assert (mixed.items, mixed.encoded, mixed.failed, mixed.skipped) == (1, 1, 0, 2)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_decoder_that_crashes_costs_one_row(demo, pictures, tmp_path, monkeypatch):
    def ending(source, name, processors, access):
        if "03.png" in name:
            processors = Ending(processors.image, processors.video, processors.audio)
        return isolated_features(source, name, processors, access)

    monkeypatch.setattr(pipeline, "isolated_features", ending)
    omni.encode_files(pictures, tmp_path, format="parquet", model=demo, workers=2)
    codes = {Path(row["id"]).name: row["error_code"] for row in rows(tmp_path) if row["error_code"]}
    assert codes == {"03.png": "decoder_crashed", "07b.png": "image_corrupt", "notes.jpg": "media_unknown"}


def test_a_part_that_is_not_loaded_and_limits_are_codes(pictures):
    access = Access(omni.Limits(media_tokens=2))
    audio = Processors(None, None, AudioConfig())
    with pytest.raises(omni.InputError) as error:
        isolated_features(str(pictures / "00.png"), "it", audio, access)
    assert error.value.code == "part_not_loaded"
    with pytest.raises(omni.InputError) as error:
        isolated_features(str(pictures / "00.png"), "it", Processors(ImageConfig(), None, None), access)
    assert error.value.code == "image_too_large"


@pytest.mark.parametrize(
    "options",
    [
        {"format": "csv"}, {"dtype": "int8"}, {"part_rows": 0}, {"workers": 0}, {"pooling": "max"},
        {"shard": "2/2"}, {"text": "caption", "format": "files"},
        {"dtype": "float16", "format": "files"}, {"overwrite": True},
    ],
)  # fmt: skip
def test_options_that_cannot_be_used(pictures, tmp_path, options):
    assert refusal(omni.encode_files, pictures, tmp_path / "out", **{"format": "parquet"} | options) == "bad_option"
    assert not (tmp_path / "out").exists()


def test_a_job_without_items_leaves_the_folder_to_the_next(demo, pictures, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    out: Path = tmp_path / "out"
    options: Any = {"format": "parquet", "model": demo}
    assert refusal(omni.encode_files, tmp_path / "t.parquet", out, column="b", **options) == "table_column"
    assert refusal(omni.encode_files, [], out, **options) == "nothing_to_encode"
    assert refusal(omni.encode_files, pictures, out, text="caption", **options) == "text_not_embedded"
    assert omni.encode_files(pictures / "00.png", out, batch_size=3, **options).encoded == 1
    summary = omni.encode_files(tmp_path / "t.parquet", tmp_path / "other", column="a", **options)
    assert summary.failures == [(f"{tmp_path}/t.parquet#0", "table_row", summary.failures[0][2])]


# --- killed -----------------------------------------------------------------------------------------------------------


def test_a_job_that_is_killed_ends_with_the_same_bytes(pictures, tmp_path):
    """Real processes, SIGKILL at moments that nobody has chosen: in the first part, and in a later one."""
    options: Any = {"format": "parquet", "part_rows": 4, "batch_size": 2}
    program = f"import omni; omni.encode_files({str(pictures)!r}, 'out', **{options!r})"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    dice = np.random.default_rng()
    for least in (0, 2):
        running = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
        while running.poll() is None and not (len(parts(tmp_path / "out")) >= least and (tmp_path / "out").exists()):
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.2))
        running.send_signal(signal.SIGKILL)
        running.wait()
    left = len(parts(tmp_path / "out"))
    summary = omni.encode_files(pictures, tmp_path / "out", **options)
    assert (summary.items, summary.failed) == (21, 2) and left >= 2
    omni.encode_files(pictures, tmp_path / "whole", **options)
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith((".part", ".items"))]


def test_a_part_is_there_as_a_whole_or_not_at_all(demo, pictures, tmp_path, monkeypatch):
    """Ended between any two steps of writing, a job goes on to the same bytes."""
    options: Any = {"format": "parquet", "model": demo, "part_rows": 8, "batch_size": 4}
    omni.encode_files(pictures, tmp_path / "whole", **options)
    for step in ("begin", "write", "commit", "_flush"):
        original, calls = getattr(ParquetSink, step), []

        def ended(self, *rest, original=original, calls=calls):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(self, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(ParquetSink, step, ended)
            with pytest.raises(KeyboardInterrupt):
                omni.encode_files(pictures, tmp_path / step, **options)
        omni.encode_files(pictures, tmp_path / step, **options)
        assert parts(tmp_path / step) == parts(tmp_path / "whole")
