"""`omni eval`: the answers of a file that a model gives word for word, counted."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from tqdm import tqdm

from omni.cli.common import Adapters, Dtype, ModelArgument, ModelOption, chosen_model, notes_last
from omni.errors import InputError

if TYPE_CHECKING:
    from omni.prompt.records import Record
    from omni.tools.evaluate import Result, Score


def evaluate(
    checkpoint: ModelArgument = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            help='Conversations with true answers, one {"messages": [...], "skill": "..."} a line, media beside the '
            "file; or a .zip of all that. The checkpoint's own heldout.zip when not given."
        ),
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="File for all results, a JSON object a line.")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another checkpoint, such as the one before training, asked the same and compared."),
    ] = None,
    show_wrong: Annotated[int, typer.Option(min=0, help="Print this many of the wrong answers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="How many answers are decoded together.")] = 16,
    model: ModelOption = None,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Ask a model for every answer in a file, and count those that it gives word for word.

    It answers greedily, and reads the true conversation before each answer. The table is Markdown; with `--against`, it
    has the scores of both checkpoints and their difference in percentage points.
    """
    from omni.prompt.records import read_records
    from omni.tools.evaluate import table

    if model is not None and checkpoint is not None and data is None:
        # Named as an option: the one argument is the file.
        checkpoint, data = None, Path(checkpoint)
    named = chosen_model(checkpoint, model)
    records = read_records(_conversations(named, against) if data is None else data)
    with notes_last(), nullcontext() if as_json is None else as_json.open("w", encoding="utf-8") as log:
        before = None if against is None else _ask(against, (), records, batch_size, dtype, None)
        results = _ask(named, adapter or (), records, batch_size, dtype, log)
    scores = table(results)
    typer.echo(_markdown(_rows(scores) if before is None else _compared(str(against), table(before), named, scores)))
    wrong = sorted((one for one in results if not one.right), key=lambda one: (one.index, one.turn))
    for one in wrong[:show_wrong]:
        question, wanted, said = (" ".join(text.split()) for text in (one.question, one.wanted, one.said))
        typer.echo(f"\nconversation {one.index + 1}, answer {one.turn} ({one.skill}): {question}")
        typer.echo(f"  wanted  {wanted}\n  said    {said}")


def _conversations(model: str, against: str | None) -> Path:
    """Those that came with the checkpoint, or with the one that it is compared with."""
    from omni.loading import find_directory

    for name in (model, against):
        if name is not None and (path := find_directory(name) / "heldout.zip").exists():
            return path
    raise InputError("no_data", f"{model} comes without a heldout.zip: name a file of conversations")


def _ask(
    model: str,
    adapters: Sequence[str],
    records: "Sequence[Record]",
    batch_size: int,
    dtype: Dtype,
    log: TextIO | None,
) -> "list[Result]":
    import omni
    from omni.tools.evaluate import evaluate as run
    from omni.tools.evaluate import turns

    loaded = omni.load(model, dtype=dtype, adapters=adapters)
    total, right, results = sum(len(turns(record.messages)) for record in records), 0, []
    with tqdm(total=total, unit="answer", disable=None) as bar:
        for result in run(loaded, records, batch_size=batch_size):
            results.append(result)
            right += result.right
            bar.update()
            bar.set_postfix(right=f"{right / len(results):.1%}", refresh=False)
            if log is not None:
                log.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
    return results


def _rows(scores: "Sequence[Score]") -> list[tuple[str, ...]]:
    rows = [("skill", "items", "right", "share", "95 % interval")]
    for score in scores:
        low, high = score.interval
        rows.append((score.skill, str(score.items), str(score.right), f"{score.share:.1%}", f"{low:.1%} to {high:.1%}"))
    return rows


def _compared(first: str, before: "Sequence[Score]", second: str, after: "Sequence[Score]") -> list[tuple[str, ...]]:
    """Both were asked the same, so their skills are the same."""
    rows = [("skill", "items", first, second, "change")]
    for one, other in zip(before, after, strict=True):
        change = f"{100 * (other.share - one.share):+.1f}"
        rows.append((one.skill, str(one.items), f"{one.share:.1%}", f"{other.share:.1%}", change))
    return rows


def _markdown(rows: list[tuple[str, ...]]) -> str:
    """A table whose columns are aligned for those who read it as it is."""
    rows = [(" ".join(row[0].split()).replace("|", "\\|"), *row[1:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join([row[0].ljust(widths[0]), *cells[1:]])} |")
    rule = "|".join("-" * (width + 1) + ":" for width in widths[1:])
    return "\n".join([lines[0], f"|{'-' * (widths[0] + 2)}|{rule}|", *lines[1:]])
