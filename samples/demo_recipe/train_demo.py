"""Trains the checkpoint behind `omni.load("demo")` on what make_demo_data.py made.

    python samples/make_demo_data.py DATA
    python samples/demo_recipe/make_demo_checkpoint.py DATA START
    python samples/demo_recipe/train_demo_towers.py START
    python samples/demo_recipe/train_demo.py DATA START OUT

The decoder first learns to read what the taught towers tell it, then everything learns together. A run that was killed
goes on where it was last saved.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from tqdm import tqdm

import omni
from omni.training import TrainingOptions, read_jsonl, train


def begin(text: nnx.Module) -> None:
    """Weights of the decoder as its training begins: matrices keep the size of what they multiply.

    The usual deviation of 0.02 does so at a width of 2,048. At 128 it would make every product of three matrices a
    hundred times too small, and what is seen would not reach what is said for thousands of steps.
    """
    for i, (path, weight) in enumerate(nnx.to_flat_state(nnx.state(text, nnx.Param))):
        name = ".".join(map(str, path))
        if "norm" not in name:
            deviation = 0.5 if "embed" in name else weight.shape[-1] ** -0.5
            weight[...] = deviation * jax.random.normal(jax.random.key(i), weight.shape)
        else:
            weight[...] = jnp.ones(weight.shape)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("start", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--reading", type=int, default=8_000, help="steps of the decoder alone")
    parser.add_argument("--together", type=int, default=4_000, help="steps of everything")
    parser.add_argument("--keep-gib", type=float, default=10)
    parser.add_argument("--go-on", action="store_true", help="from the decoder that START has")
    arguments = parser.parse_args()
    model = omni.load(arguments.start, dtype="float32")
    if not arguments.go_on:
        begin(model.parts.text)
    conversations = read_jsonl(arguments.data / "train.jsonl")
    # Towers that learn as fast as a decoder which does not yet look lose what they were taught.
    phases = (
        TrainingOptions(arguments.reading, 32, 1.5e-3, parts=("text",), save_every=500, keep_gib=arguments.keep_gib),
        TrainingOptions(arguments.together, 32, 4e-4, save_every=500, keep_gib=arguments.keep_gib, seed=1),
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "metrics.jsonl").open("a") as log:
        for name, options in zip(("reading", "together"), phases, strict=True):
            recent = 0.0
            with tqdm(total=options.steps, unit="step", desc=name) as bar:
                for metrics in train(model, conversations, arguments.out / name, options):
                    bar.update(metrics.step - bar.n)
                    recent = metrics.loss if recent == 0 else 0.98 * recent + 0.02 * metrics.loss
                    bar.set_postfix(loss=f"{recent:.3f}", refresh=False)
                    if metrics.step % 50 == 0:
                        log.write(json.dumps({"phase": name, "step": metrics.step, "loss": round(recent, 4)}) + "\n")
                        log.flush()
    model.save(arguments.out, overwrite=True)


if __name__ == "__main__":
    main()
