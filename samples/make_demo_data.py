"""Makes what the demo learns from: conversations about drawn, written, spoken and moving things.

    python -m samples.make_demo_data FOLDER [--count 40000] [--test 2000]

Needs the `demo-data` extra, and espeak-ng, flite and festival with festvox-kdlpc16k. Writes train.jsonl and test.jsonl
with their media beside them.
The two share no composition, no writer, no voice and no photograph.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from samples.demo_recipe.conversations import conversation


def make(job: tuple[Path, str, int]) -> str:
    folder, split, index = job
    random = np.random.RandomState((index, split == "test"))
    stored = 0

    def keep(content: bytes, suffix: str) -> str:
        nonlocal stored
        name = f"{split}/{index // 1000:03d}/{index:06d}-{stored}.{suffix}"
        stored += 1
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return name

    messages, skill = conversation(random, split == "test", keep)
    return json.dumps({"messages": messages, "skill": skill})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--test", type=int, default=2_000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for split, count in (("test", options.test), ("train", options.count)):
            jobs = [(options.folder, split, index) for index in range(count)]
            lines = list(tqdm(pool.map(make, jobs, chunksize=50), total=count, desc=split))
            (options.folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
