"""`omni info`: what a checkpoint is, and the memory that it needs."""

from typing import Annotated

import typer

from omni.cli.common import Dtype, ModelName


def info(
    name: Annotated[str | None, typer.Argument(help="The same as --model.")] = None,
    model: ModelName = "demo",
    mesh: Annotated[
        str | None, typer.Option(help="Plan for devices: 8, 4x2 (data x tensor), or fsdp=4,tensor=2.")
    ] = None,
    dtype: Dtype = None,
    quantize: Annotated[str | None, typer.Option(help="int8 for matrices of 8 bits; with --mesh.")] = None,
    context: Annotated[int, typer.Option(help="Tokens of a conversation; with --mesh.")] = 4096,
    batch: Annotated[int, typer.Option(help="Conversations at the same time; with --mesh.")] = 1,
    compile: Annotated[
        bool, typer.Option("--compile", help="Activations from compiled programs; with --mesh.")
    ] = False,
) -> None:
    """Say what a checkpoint is: parts, parameters, memory needed, on a mesh of devices too. Reads no weights."""
    model = model if name is None else name
    if mesh is None:
        from omni.tools.summary import summary

        typer.echo(summary(model))
        return
    from omni.checkpoint.plan import PlannedMesh
    from omni.tools.plan import plan

    if compile:
        import jax

        # Before JAX has looked for devices.
        jax.config.update("jax_num_cpu_devices", PlannedMesh.of(mesh).size)
    typer.echo(plan(model, mesh, dtype=dtype, quantize=quantize, context=context, batch=batch, compiled=compile))
