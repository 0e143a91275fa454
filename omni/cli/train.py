"""`omni train`: a checkpoint trained on conversations."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from omni.cli.common import Dtype, ModelName, folder
from omni.errors import InputError


def train(
    data: Annotated[Path, typer.Argument(help='Conversations, one {"messages": [...]} a line; media beside the file.')],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained checkpoint.")],
    model: ModelName = "demo",
    steps: Annotated[int, typer.Option(help="Batches to train on.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Conversations a batch.")] = 8,
    learning_rate: Annotated[float, typer.Option("--lr", help="At its highest.")] = 1e-4,
    lora: Annotated[int | None, typer.Option(help="Train adapters of this rank, and not whole matrices.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Train this part alone; may be given again.")] = None,
    seed: Annotated[int, typer.Option(help="Order of the conversations.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves of the state.")] = 200,
    dtype: Dtype = None,
) -> None:
    """Train a checkpoint on conversations. A run that was killed goes on where it was last saved."""
    import omni
    from omni.checkpoint.save import holds_checkpoint
    from omni.training import LoRA, TrainingOptions, read_jsonl
    from omni.training import train as run

    adapters = None if lora is None else LoRA(lora, 2.0 * lora)
    options = TrainingOptions(
        steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        parts=part or None,
        lora=adapters,
        seed=seed,
        save_every=save_every,
    )
    conversations = read_jsonl(data)
    if holds_checkpoint(out) and not (out / "state").is_dir():
        raise InputError("checkpoint_exists", f"{out} holds a checkpoint that no earlier run has trained")
    loaded = omni.load(model, dtype=dtype)
    with tqdm(total=steps, unit="step", disable=None) as bar, (folder(out) / "metrics.jsonl").open("a") as log:
        for metrics in run(loaded, conversations, out / "state", options):
            bar.update(metrics.step - bar.n)
            bar.set_postfix(loss=f"{metrics.loss:.3f}")
            log.write(json.dumps(dataclasses.asdict(metrics)) + "\n")
            log.flush()
    loaded.save(out, overwrite=True)
    typer.echo(f"{steps} steps on {len(conversations)} conversations; the checkpoint is in {out}")
