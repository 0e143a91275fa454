"""Encodes 200 mixed photos with `omni encode`'s own path: programs compiled, images a second, memory over time.

    python -m benchmarks.folder [--model demo] [--photos 200]

The photos are JPEG and PNG files of random sizes from 64 to 2,000 pixels a side, cut and scaled from samples/.
"""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path

from PIL import Image

import omni
from omni.media.encoder import as_medium

SAMPLES = Path(__file__).parent.parent / "samples"


def make_photos(folder: Path, count: int) -> list[Path]:
    """Files of mixed sizes, shapes and formats."""
    dice = random.Random(0)
    originals = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    paths = []
    for i in range(count):
        width = int(64 * 31 ** dice.random())
        height = min(max(int(width * dice.choice([0.4, 0.56, 0.67, 0.75, 1.0, 1.33, 1.5, 1.78])), 64), 2000)
        photo = dice.choice(originals).resize((width, height), Image.Resampling.BILINEAR)
        path = folder / f"{i:03d}.{'png' if i % 5 == 0 else 'jpg'}"
        photo.save(path)
        paths.append(path)
    return paths


def peak_mib() -> float:
    """The most memory this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = make_photos(Path(name), args.photos)
        model = omni.load(args.model, parts=("vision",))
        began = time.perf_counter()
        print("photos   seconds   peak MiB   programs")
        for i, _ in enumerate(model.media.stream([as_medium(path) for path in paths], args.batch_size), 1):
            if i % max(1, args.photos // 5) == 0:
                print(f"{i:6d} {time.perf_counter() - began:9.1f} {peak_mib():10.0f} {model.media.programs():10d}")
        print(f"{args.photos / (time.perf_counter() - began):.2f} images a second, compilation included")


if __name__ == "__main__":
    main()
