"""What `omni info --mesh` says: the memory that a model takes of each device, and the chips that have it."""

import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from omni.call_options import DType
from omni.checkpoint.config_file import read_config
from omni.checkpoint.directory import find_directory
from omni.checkpoint.load import open_weights, parameter_shapes
from omni.checkpoint.plan import (
    CHIPS,
    CHUNK_TOKENS,
    USABLE,
    PlannedMesh,
    activation_bytes,
    cache_bytes,
    gib,
    undivided,
    undivided_heads,
    weight_bytes,
)
from omni.checkpoint.quantize import check_form, is_matrix
from omni.config import ModelConfig
from omni.errors import CheckpointError, InputError, check_batch_size, is_whole, shown
from omni.loading import abstract_parts, without_absent_head
from processors import ImageConfig

_MOST_NAMED = 8


def plan(
    name: str | os.PathLike[str],
    mesh: str,
    *,
    dtype: DType | None = None,
    quantize: str | None = None,
    context: int = 4096,
    batch: int = 1,
    compiled: bool = False,
) -> str:
    """A table of the bytes that a device holds, and what it comes from; reads no weights.

    Args:
        name: as `omni.load` takes it; a directory with config.json alone will do.
        mesh: such as "4x2" or "fsdp=4,tensor=2".
        dtype: of weights, cache and activations; bfloat16 when None.
        quantize: "int8" for matrices of 8 bits.
        context: tokens of each conversation.
        batch: conversations.
        compiled: take activations from programs that are compiled for as many devices, instead of a formula.

    Raises:
        CheckpointError: the directory holds no config that can be read.
        InputError: `bad_mesh`, `bad_option`, `bad_batch_size`.
    """
    check_form(quantize)
    check_batch_size(batch)
    if not is_whole(context) or context < 1:
        raise InputError("bad_option", f"a context is a number of tokens of 1 or more, not {shown(context)}")
    if dtype not in (None, "float32", "bfloat16"):
        raise InputError("bad_option", f"dtype must be float32 or bfloat16, got {shown(dtype)}")
    planned, config = PlannedMesh.of(mesh), _config(find_directory(name))
    return describe(
        os.fspath(name), config, planned, jnp.dtype(dtype or "bfloat16"), quantize, context, batch, compiled
    )


def describe(
    name: str,
    config: ModelConfig,
    mesh: PlannedMesh,
    dtype: Any,
    quantize: str | None,
    context: int,
    batch: int,
    compiled: bool,
) -> str:
    """As `plan`, of a config."""
    shapes = parameter_shapes(abstract_parts(config, ImageConfig(), dtype))
    integers = is_matrix if quantize == "int8" else (lambda path: False)
    weights = weight_bytes(shapes, lambda path: dtype.itemsize, mesh, integers)
    total = weight_bytes(shapes, lambda path: dtype.itemsize, None, integers)
    rows = [("weights", weights, f"exact; {gib(total)} in all")]
    if config.text is not None:
        cache = cache_bytes(config.text, batch, context, dtype, mesh)
        rows.append(("cache", cache, f"exact, for {batch} x {context:,} tokens"))
        if compiled:
            from omni.tools.compiled_plan import temporary_bytes

            running = temporary_bytes(config, mesh, dtype, context, batch)
            note = "an estimate: what XLA's programs for as many CPU devices hold"
        else:
            running = activation_bytes(config.text, batch, max(CHUNK_TOKENS, batch), dtype, mesh)
            note = f"an estimate, for {CHUNK_TOKENS:,} tokens of prompts at a time"
        rows.append(("activations", running, note))
    needed = sum(count for _, count, _ in rows)
    rows.append(("together", needed, f"on each of {mesh.size} devices"))
    form = f"{dtype.name}{', matrices in int8' if quantize == 'int8' else ''}"
    lines = [f"{name} in {form} on a mesh of {mesh}", ""]
    lines += [f"{what:12} {gib(count):>11}  {note}" for what, count, note in rows]
    whole = undivided(shapes, mesh)
    if config.text is not None:
        whole = undivided_heads(config.text, mesh) + whole
    if whole:
        more = f" and {len(whole) - _MOST_NAMED} more" if len(whole) > _MOST_NAMED else ""
        listed = ", ".join(whole[:_MOST_NAMED])
        lines += ["", f"held whole, as no axis divides them: {listed}{more}"]
    fits = [chip.name for chip in CHIPS if needed <= USABLE * chip.bytes]
    lines += ["", f"fits, with a tenth of the memory to spare: {', '.join(fits) or 'none of the chips listed'}"]
    return "\n".join(lines)


def _config(directory: Path) -> ModelConfig:
    """The parts of a checkpoint, with or without its weights."""
    family, config = read_config(directory)
    try:
        stored, _ = open_weights(directory, family, config.dtype)
    except CheckpointError as error:
        if error.code != "no_weights":
            raise
        return config
    return without_absent_head(directory, family, config, stored)
