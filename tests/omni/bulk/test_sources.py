"""Items of every kind of source: each once, in the same order every time, and each read as what it is."""

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import omni
from omni.bulk.contents import Contents, fetched
from omni.bulk.items import Listing
from omni.bulk.manifest import Manifest, Shard, _Keys, find_items, key_of
from processors import Access


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


BYTES = [picture(level) for level in range(7)]


def listed(*sources, **options):
    return list(Listing(tuple(map(str, sources)), **options))


def read(items):
    contents = Contents()
    return [contents.of(item) for item in items]


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(omni.InputError) as error:
        call(*arguments, **options)
    return error.value.code


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.png", "b/1.png", "a.png", "c.png"):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BYTES[0])
    (tmp_path / "media" / ".hidden").write_text("no picture")
    (tmp_path / "media" / "notes.txt").write_text("no picture")
    (tmp_path / "media" / "old.safetensors").write_text("made earlier")
    return tmp_path / "media"


def test_folders_and_patterns(folder):
    names = [os.path.relpath(item.id, folder) for item in listed(folder)]
    assert names == ["a.png", "b/1.png", "b/2.png", "c.png"] == [item.below for item in listed(folder)]
    assert [item.id for item in listed(f"{folder}/**/[12].png")] == [f"{folder}/b/1.png", f"{folder}/b/2.png"]
    assert [item.id for item in listed(f"{folder}/*.gif")] == [f"{folder}/*.gif"]  # an error of its own, later
    assert names[:1] + names[3:] == [item.below for item in listed(folder, leave_out=folder / "b")]
    (folder / "d.txt").write_bytes(BYTES[0])  # a medium by what it holds, as the other is none
    (folder / "e.jpg").write_text("damaged")  # a damaged one by its name
    listing = Listing((str(folder), f"{folder}/*", f"{folder}/notes.txt"))
    below = [item.below for item in listing]
    assert below[:6] == [*names, "d.txt", "e.jpg"] and listing.skipped == 2
    # Of the pattern, a folder and five files; what is named itself.
    assert [os.path.basename(item.id) for item in listing][6:] == [
        "a.png", "1.png", "2.png", "c.png", "d.txt", "e.jpg", "notes.txt",
    ]  # fmt: skip


def test_rows_of_parquet_and_lance(tmp_path):
    lance = pytest.importorskip("lance")
    table = pa.table({"image": BYTES, "caption": [f"number {i}" for i in range(7)], "name": list("abcdefg")})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    lance.write_dataset(table, str(tmp_path / "t.lance"))
    for name in ("t.parquet", "t.lance"):
        items = listed(tmp_path / name)
        assert read(items) == BYTES and [item.id for item in items] == [f"{tmp_path}/{name}#{i}" for i in range(7)]
        both = listed(tmp_path / name, column="image", text="caption", id_column="name")
        assert [item.id for item in both[:4]] == ["a", "a#text", "b", "b#text"]
        assert read(both)[:4] == [BYTES[0], "number 0", BYTES[1], "number 1"]
    assert refusal(listed, tmp_path / "t.parquet", column="picture") == "table_column"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    assert refusal(listed, tmp_path / "bad.parquet") == "table_unreadable"
    assert refusal(listed, tmp_path / "absent.parquet") == "source_not_found"


def test_lines_name_files_beside_them(folder, tmp_path):
    rows = [{"path": "media/a.png"}, {"path": "https://host/b.png"}, {"path": None}, {"other": 1}]
    lines = [*map(json.dumps, rows), "no JSON"]
    (tmp_path / "t.jsonl").write_text("\n\n".join(lines) + "\n")
    items = listed(tmp_path / "t.jsonl")
    assert [item.id.rpartition("#")[2] for item in items] == ["0", "2", "4", "6", "8"]
    assert read(items[:2]) == [f"{tmp_path}/media/a.png", "https://host/b.png"]
    assert [refusal(read, [item]) for item in items[2:]] == ["table_row"] * 3


def test_a_saved_data_set(tmp_path):
    """The layout that `datasets` writes: streams of Arrow, and a list of them."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    names = []
    for part in range(2):
        names.append(f"data-{part:05d}-of-00002.arrow")
        with pa.ipc.new_stream(str(tmp_path / names[-1]), schema) as stream:
            for i in range(3):
                cell = {"bytes": BYTES[part * 3 + i], "path": None}
                stream.write_batch(pa.record_batch([pa.array([cell], kind), pa.array([i])], schema=schema))
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert read(listed(tmp_path)) == BYTES[:6]
    (tmp_path / "state.json").write_text("{}")
    assert refusal(listed, tmp_path) == "table_unreadable"


def test_members_of_archives(tmp_path):
    members = [("000.png", BYTES[1]), ("000.json", b"{}"), ("000.txt", b"one"), ("x/001.seg.png", BYTES[2])]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert read(listed(tmp_path / "a.tar")) == [BYTES[1], BYTES[2]]
    assert read(listed(tmp_path / "a.tar", column="seg.png")) == [BYTES[2]]
    assert read(listed(tmp_path / "a.tar", text="txt")) == ["one"]
    assert read(listed(tmp_path / "a.tar", column="png", text="txt")) == [BYTES[1], "one"]
    data = (tmp_path / "a.tar").read_bytes()
    items = listed(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(data[: items[1].where[2] + 5])
    assert read(items[:1]) == [BYTES[1]] and refusal(read, items[1:]) == "source_unreadable"
    (tmp_path / "b.tar").write_bytes(b"no archive" * 100)
    assert refusal(listed, tmp_path / "b.tar") == "table_unreadable"


def test_addresses_and_what_their_rows_may_name(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/bulk/d/1.png", BYTES[1])
    memory.pipe("/bulk/d/2.png", BYTES[2])
    memory.pipe("/bulk/d/notes", b"no picture")
    rows = [{"path": "d/1.png"}, {"path": "memory://bulk/d/2.png"}, {"path": "file:///etc/passwd"}, {"path": "no.png"}]
    memory.pipe("/bulk/t.jsonl", "\n".join(map(json.dumps, rows)).encode())
    try:
        for address, skipped in (("memory://bulk/d", 1), ("memory://bulk/d/*.png", 0)):
            listing = Listing((address,))
            items = list(listing)
            assert listing.skipped == skipped
            assert [fetched(Contents().of(item), item, Access()) for item in items] == BYTES[1:3]
        items = listed("memory://bulk/t.jsonl")
        found = [fetched(one, item, Access()) for one, item in zip(read(items), items, strict=True) if item != items[3]]
        assert found == [BYTES[1], BYTES[2], "file:///etc/passwd"]  # which the policy of sources refuses
        assert refusal(fetched, read(items[3:])[0], items[3], Access()) == "source_not_found"
        small = Access(omni.Limits(source_bytes=10))
        assert refusal(fetched, read(items[:1])[0], items[0], small) == "source_too_large"
    finally:
        memory.rm("/bulk", recursive=True)


# --- the manifest -----------------------------------------------------------------------------------------------------


def manifest(out, shard=(0, 1), part_rows=3, **settings):
    return Manifest(out, settings, {"model": "demo"}, Shard(*shard), part_rows)


def test_a_manifest_keeps_its_order_when_the_input_grows(folder, tmp_path):
    held = manifest(tmp_path / "out")
    assert held.extend(Listing((str(folder), f"{folder}/a.png"))) == (4, 4, 1)
    before = list(held.parts())
    (folder / "a0.png").write_bytes(BYTES[1])
    assert held.extend(Listing((str(folder),))) == (5, 1, 0)
    assert held.extend(Listing((str(folder),))) == (5, 0, 0)
    parts = list(held.parts())
    assert parts[:2] == before
    assert [(part.number, part.first, len(part.items)) for part in parts] == [(0, 0, 3), (1, 3, 1), (2, 4, 1)]
    assert find_items(tmp_path / "out", [f"{folder}/a0.png"]) == {f"{folder}/a0.png": parts[2].items[0]}
    assert refusal(manifest, tmp_path / "out") == "job_running"
    held.close()
    assert refusal(manifest, tmp_path / "out", dtype="float16") == "other_job"
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix)[-1] == "manifest.json"
    manifest(tmp_path / "out").close()


def test_shards_share_the_items(folder, tmp_path):
    shares = []
    for index in range(3):
        held = manifest(tmp_path / "out", (index, 3))
        held.extend(Listing((str(folder),)))
        shares.append([item.id for part in held.parts() for item in part.items])
        held.close()
    assert sorted(name for share in shares for name in share) == [item.id for item in listed(folder)]
    assert refusal(Shard.of, "3/3") == refusal(Shard.of, "a/3") == refusal(Shard.of, (-1, 3)) == "bad_option"
    assert Shard.of("1/3") == Shard(1, 3)


def test_keys_are_a_set(monkeypatch):
    monkeypatch.setattr("omni.bulk.manifest._MERGED", 5)
    keys, wanted = _Keys(), set()
    for number in np.random.default_rng(0).integers(0, 60, 200):
        digest = key_of(str(number))  # some agree in their first half
        key = digest[:8] + key_of(str(number % 7))[8:] if number % 2 else bytes(8) + digest[8:]
        assert keys.add(key) == (key not in wanted)
        wanted.add(key)
    assert len(keys) == len(wanted)


def test_a_name_of_odd_bytes_is_an_item(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(BYTES[0])
    held = manifest(tmp_path / "out")
    held.extend(Listing((str(tmp_path),), leave_out=tmp_path / "out"))
    assert [item.id for part in held.parts() for item in part.items] == [str(path)]
    held.close()
    shutil.rmtree(tmp_path / "out")
