"""`omni info`: what a checkpoint is, and the memory that it needs."""

from typing import Annotated

import typer

from omni.cli.common import Dtype, ModelArgument, ModelOption, Quantization, chosen_model


def info(
    checkpoint: ModelArgument = None,
    model: ModelOption = None,
    mesh: Annotated[
        str | None, typer.Option(help="Plan for devices: 8, 4x2 (data x tensor), or fsdp=4,tensor=2.")
    ] = None,
    dtype: Dtype = None,
    quantize: Annotated[Quantization | None, typer.Option(help="int8 for matrices of 8 bits; with --mesh.")] = None,
    context: Annotated[int, typer.Option(help="Tokens of a conversation; with --mesh.")] = 4096,
    batch: Annotated[int, typer.Option(help="Conversations at the same time; with --mesh.")] = 1,
    compile: Annotated[
        bool, typer.Option("--compile", help="Activations from compiled programs; with --mesh.")
    ] = False,
) -> None:
    """Say what a checkpoint is: parts, parameters, memory needed, on a mesh of devices too. Reads no weights."""
    named = chosen_model(checkpoint, model)
    if mesh is None:
        from omni.tools.summary import summary

        typer.echo(summary(named))
        return
    from omni.checkpoint.plan import PlannedMesh
    from omni.tools.plan import plan

    if compile:
        import jax

        # Before JAX has looked for devices.
        jax.config.update("jax_num_cpu_devices", PlannedMesh.of(mesh).size)
    typer.echo(plan(named, mesh, dtype=dtype, quantize=quantize, context=context, batch=batch, compiled=compile))
