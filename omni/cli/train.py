"""`omni train`: a checkpoint trained on conversations."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omni.cli.common import Dtype, ModelName, folder
from omni.cli.interruption import interruption
from omni.cli.progress import progress
from omni.errors import InputError

if TYPE_CHECKING:
    from omni.training import TrainingOptions

# From so many conversations on, a tenth is held back where no file of others is named.
_ENOUGH = 50


def train(
    data: Annotated[Path, typer.Argument(help='Conversations, one {"messages": [...]} a line; media beside the file.')],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the trained checkpoint.")],
    model: ModelName = "demo",
    steps: Annotated[
        int | None,
        typer.Option(help="Batches to train on; by default 120, or what shows each conversation three times."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Conversations a batch.")] = 8,
    learning_rate: Annotated[
        float | None,
        typer.Option("--lr", help="At its highest; by default 0.08 / the decoder's width, 0.25 / it for adapters."),
    ] = None,
    lora: Annotated[int | None, typer.Option(help="Train adapters of this rank, and not whole matrices.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Train this part alone; may be given again.")] = None,
    mix: Annotated[
        Path | None,
        typer.Option(help="Earlier conversations against forgetting; the checkpoint's replay.zip when not given."),
    ] = None,
    mix_share: Annotated[float, typer.Option(help="How many batches of all hold earlier conversations.")] = 0.5,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Conversations to measure on and not to learn; of 50 or more, a tenth is held back when not given."
        ),
    ] = None,
    patience: Annotated[int, typer.Option(help="Measurements without a lower loss after which to stop.")] = 3,
    seed: Annotated[int, typer.Option(help="Order of the conversations.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between saves of the state.")] = 200,
    dtype: Dtype = None,
) -> None:
    """Train a checkpoint on conversations. A run that was interrupted goes on where it was last saved."""
    import omni
    from omni.checkpoint.save import holds_checkpoint
    from omni.checkpoint.training_run import STATE_FOLDER, TrainingRun, write_run
    from omni.loading import find_directory
    from omni.training import LoRA, TrainingOptions, answer_tokens, completed, read_jsonl, saved_step
    from omni.training import train as run

    options = TrainingOptions(
        steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        parts=part or None,
        lora=None if lora is None else LoRA(lora, 2.0 * lora),
        seed=seed,
        save_every=save_every,
        mix_share=mix_share,
        patience=patience,
    )
    conversations = read_jsonl(data)
    if validation is not None:
        held = read_jsonl(validation)
    else:
        held = conversations[9::10] if len(conversations) >= _ENOUGH else []
        conversations = [one for i, one in enumerate(conversations) if not held or i % 10 != 9]
    state = out / STATE_FOLDER
    if holds_checkpoint(out) and not state.is_dir():
        raise InputError("checkpoint_exists", f"{out} holds a checkpoint that no earlier run has trained")
    replay = find_directory(model) / "replay.zip" if mix is None else mix
    earlier = read_jsonl(replay) if mix_share and (mix is not None or replay.exists()) else []

    loaded = omni.load(model, dtype=dtype)
    if options.lora is not None:
        tokens = answer_tokens(loaded, conversations)
        options = dataclasses.replace(options, lora=dataclasses.replace(options.lora, tokens=tokens))
    options = completed(options, loaded, len(conversations), mix_share if earlier else 0.0)
    assert options.steps is not None
    done = saved_step(state) or 0
    _tell(options, len(conversations), len(held), replay.name if earlier else None)
    if done:
        typer.echo(f"going on after step {done} of {options.steps}, which an earlier run has saved", err=True)
    command = shlex.join(["omni", *sys.argv[1:]])  # as it was typed
    write_run(folder(out), TrainingRun(model, str(data), options.steps, command))
    forget_after(out / "metrics.jsonl", done)

    note = "the step is finished, and its state saved; once more leaves at once"
    with (
        interruption(note) as asked,
        progress(options.steps, "step", done) as told,
        (out / "metrics.jsonl").open("a", encoding="utf-8") as log,
    ):
        for metrics in run(loaded, conversations, state, options, mix=earlier, validation=held, stop=asked.__bool__):
            done = metrics.step
            values = {"loss": f"{metrics.loss:.3f}"}
            if metrics.validation_loss is not None:
                values["validation_loss"] = f"{metrics.validation_loss:.3f}"
            told.update(done, **values)
            log.write(json.dumps(dataclasses.asdict(metrics)) + "\n")
            log.flush()
    if asked and done < options.steps:
        typer.echo(f"stopped after step {done} of {options.steps}, which is saved; go on with: {command}", err=True)
        raise typer.Exit(128 + (asked.signal or 0))
    loaded.save(out, overwrite=True)
    early = f" of {options.steps}, as the validation loss no longer fell" if done < options.steps else ""
    typer.echo(f"{done} steps{early} on {len(conversations)} conversations; the checkpoint is in {out}")


def _tell(options: "TrainingOptions", count: int, held: int, replay: str | None) -> None:
    """What will be done, in one line or two."""
    if options.lora is not None:
        what = f"adapters of rank {options.lora.rank} and the rows of {len(options.lora.tokens)} tokens"
    else:
        what = "all parts" if options.parts is None else " and ".join(options.parts)
    mixed = "" if replay is None else f", {options.mix_share:.0%} of them from {replay}"
    kept = f"; {held} more to measure on" if held else ""
    how = f"{options.steps} batches of {options.batch_size}{mixed}, a learning rate of {options.learning_rate:.2g}"
    typer.echo(f"training {what} on {count} conversations{kept}: {how}", err=True)
    if replay is None:
        typer.echo("no earlier conversations are mixed in, so the model may forget what it knew: see --mix", err=True)


def forget_after(log: Path, step: int) -> None:
    """Leaves in a log the steps that are saved: those after them come again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut short
    log.write_text("".join(kept), encoding="utf-8")
