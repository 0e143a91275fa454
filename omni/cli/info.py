"""`omni info`: what a checkpoint is, and the memory that it needs."""

import typer

from omni.cli.common import ModelName


def info(model: ModelName = "demo") -> None:
    """Say what a checkpoint is: parts, parameters, memory needed. Reads no weights."""
    from omni.tools.summary import summary

    typer.echo(summary(model))
