"""Teaches the demo a new drawn thing from 20 conversations, and counts what it then knows and what it has lost.

    python -m benchmarks.fine_tune [--kinds whole lora text] [--seeds 0] [--records 0] [--train-options "--steps 60"]

The thing is a flag on a pole, which no conversation behind the demo shows. Each kind of training is `omni train` with
its defaults, in a process of its own and with an empty cache of compiled programs. Told are the seconds that it took,
how many of 6 other flags are called flags, how many of 10 other drawings (of six shapes that the demo knows and four
that it does not) are, and the share of `omni eval demo` before and after.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import omni
from omni.loading import find_directory
from omni.prompt.records import Record, read_records
from omni.tools.evaluate import evaluate
from samples.demo_recipe.pictures import COLOURS, SHAPES, Thing, draw

QUESTIONS = ("What is in this picture?", "What do you see?", "What is this?")
NAME, ANSWER = "flag", "A flag."
UNKNOWN_SHAPES = ("heart", "arrow", "moon", "house")
KINDS = {"whole": (), "lora": ("--lora", "16"), "text": ("--part", "text")}


def draw_flag(random: np.random.RandomState) -> Image.Image:
    """A pole with a cloth of two stripes, of any colours, sizes and places."""
    canvas, pen, side = _canvas(random)
    pole, top, stripe = (_colour(random) for _ in range(3))
    height = random.uniform(0.5, 0.85) * side
    x, y = random.uniform(0.1, 0.35) * side, random.uniform(0.05, 0.95) * (side - height)
    width, cloth = random.uniform(0.35, 0.55) * side, random.uniform(0.4, 0.6) * height
    pen.rectangle((x, y, x + width, y + cloth / 2), fill=top)
    pen.rectangle((x, y + cloth / 2, x + width, y + cloth), fill=stripe)
    pen.rectangle((x - 0.03 * side, y, x, y + height), fill=pole)
    return canvas.resize((side // 4, side // 4), Image.Resampling.LANCZOS)


def draw_unknown(random: np.random.RandomState, shape: str) -> Image.Image:
    """A heart, an arrow, a moon or a house of one colour."""
    canvas, pen, side = _canvas(random)
    r = random.uniform(0.16, 0.3) * side
    x, y = (random.uniform(1.3 * r, side - 1.3 * r) for _ in range(2))
    colour, ground = _colour(random), canvas.getpixel((0, 0))
    if shape == "heart":
        for at in (x - r / 2, x + r / 2):
            pen.ellipse((at - 0.55 * r, y - r, at + 0.55 * r, y + 0.1 * r), fill=colour)
        pen.polygon([(x - 0.98 * r, y - 0.25 * r), (x + 0.98 * r, y - 0.25 * r), (x, y + r)], fill=colour)
    elif shape == "arrow":
        pen.rectangle((x - r, y - 0.2 * r, x + 0.2 * r, y + 0.2 * r), fill=colour)
        pen.polygon([(x + 0.1 * r, y - 0.6 * r), (x + r, y), (x + 0.1 * r, y + 0.6 * r)], fill=colour)
    elif shape == "moon":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        pen.ellipse((x - 0.45 * r, y - 1.1 * r, x + 1.5 * r, y + 0.9 * r), fill=ground)
    else:
        pen.rectangle((x - 0.7 * r, y - 0.1 * r, x + 0.7 * r, y + r), fill=colour)
        pen.polygon([(x - r, y - 0.1 * r), (x + r, y - 0.1 * r), (x, y - r)], fill=_colour(random))
    return canvas.resize((side // 4, side // 4), Image.Resampling.LANCZOS)


def draw_known(random: np.random.RandomState, shape: str) -> Image.Image:
    """One shape as the demo was trained on."""
    colour = list(COLOURS)[random.randint(len(COLOURS))]
    return draw(random, [Thing(shape, colour, random.randint(3), random.randint(3))])


def _canvas(random: np.random.RandomState) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """Four times too large, for smooth edges."""
    side = 4 * int(random.choice([96, 112, 128, 144, 160, 192]))
    canvas = Image.new("RGB", (side, side), tuple(int(level) for level in random.randint(140, 256, 3)))
    return canvas, ImageDraw.Draw(canvas), side


def _colour(random: np.random.RandomState) -> tuple[int, ...]:
    dark = [colour for name, colour in COLOURS.items() if name not in ("white", "pink", "yellow")]
    shade = np.asarray(dark[random.randint(len(dark))]) + random.randint(-15, 16, 3)
    return tuple(int(level) for level in np.clip(shade, 0, 255))


def write_conversations(folder: Path, seed: int, count: int = 20) -> Path:
    """Images of flags, and conversations that name them."""
    random = np.random.RandomState((seed, 1))
    lines = []
    for i in range(count):
        draw_flag(random).save(folder / f"{i:02d}.png")
        content = [{"type": "image", "image": f"{i:02d}.png"}, {"type": "text", "text": QUESTIONS[i % len(QUESTIONS)]}]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": ANSWER}]
        lines.append(json.dumps({"messages": messages, "skill": NAME}))
    path = folder / "flags.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def other_flags(seed: int, count: int = 6) -> list[Image.Image]:
    """Flags that training has not seen."""
    random = np.random.RandomState((seed, 2))
    return [draw_flag(random) for _ in range(count)]


def other_drawings(seed: int, rounds: int = 1) -> list[Image.Image]:
    """What no flag is: in each round six shapes that the demo knows and four that it does not."""
    random = np.random.RandomState((seed, 3))
    drawings = []
    for _ in range(rounds):
        drawings += [draw_known(random, shape) for shape in SHAPES]
        drawings += [draw_unknown(random, shape) for shape in UNKNOWN_SHAPES]
    return drawings


def replies(model: omni.Model, images: Sequence[Image.Image]) -> list[str]:
    """What the model says of each, asked by turns in every wording."""
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTIONS[i % 3]}]}]
        for i, image in enumerate(images)
    ]
    return [reply.text for reply in model.generate(asked, temperature=0, max_new_tokens=32)]


def named(texts: Sequence[str]) -> int:
    """How many of the replies call it by the new name."""
    return sum(NAME in text.lower() for text in texts)


def share(model: omni.Model, records: Sequence[Record]) -> float:
    """The share of recorded answers that a model gives word for word."""
    results = list(evaluate(model, records, batch_size=32))
    return sum(result.right for result in results) / len(results)


def chosen_records(count: int) -> list[Record]:
    """So many of the demo's held-out conversations, spread over them all; all for 0."""
    records = read_records(find_directory("demo") / "heldout.zip")
    return records if not count else records[:: max(1, len(records) // count)][:count]


def train(data: Path, out: Path, options: Sequence[str]) -> tuple[float, float]:
    """Runs `omni train` with nothing compiled before; the seconds that passed, and those that its cores worked."""
    command = [sys.executable, "-m", "omni", "train", str(data), "--out", str(out), *options]
    before, began = os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        subprocess.run(command, check=True, env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache})
    after = os.times()
    worked = after.children_user - before.children_user + after.children_system - before.children_system
    return time.perf_counter() - began, worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--records", type=int, default=0, help="how many held-out conversations are asked; 0 for all")
    parser.add_argument("--train-options", default="", help="options of omni train in addition, in one string")
    args = parser.parse_args()
    records = chosen_records(args.records)
    before = share(omni.load("demo"), records)
    print("| kind  | seed | seconds | core seconds | flags | others | before | after  |")
    print("|-------|-----:|--------:|-------------:|------:|-------:|-------:|-------:|")
    for kind in args.kinds:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as name:
                data = write_conversations(Path(name), seed)
                options = (*KINDS[kind], *shlex.split(args.train_options))
                seconds, worked = train(data, Path(name) / "out", options)
                model = omni.load(Path(name) / "out")
                right, wrong = named(replies(model, other_flags(seed))), named(replies(model, other_drawings(seed)))
                after = share(model, records)
            counts = f"{right} of 6 | {wrong} of 10"
            print(
                f"| {kind:5} | {seed:4} | {seconds:7.1f} | {worked:12.1f} | {counts} | {before:6.1%} | {after:6.1%} |"
            )


if __name__ == "__main__":
    main()
