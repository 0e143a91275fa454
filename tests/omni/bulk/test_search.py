"""Search: exact is exact, the index finds what exact search finds, and a table of texts and media answers both."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import omni
from omni.bulk.contact_sheet import contact_sheet
from omni.bulk.items import Item
from omni.bulk.manifest import Manifest, Shard
from omni.bulk.results import Result
from omni.bulk.search import nearest, recall
from omni.bulk.table_rows import schema
from omni.bulk.table_sinks import LanceSink, ParquetSink, update_index

SAMPLES = Path(__file__).parents[3] / "samples"
WIDTH = 32


@pytest.fixture(scope="module")
def demo() -> omni.Model:
    return omni.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def captions(demo, tmp_path_factory):
    """A table of three pictures and a text for each, by the recipe of `embed`."""
    folder = tmp_path_factory.mktemp("captions")
    texts = {"china.jpg": "a palace <of> old", "flower.jpg": "a flower", "shapes.png": "a red circle"}
    for name in texts:
        shutil.copy(SAMPLES / name, folder)
    lines = [json.dumps({"file": name, "caption": text}) for name, text in texts.items()]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    options: Any = {"column": "file", "text": "caption", "pooling": "embed", "instruction": "Find it"}
    summary = omni.encode_files(folder / "rows.jsonl", folder / "out", format="parquet", model=demo, **options)
    assert (summary.encoded, summary.failed) == (6, 0)
    return folder


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    return error.value.code


def test_texts_and_media_are_in_one_space(demo, captions):
    hits = omni.search("a flower", captions / "out", model=demo)
    assert len(hits) == 6 and hits[0].kind == "text" and hits[0].score == pytest.approx(1, abs=1e-4)
    assert hits[0].id == f"{captions}/rows.jsonl#1#text" and hits[0].score >= hits[1].score >= hits[-1].score
    pictures = omni.search(str(captions / "china.jpg"), captions / "out", model=demo, k=2)
    assert pictures[0].kind == "image" and pictures[0].score == pytest.approx(1, abs=1e-4) and len(pictures) == 2
    vector = demo.embed("a flower", instruction="Find it")
    again = nearest(captions / "out", vector, 6)
    assert [hit.id for hit in again] == [hit.id for hit in hits]
    np.testing.assert_allclose([hit.score for hit in again], [hit.score for hit in hits], atol=1e-5)


def test_a_contact_sheet_shows_what_was_found(demo, captions):
    hits = omni.search("a flower", captions / "out", model=demo)
    (captions / "shapes.png").rename(captions / "gone.png")
    try:
        page = contact_sheet("a <flower>", hits, captions / "out")
    finally:
        (captions / "gone.png").rename(captions / "shapes.png")
    assert page.count("data:image/jpeg;base64,") == 2 and page.count('class="none"') == 4
    assert "<h1>a &lt;flower&gt;</h1>" in page and "a palace &lt;of&gt; old" in page and "http" not in page
    assert all(hit.source in page and f"{hit.score:.3f}" in page for hit in hits)


def test_searches_that_cannot_be_made(demo, captions, tiny_checkpoint, tmp_path):
    assert refusal(omni.search, "x", tmp_path) == "no_job"
    assert refusal(omni.search, "x", captions / "out", model=tiny_checkpoint) == "other_model"
    assert refusal(omni.search, "x", captions / "out") == "other_model"  # a loaded model made it
    assert refusal(omni.search, "x", captions / "out", model=demo, k=0) == "bad_option"
    assert refusal(recall, captions / "out") == "no_index"
    omni.encode_files(SAMPLES / "shapes.png", tmp_path / "out", format="parquet", model=demo)
    assert refusal(omni.search, "a red circle", tmp_path / "out", model=demo) == "text_not_embedded"
    (hit,) = omni.search(Image.open(SAMPLES / "shapes.png"), tmp_path / "out", model=demo)
    assert hit.score == pytest.approx(1, abs=1e-4)


def written(out, form, vectors):
    """A table of ready vectors, those that are None errors."""
    settings = {"format": form, "pooling": "mean", "dtype": "float32", "tokens": False}
    manifest = Manifest(out, settings, {"model": "demo"}, Shard(), 3000)
    manifest.extend(Item(f"{i:05d}", "medium", ("path", f"{i}.png")) for i in range(len(vectors)))
    sink = (ParquetSink if form == "parquet" else LanceSink)(manifest, schema(WIDTH, "float32", False, {}))
    for part in manifest.parts():
        assert not sink.has(part)
        sink.begin(part)
        chosen = vectors[part.first : part.first + len(part.items)]
        error = omni.InputError("media_unknown", "no medium")
        pairs = zip(part.items, chosen, strict=True)
        sink.write([Result(i, "image", v) if v is not None else Result(i, error=error) for i, v in pairs])
        sink.commit()
        assert sink.has(part)
    if form == "lance":
        update_index(out, Shard())
    manifest.close()


@pytest.fixture(scope="module")
def vectors():
    dice = np.random.default_rng(1)
    centres = dice.normal(size=(40, WIDTH))
    found = centres[dice.integers(0, 40, 6000)] + 0.5 * dice.normal(size=(6000, WIDTH))
    found = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return [None if i % 50 == 3 else vector for i, vector in enumerate(found)]


def exactly(vectors, query, k):
    scores = [-2.0 if vector is None else float(vector @ query) for vector in vectors]
    return [f"{i:05d}" for i in np.argsort(-np.array(scores), kind="stable")[:k]]


def test_exact_search_is_exact(vectors, tmp_path):
    written(tmp_path, "parquet", vectors)
    for row in (0, 17, 5999):
        hits = nearest(tmp_path, vectors[row], 7)
        assert [hit.id for hit in hits] == exactly(vectors, vectors[row], 7)
        assert [hit.source for hit in hits] == [f"{int(hit.id)}.png" for hit in hits]
    assert len(nearest(tmp_path, vectors[0], 6001)) == 5880  # errors are never found


def test_the_index_finds_what_exact_search_finds(vectors, tmp_path):
    pytest.importorskip("lance")
    written(tmp_path, "lance", vectors)
    for row in (0, 5999):
        assert [hit.id for hit in nearest(tmp_path, vectors[row], 7, exact=True)] == exactly(vectors, vectors[row], 7)
        assert nearest(tmp_path, vectors[row], 7)[0].id == f"{row:05d}"
    assert recall(tmp_path, 10, 50) >= 0.98


def test_the_command(captions, tmp_path, monkeypatch, capsys):
    from omni.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["omni", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        return ending.value.code or 0, *capsys.readouterr()

    monkeypatch.chdir(captions)
    (captions / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    try:
        code, out, err = run("encode", "*.png", "*.jpg", "-f", "parquet", "-o", tmp_path / "t", "--workers", "2")
    finally:
        (captions / "bad.png").unlink()
    assert code == 2 and "3 encoded" in out and err.startswith("bad.png: ")
    code, out, err = run("search", "flower.jpg", "--in", tmp_path / "t", "-k", "2", "--html", tmp_path / "sheet.html")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 2 and lines[0].split() == ["1.0000", "image", "flower.jpg"]
    assert (tmp_path / "sheet.html").read_text().count("data:image/jpeg") == 2
    assert run("search", "--in", tmp_path / "t")[0] == run("search", "x", "--in", tmp_path)[0] == 2
    code, _, err = run("search", "a red circle", "--in", tmp_path / "t")
    assert code == 2 and len(err.splitlines()) == 1
