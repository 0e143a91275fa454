"""A program that answers with a checkpoint on a mesh: the other side of the tests of meshes.

    python -m tests.omni.mesh_answers DIRECTORY OUT [--mesh data=2,tensor=2] [--ask encode,logits,generate,train]
        [--process 0 --address localhost:1234]

Without a mesh everything lies on one device. With a process, there are two, each with half of the devices.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

import omni
from omni.checkpoint import safetensors
from omni.checkpoint.safetensors import OpenFile
from omni.training import TrainingOptions, train_on
from omni.training.batch import Batch
from tests.golden import media

# With some other seeds, rounding the weights of Qwen3-Next once more moves the norm of its gradient by 3e-5; with this
# one, by under 1e-6.
IDS = np.random.RandomState(4).randint(0, 256, 40)


def mesh_of(text: str) -> Mesh:
    """A mesh from such as "data=2,tensor=4"."""
    axes = {name: int(size) for name, size in (part.split("=") for part in text.split(","))}
    devices = np.asarray(jax.devices()[: int(np.prod(list(axes.values())))])
    return Mesh(devices.reshape(tuple(axes.values())), tuple(axes))


def batch() -> Batch:
    """Two conversations of text, of different lengths."""
    counts = np.asarray([24, 17], np.int32)
    ids = np.where(np.arange(24) < counts[:, None], IDS[None, :24] + np.arange(2)[:, None], 0).astype(np.int32)
    learned = (np.arange(24) >= 5) & (np.arange(24) < counts[:, None])
    positions = np.broadcast_to(np.arange(24, dtype=np.float32), (3, 2, 24)).copy()
    return Batch(ids, positions, counts, learned, np.zeros((2, 24), np.int32), (), ())


def answers(model: omni.Model, asked: list[str]) -> Iterator[tuple[str, Any]]:
    """Names and arrays."""
    if "encode" in asked:
        if model.config.vision is not None:
            yield "image", model.encode(media.image("small")).tokens
        if model.config.audio is not None:
            yield "audio", model.encode(omni.Audio(media.audio("short"), media.RATE)).tokens
    if "logits" in asked:
        yield "logits", model.logits(IDS.tolist())
    if "generate" in asked:
        replies: Any = model.generate([IDS[:9].tolist(), IDS[:30].tolist()], max_new_tokens=5, temperature=0)
        yield "replies", np.asarray([reply.token_ids for reply in replies])
    if "train" in asked:
        # The rate of the first step is 0. Adam makes a step of full size even of a gradient that is all rounding: a
        # high rate would compare nothing else.
        options = TrainingOptions(steps=2, batch_size=2, learning_rate=2e-5, parts=("text",))
        with tempfile.TemporaryDirectory() as directory:
            metrics = [*train_on(model, lambda first: iter([batch()] * 2), Path(directory), options)]
        yield "loss", np.asarray([[step.loss, step.gradient_norm] for step in metrics])
        yield "trained", model.logits(IDS.tolist())


def main() -> None:
    """Answer, and write the answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--mesh", nargs="*", default=[""])
    parser.add_argument("--ask", default="encode,logits,generate,train")
    parser.add_argument("--process", type=int)
    parser.add_argument("--address")
    given = parser.parse_args()
    if given.process is not None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(given.address, 2, given.process)
    safetensors._SHORT_RUN = 0  # the matrices of small models have no rows as long as a page
    read: list[int] = []
    into = OpenFile.read_into
    OpenFile.read_into = lambda self, out, at: (read.append(len(out)), into(self, out, at))[1]  # type: ignore[method-assign]
    found: dict[str, Any] = {}
    for mesh in given.mesh:
        read.clear()
        model = omni.load(given.directory, mesh=mesh_of(mesh) if mesh else None)
        leaves = jax.tree.leaves(nnx.state(model.parts))
        found |= {f"{mesh}/{name}": value for name, value in answers(model, given.ask.split(","))}
        found[f"{mesh}/read"] = sum(read)
        # Parts that several devices hold alike are read once.
        parts = ({str(shard.index): shard.data.nbytes for shard in leaf.addressable_shards} for leaf in leaves)
        found[f"{mesh}/held"] = sum(sum(sizes.values()) for sizes in parts)
        found[f"{mesh}/cut"] = sum(not leaf.is_fully_replicated for leaf in leaves)
    np.savez(given.out, **found)
    if given.process is not None:
        jax.distributed.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
