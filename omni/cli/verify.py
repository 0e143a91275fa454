"""`omni verify`: what a checkpoint gives, recorded and compared."""

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from tqdm import tqdm

from omni.cli.common import Dtype, ModelArgument, ModelOption, chosen_model
from omni.errors import InputError


def verify(
    checkpoint: ModelArgument = None,
    record: Annotated[Path | None, typer.Option(help="Folder to write what the checkpoint gives to.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Folder of a record to compare with; or transformers, where that is installed.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help='Own conversations, one {"messages": [...]} a line, media beside the file; or a .zip.'),
    ] = None,
    tolerance: Annotated[
        list[str] | None, typer.Option(help="Greatest relative error, such as 1e-3; or of a stage, as logits=1e-3.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="File for all results, a JSON object.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a record that is there.")] = False,
    model: ModelOption = None,
    dtype: Dtype = None,
) -> None:
    """Record what a checkpoint gives, stage by stage, or check it against a record or transformers.

    Conversations with images, audio and video come with the package; --data takes one's own. The table has a row for
    each stage; the exit code is 1 where one is off by more than its tolerance, and the first that differs is named.
    With --against transformers, --record writes what transformers gives.
    """
    if record is None and against is None:
        raise InputError("nothing_to_do", "give --record to write a record, or --against to compare with one")
    import omni
    from omni.tools.verify.check import Subject, check, choose_cases
    from omni.tools.verify.report import sentence, table, to_dict
    from omni.tools.verify.stages import Tolerances
    from omni.tools.verify.storage import read_record

    Tolerances({}).replaced(tolerance or [])  # refused before anything is loaded
    is_reference = against == "transformers"
    wanted = None if against is None or is_reference else read_record(Path(against))
    if wanted is not None and (record is not None or data is not None):
        raise InputError("bad_option", "a record brings its conversations: no --record and no --data beside it")
    subject = Subject.of(omni.load(chosen_model(checkpoint, model), dtype=dtype))
    cases = choose_cases(subject.model, data, wanted)
    own = data is not None
    if against is None:
        assert record is not None
        take = partial(_trace, subject.model)
        _record(cases, record, subject.about, take, maker="omni", own=own, overwrite=overwrite)
        return
    with TemporaryDirectory() as folder:
        if wanted is None:
            from omni.tools.verify import reference

            cases = [case for case in cases if case.is_plain]
            made = record or Path(folder) / "record"
            take, about = reference.Reference(subject).trace, reference.describe(subject)
            _record(cases, made, about, take, maker="transformers", own=own, overwrite=overwrite)
            wanted = read_record(made)
            cases = choose_cases(subject.model, data, wanted)
        with tqdm(total=len(cases), unit="case", disable=None) as bar:
            result = check(subject, wanted, cases, tolerance or [], step=lambda _: bar.update())
    for note in result.notes:
        typer.echo(f"({note})", err=True)
    for name, reason in result.failures.items():
        typer.echo(f"{name}: {reason}", err=True)
    typer.echo(table(result))
    typer.echo(f"\n{sentence(result, len(cases))}")
    if as_json is not None:
        as_json.write_text(json.dumps(to_dict(result, against, subject.about["name"]), indent=1) + "\n", "utf-8")
    if not result.is_good:
        raise typer.Exit(1)


def _trace(model: Any, case: Any) -> Any:
    from omni.tools.verify.trace import trace

    return trace(model, case.messages)


def _record(cases: Any, directory: Path, about: Any, take: Any, **options: Any) -> None:
    from omni.tools.verify.check import record

    with tqdm(total=len(cases), unit="case", disable=None) as bar:
        skipped = record(directory, cases, about, take, step=lambda _: bar.update(), **options)
    for name, reason in skipped.items():
        typer.echo(f"{name} is left out: {reason}", err=True)
    where = f" in {directory}" if options["maker"] == "omni" else ""
    typer.echo(f"{len(cases) - len(skipped)} cases recorded{where}")
