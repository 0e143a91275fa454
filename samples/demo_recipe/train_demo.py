"""Trains the checkpoint behind `omni.load("demo")` on conversations that are made meanwhile.

    python -m samples.make_demo_data DATA --count 20000 --test 1200
    python -m samples.demo_recipe.make_demo_checkpoint DATA START
    python -m samples.demo_recipe.train_demo_towers START
    python -m samples.demo_recipe.voices VOICES
    python -m samples.demo_recipe.train_demo START VOICES OUT

The decoder first learns to read what the taught towers tell it, then everything learns together. A run that was killed
goes on where it was last saved. A GPU wants larger steps (`--size 256 --lr 1.5e-3 1e-3`), and for so small a
model it should not try out kernels: XLA_FLAGS="--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false".
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from tqdm import tqdm

import omni
from omni.training import Batch, TrainingOptions, train_on
from samples.demo_recipe.stream import stream


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
    parser.add_argument("start", type=Path)
    parser.add_argument("voices", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--reading", type=int, default=8_000, help="steps of the decoder alone")
    parser.add_argument("--together", type=int, default=8_000, help="steps of everything")
    parser.add_argument("--size", type=int, default=32, help="conversations a step")
    parser.add_argument("--lr", type=float, nargs=2, default=(1.5e-3, 6e-4), help="of the two phases")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that make conversations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", action="store_true", help="from the decoder that START has")
    options = parser.parse_args()
    model = omni.load(options.start, dtype="float32")
    if not options.go_on:
        begin(model.parts.text)
    options.out.mkdir(parents=True, exist_ok=True)
    # Towers that learn as fast as a decoder which does not yet look lose what they were taught.
    phases = (("reading", options.reading, ("text",)), ("together", options.together, None))
    with (options.out / "metrics.jsonl").open("a") as log:
        for seed, ((name, steps, parts), lr) in enumerate(zip(phases, options.lr, strict=True), 2 * options.seed):
            if not steps:
                continue
            how = TrainingOptions(steps, options.size, lr, last_share=0.01, parts=parts, save_every=1000)
            recent = 0.0
            with tqdm(total=steps, unit="step", desc=name) as bar, ExitStack() as stack:

                def made(first: int, seed: int = seed, stack: ExitStack = stack) -> Iterator[Batch]:
                    batches = stream(options.start, options.voices, options.size, options.workers, seed, first)
                    return stack.enter_context(closing(batches))

                for metrics in train_on(model, made, options.out / name, how):
                    bar.update(metrics.step - bar.n)
                    recent = metrics.loss if recent == 0 else 0.98 * recent + 0.02 * metrics.loss
                    bar.set_postfix(loss=f"{recent:.3f}", refresh=False)
                    if metrics.step % 50 == 0:
                        line = {"phase": name, "step": metrics.step, "loss": round(recent, 4)}
                        log.write(json.dumps(line | {"seconds": round(metrics.seconds, 3)}) + "\n")
                        log.flush()
    model.save(options.out, overwrite=True)


if __name__ == "__main__":
    main()
