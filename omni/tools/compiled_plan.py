"""What the programs of a decoder hold while they run, from their compilation for devices that have nothing to hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from encoders.nn.mesh import partition
from encoders.nn.module_weights import Graph
from omni.checkpoint.plan import CHUNK_TOKENS, PlannedMesh
from omni.checkpoint.sharding import partition_spec
from omni.config import ModelConfig
from omni.decoder.cache import HybridCache, named_arrays
from omni.errors import InputError
from omni.generation import programs
from omni.loading import abstract_parts
from processors import ImageConfig


def temporary_bytes(config: ModelConfig, mesh: PlannedMesh, dtype: Any, context: int, batch: int) -> int:
    """Bytes on a device beside arguments and results: the most of reading a chunk of prompts and of a step.

    Raises:
        InputError: `bad_mesh`, there are not as many CPU devices.
    """
    return max(
        program.memory_analysis().temp_size_in_bytes for program in compiled(config, mesh, dtype, context, batch)
    )


def compiled(config: ModelConfig, mesh: PlannedMesh, dtype: Any, context: int, batch: int) -> list[Any]:
    """The programs that read a chunk of prompts, and one token a row, compiled for shapes and shardings alone."""
    return [lowered.compile() for lowered in lower(config, mesh, dtype, context, batch)]


def lower(config: ModelConfig, planned: PlannedMesh, dtype: Any, context: int, batch: int) -> list[Any]:
    """The same, lowered."""
    assert config.text is not None
    devices = jax.devices("cpu")
    if len(devices) < planned.size:
        message = f"{planned.size} CPU devices are needed; start with JAX_NUM_CPU_DEVICES={planned.size}"
        raise InputError("bad_mesh", f"{message}, there are {len(devices)}")
    mesh = Mesh(np.asarray(devices[: planned.size]).reshape(tuple(planned.shape.values())), planned.axis_names)

    whole = PartitionSpec()

    def placed(leaf: Any, spec: PartitionSpec = whole) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    decoder = abstract_parts(config, ImageConfig(), dtype).text
    flat = nnx.to_flat_state(nnx.state(decoder, nnx.Param))
    for path, variable in flat:
        leaf = variable.get_value()
        variable.set_value(placed(leaf, partition_spec(".".join(map(str, path)), leaf.shape, mesh)))
    nnx.update(decoder, nnx.from_flat_state(flat))
    graph = Graph(decoder)
    weights = jax.tree.leaves(graph.state)
    text, length = config.text, max(1, CHUNK_TOKENS // batch)
    cache = jax.eval_shape(lambda: HybridCache.create(text, batch, context, dtype))
    arrays = [placed(array, partition(array.shape, names, mesh)) for array, names in named_arrays(cache)]
    cache = jax.tree.unflatten(jax.tree.structure(cache), arrays)

    def of(shape: tuple[int, ...], kind: Any) -> jax.ShapeDtypeStruct:
        return placed(jax.ShapeDtypeStruct(shape, kind))

    counts = of((batch,), jnp.int32)
    prompts = of((batch, length), jnp.int32), of((3, batch, length), jnp.float32), None, counts
    step = of((batch,), jnp.int32), of((batch,), jnp.float32), counts
    return [
        programs.prefill.lower(False, graph, weights, cache, *prompts, "logits"),
        programs.step.lower(False, graph, weights, cache, *step),
    ]
