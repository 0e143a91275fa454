"""Encoding on Ray: how much faster two workers are than one, each bound by one core.

    python -m benchmarks.bulk_ray [--images 1200]

A worker is an `Encoder` of `map_batches`, held with its decoding process on a core of its own; the demo checkpoint,
images as `benchmarks.bulk` makes them. The rate is that between 20 % and 90 % of the rows, when all have compiled.
"""

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bulk import make_images
from omni.bulk.ray_data import Encoder
from omni.bulk.ray_engine import import_ray


class PinnedEncoder(Encoder):
    """An encoder that stays on the first core that no other one has claimed."""

    def __init__(self, claims: str, **options: Any):
        for core in sorted(os.sched_getaffinity(0)):
            with contextlib.suppress(FileExistsError):
                Path(claims, str(core)).touch(exist_ok=False)
                os.sched_setaffinity(0, {core})
                break
        super().__init__(**options)


def rate(ray: Any, paths: list[str], workers: int, claims: Path) -> float:
    """Rows a second with so many workers."""
    claims.mkdir()
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths) // 16)
    encoded = rows.map_batches(
        PinnedEncoder,
        fn_constructor_kwargs={"claims": str(claims), "workers": 1},
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    done, times = 0, []
    for batch in encoded.iter_batches(batch_size=None):
        done += len(batch["id"])
        times.append((done, time.perf_counter()))
    assert done == len(paths)
    middle = [(count, moment) for count, moment in times if 0.2 * done <= count <= 0.9 * done]
    (first, began), (last, ended) = middle[0], middle[-1]
    return (last - first) / (ended - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200)
    args = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = import_ray()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "media").mkdir()
        make_images(folder / "media", args.images)
        paths = sorted(str(path) for path in (folder / "media").iterdir())
        ray.init(num_cpus=4, log_to_driver=False, logging_level="warning", object_store_memory=200 << 20)
        ray.data.DataContext.get_current().enable_progress_bars = False
        rates = [rate(ray, paths, workers, folder / f"cores-{i}") for i, workers in enumerate((1, 2, 1, 2))]
        ray.shutdown()
    one, two = max(rates[0::2]), max(rates[1::2])
    print(f"one worker {one:.1f} rows a second, two {two:.1f}: {two / one:.2f} times as many")


if __name__ == "__main__":
    main()
