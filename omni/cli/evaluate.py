"""`omni eval`: the answers of a file that a model gives word for word, counted."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from omni.cli.common import Adapters, Dtype, ModelArgument, ModelOption, chosen_model, notes_last
from omni.errors import InputError

if TYPE_CHECKING:
    from omni.tools.evaluate import Score


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
    show_wrong: Annotated[int, typer.Option(min=0, help="Print this many of the wrong answers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="How many answers are decoded together.")] = 16,
    model: ModelOption = None,
    dtype: Dtype = None,
    adapter: Adapters = None,
) -> None:
    """Ask a model for every answer in a file, and count those that it gives word for word.

    It answers greedily, and reads the true conversation before each answer. The table is Markdown.
    """
    import omni
    from omni.loading import find_directory
    from omni.prompt.records import read_records
    from omni.tools.evaluate import evaluate as run
    from omni.tools.evaluate import table, turns

    if model is not None and checkpoint is not None and data is None:
        # Named as an option: the one argument is the file.
        checkpoint, data = None, Path(checkpoint)
    model = chosen_model(checkpoint, model)
    if data is None:
        data = find_directory(model) / "heldout.zip"
        if not data.exists():
            raise InputError("no_data", f"{model} comes without a heldout.zip: name a file of conversations")
    records = read_records(data)
    loaded = omni.load(model, dtype=dtype, adapters=adapter or ())
    total, right, results = sum(len(turns(record.messages)) for record in records), 0, []
    with (
        notes_last(),
        nullcontext() if as_json is None else as_json.open("w", encoding="utf-8") as log,
        tqdm(total=total, unit="answer", disable=None) as bar,
    ):
        for result in run(loaded, records, batch_size=batch_size):
            results.append(result)
            right += result.right
            bar.update()
            bar.set_postfix(right=f"{right / len(results):.1%}", refresh=False)
            if log is not None:
                log.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
    typer.echo(_markdown(table(results)))
    wrong = sorted((one for one in results if not one.right), key=lambda one: (one.index, one.turn))
    for one in wrong[:show_wrong]:
        question, wanted, said = (" ".join(text.split()) for text in (one.question, one.wanted, one.said))
        typer.echo(f"\nconversation {one.index + 1}, answer {one.turn} ({one.skill}): {question}")
        typer.echo(f"  wanted  {wanted}\n  said    {said}")


def _markdown(scores: "list[Score]") -> str:
    """A table whose columns are aligned for those who read it as it is."""
    rows = [("skill", "items", "right", "share", "95 % interval")]
    for score in scores:
        low, high = score.interval
        name = " ".join(score.skill.split()).replace("|", "\\|")
        share, interval = f"{score.share:.1%}", f"{low:.1%} to {high:.1%}"
        rows.append((name, str(score.items), str(score.right), share, interval))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join([row[0].ljust(widths[0]), *cells[1:]])} |")
    rule = "|".join("-" * (width + 1) + ":" for width in widths[1:])
    return "\n".join([lines[0], f"|{'-' * (widths[0] + 2)}|{rule}|", *lines[1:]])
