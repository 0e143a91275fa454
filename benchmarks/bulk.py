"""Bulk encoding and search: throughput and memory, kills, bad files, recall and precision, each by its own name.

    python -m benchmarks.bulk throughput [--images 10000] [--clips 1000] [--workers 2]
    python -m benchmarks.bulk full [--images 60]
    python -m benchmarks.bulk kills [--images 1000] [--kills 10]
    python -m benchmarks.bulk bad [--images 2000] [--bad 200]
    python -m benchmarks.bulk search [--vectors 10000]
    python -m benchmarks.bulk index [--vectors 10000]

All but `full` and `index` with the demo checkpoint, `full` with the towers of Qwen3-Omni-30B-A3B, random and in float32
(4.6 GB on the disk). Media are made in a temporary folder, and jobs run in processes of their own.
"""

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image, ImageFilter

import omni
from benchmarks.checkpoints import OMNI, write
from benchmarks.stages.vision import tower_config
from omni.bulk.items import Item
from omni.bulk.manifest import Manifest, Shard
from omni.bulk.results import Result
from omni.bulk.search import nearest, recall
from omni.bulk.table_rows import schema, vectors_of
from omni.bulk.table_sinks import LanceSink, update_index
from processors import Access
from processors.features import Processors
from samples.demo_recipe.pictures import Thing, draw, held_out

TICKS = os.sysconf("SC_CLK_TCK")


def make_images(folder: Path, count: int) -> None:
    """Photographic noise of mixed sizes, shapes and formats."""
    dice = random.Random(0)
    ground = np.random.default_rng(0).integers(0, 256, (640, 640, 3), np.uint8)
    canvas = Image.fromarray(ground).filter(ImageFilter.GaussianBlur(3))
    for i in range(count):
        width, height = dice.randint(64, 320), dice.randint(64, 320)
        left, top = dice.randint(0, 640 - width), dice.randint(0, 640 - height)
        picture = canvas.crop((left, top, left + width, top + height))
        picture.save(folder / f"{i:06d}.{'png' if i % 5 == 0 else 'jpg'}")


def make_clips(folder: Path, count: int) -> None:
    """Tones of half a second to three seconds, at several rates, in three formats."""
    dice = np.random.default_rng(0)
    for i in range(count):
        rate = int(dice.choice([8000, 16000, 44100]))
        times = np.arange(int(rate * dice.uniform(0.5, 3))) / rate
        wave = 0.3 * np.sin(2 * np.pi * dice.uniform(100, 2000) * times) + 0.01 * dice.normal(size=len(times))
        soundfile.write(folder / f"{i:06d}.{('wav', 'flac', 'ogg')[i % 3]}", wave.astype(np.float32), rate)


def started(sources: list[str], out: Path, **options: object) -> subprocess.Popen[bytes]:
    """A job in a process of its own."""
    program = f"import omni; omni.encode_files({sources!r}, {str(out)!r}, progress=False, **{options!r})"
    return subprocess.Popen([sys.executable, "-c", program])


def family(pid: int) -> Iterator[int]:
    """A process and its children."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))
    except OSError:
        pass


def usage(pid: int) -> tuple[float, float]:
    """MiB in memory (shared pages by their share) and seconds of processor time, of a process and its children."""
    mebibytes = seconds = 0.0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / TICKS
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text().split("Pss:")[1]
            mebibytes += int(rollup.split()[0]) / 1024
        except (OSError, IndexError):
            continue
    return mebibytes, seconds


def rows(out: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in out.glob("part-*.parquet"))


def table(out: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))])


def alone(folder: Path, count: int, checkpoint: str) -> tuple[float, float]:
    """Processor seconds an item of preprocessing, and of encoding, each alone in this process, all compiled before."""
    model = omni.load(checkpoint, parts=("vision", "audio"))
    media = model.media
    processors = Processors(media.image.config, media.video.config, media.audio.config)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    chosen = random.Random(1).sample(paths, min(count, len(paths)))
    read = encoded = 0.0
    for _ in range(2):
        began = time.process_time()
        features = [processors.read(str(path), Access()) for path in chosen]
        read = time.process_time() - began
        began = time.process_time()
        for start in range(0, len(features), 8):
            media.try_encode(features[start : start + 8])
        encoded = time.process_time() - began
    return read / len(chosen), encoded / len(chosen)


def full(args: argparse.Namespace, folder: Path) -> None:
    """As `throughput`, where encoding is the work."""
    (folder / "towers").mkdir()
    write(folder / "towers", tower_config(False), "float32", OMNI, ("vision", "audio"))
    (folder / "towers" / "preprocessor_config.json").write_text("{}")
    args.clips = 0
    throughput(args, folder, str(folder / "towers"), 8, 8)


def throughput(
    args: argparse.Namespace, folder: Path, checkpoint: str = "demo", alone_items: int = 600, part_rows: int = 256
) -> None:
    for name, make, count in (("images", make_images, args.images), ("clips", make_clips, args.clips)):
        (folder / "media" / name).mkdir(parents=True)
        make(folder / "media" / name, count)
    read, encoded = alone(folder / "media", alone_items, checkpoint)
    cores = len(os.sched_getaffinity(0))
    total, out = args.images + args.clips, folder / "out"
    options = {"format": "parquet", "workers": args.workers, "part_rows": part_rows, "model": checkpoint}
    began, samples = time.perf_counter(), []
    running = started([str(folder / "media")], out, **options)
    first = None
    while running.poll() is None:
        done, (mebibytes, seconds) = rows(out), usage(running.pid)
        if done and first is None:
            first = done, time.perf_counter(), seconds
        samples.append((done / total, mebibytes, seconds, time.perf_counter()))
        time.sleep(0.25)
    wall = time.perf_counter() - began
    assert first is not None and rows(out) == total
    last = samples[-1]
    counted, steady = total - first[0], last[3] - first[1]
    rate, processor = counted / steady, (last[2] - first[2]) / counted
    at = {share: np.median([m for s, m, *_ in samples if share - 0.05 <= s <= share]) for share in (0.2, 1.0)}
    at[1.0] = np.median([m for s, m, *_ in samples if s >= 0.9])
    print(f"{total} items in {wall:.1f} s, {rate:.1f} a second once the first part was written")
    print(f"preprocessing {read * 1e3:.2f} ms, encoding {encoded * 1e3:.2f} ms of processor time an item, each alone")
    print(
        f"the job: {processor * 1e3:.2f} ms an item, all processes together: {processor / (read + encoded):.3f} of both"
    )
    print(f"throughput / (cores / seconds an item) = {rate * (read + encoded) / cores:.3f} on {cores} cores")
    print(f"memory after 20 %: {at[0.2]:.0f} MiB, at the end {at[1.0]:.0f} MiB: {at[1.0] / at[0.2] - 1:+.1%}")


def kills(args: argparse.Namespace, folder: Path) -> None:
    (folder / "media").mkdir()
    make_images(folder / "media", args.images)
    options = {"format": "parquet", "part_rows": 32, "batch_size": 8}
    started([str(folder / "media")], folder / "whole", **options).wait()
    killed, dice = [], random.Random()
    for number in range(args.kills):
        # Anywhere between its start and the rows that leave as many for each of the kills to come.
        before = rows(folder / "out")
        wanted = before + dice.randint(0, (args.images - before) // (args.kills - number))
        running = started([str(folder / "media")], folder / "out", **options)
        while running.poll() is None and (rows(folder / "out") < wanted or not (folder / "out").exists()):
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.5))
        running.send_signal(signal.SIGKILL)
        running.wait()
        killed.append(rows(folder / "out"))
    started([str(folder / "media")], folder / "out", **options).wait()
    ids = Counter(table(folder / "out")["id"].to_pylist())
    names = {str(path) for path in (folder / "media").iterdir()}
    both = [{p.name: p.read_bytes() for p in (folder / one).glob("part-*")} for one in ("out", "whole")]
    print(f"{len(killed)} kills, with {killed} rows written")
    print(f"{len(names - ids.keys())} lost, {sum(ids.values()) - len(ids)} doubled, equal bytes: {both[0] == both[1]}")


def bad(args: argparse.Namespace, folder: Path) -> None:
    (folder / "media").mkdir()
    make_images(folder / "media", args.images)
    ways = (
        ("image_corrupt", lambda data: data[: len(data) // 2]),
        ("media_unknown", lambda data: b"no medium at all " * 4),
        ("source_empty", lambda data: b""),
        ("audio_corrupt", lambda data: b"fLaC" + data),
    )
    wanted = {}
    for i, path in enumerate(random.Random(0).sample(sorted((folder / "media").iterdir()), args.bad)):
        code, spoil = ways[i % len(ways)]
        path.write_bytes(spoil(path.read_bytes()))
        wanted[str(path)] = code
    command = [sys.executable, "-c", "from omni.cli import program; program()", "encode", str(folder / "media")]
    ended = subprocess.run([*command, "-f", "parquet", "-o", str(folder / "out")], stderr=subprocess.DEVNULL)
    found = table(folder / "out")
    codes = dict(zip(found["id"].to_pylist(), found["error_code"].to_pylist(), strict=True))
    failed = {name: code for name, code in codes.items() if code}
    right = sum(failed.get(name) == code for name, code in wanted.items())
    print(f"{len(codes)} rows, exit code {ended.returncode}, {len(failed)} errors: {Counter(failed.values())}")
    print(f"{right} of {len(wanted)} bad files have their code, {len(failed.keys() - wanted.keys())} others have one")


def search(args: argparse.Namespace, folder: Path) -> None:
    """Recall over the demo's own vectors, and whether a picture finds pictures of the same thing."""
    dice = np.random.RandomState(0)
    things = [(shape, colour) for shape in ("circle", "square", "star", "cross") for colour in ("red", "green", "blue")]
    kinds, cells, held = [], [], []
    for _ in range(args.vectors):
        shape, colour = things[dice.randint(len(things))]
        thing, stream = Thing(shape, colour, int(dice.randint(3)), int(dice.randint(3))), io.BytesIO()
        draw(dice, [thing]).save(stream, "PNG")
        kinds.append(thing.name)
        held.append(held_out([thing]))
        cells.append(stream.getvalue())
    pictures = pa.table({"image": cells, "number": list(range(args.vectors))})
    pq.write_table(pictures, folder / "pictures.parquet", row_group_size=256)
    out = folder / "out"
    omni.encode_files(folder / "pictures.parquet", out, format="lance", column="image", id_column="number")
    print(f"recall@10 of the index on {args.vectors} vectors: {recall(out, 10, 200):.4f}")
    found = lance.dataset(str(out / "table.lance")).to_table(columns=["id", "vector"])
    shares: dict[str, list[float]] = {}
    for vector, name in zip(vectors_of(found["vector"]), found["id"].to_pylist(), strict=True):
        kind = kinds[int(name)]
        if held[int(name)] and len(shares.setdefault(kind, [])) < args.queries:
            near = [hit.id for hit in nearest(out, vector, 11, exact=True) if hit.id != name][:10]
            shares[kind].append(float(np.mean([kinds[int(one)] == kind for one in near])))
    for kind, precisions in sorted(shares.items()):
        print(f"precision@10 by {len(precisions)} held-out pictures of a {kind}: {np.mean(precisions):.3f}")
    print(f"precision@10 by all of them: {np.mean([one for some in shares.values() for one in some]):.3f}")


def index(args: argparse.Namespace, folder: Path) -> None:
    """Recall over vectors of width 128 that nobody has learned: in a hundred clusters, and without any structure."""
    dice = np.random.default_rng(1)
    points = dice.normal(size=(args.vectors, 128))
    centres = dice.normal(size=(100, 128))[dice.integers(0, 100, args.vectors)]
    settings = {"format": "lance", "pooling": "mean", "dtype": "float32", "tokens": False}
    for name, values in (("clusters", centres + 0.7 * points), ("no structure", points)):
        vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        manifest = Manifest(folder / name, settings, {}, Shard(), 4096)
        manifest.extend(Item(str(i), "medium", ("path", str(i))) for i in range(len(vectors)))
        sink = LanceSink(manifest, schema(128, "float32", False, {}))
        for part in manifest.parts():
            sink.begin(part)
            sink.write([Result(item, "image", vectors[part.first + i]) for i, item in enumerate(part.items)])
            sink.commit()
        manifest.close()
        update_index(folder / name, Shard())
        print(f"recall@10 of the index on {args.vectors} vectors, {name}: {recall(folder / name, 10, 100):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "full", "kills", "bad", "search", "index"))
    parser.add_argument("--images", type=int)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--bad", type=int, default=200)
    parser.add_argument("--vectors", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=10)
    args = parser.parse_args()
    run = {"throughput": throughput, "full": full, "kills": kills, "bad": bad, "search": search, "index": index}
    if args.images is None:
        args.images = {"full": 60, "kills": 1000, "bad": 2000}.get(args.what, 10_000)
    with tempfile.TemporaryDirectory() as name:
        run[args.what](args, Path(name))


if __name__ == "__main__":
    main()
