"""`omni info`: what a checkpoint is, and the memory that it needs."""

import typer

from omni.cli.common import ModelArgument, ModelOption, chosen_model


def info(checkpoint: ModelArgument = None, model: ModelOption = None) -> None:
    """Say what a checkpoint is: parts, parameters, memory needed. Reads no weights."""
    from omni.tools.summary import summary

    typer.echo(summary(chosen_model(checkpoint, model)))
