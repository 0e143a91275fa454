"""The command line: omni chat, encode, transcribe, inspect, train, eval, verify, info."""

import dataclasses
import json
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tqdm import tqdm

from omni.cli_verify import verify
from omni.errors import CheckpointError, InputError, printable

if TYPE_CHECKING:
    from omni.evaluation import Score

app = typer.Typer(
    help="Images, video and audio to embeddings and chat with Qwen3-Omni, in JAX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(verify)
# What is being written is finished in this time, or is a file by another name that nobody reads.
_SECONDS_TO_LEAVE = 0.7
ModelName = Annotated[str, typer.Option("--model", "-m", help="demo, a checkpoint directory, or a name on the hub.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or bfloat16; the checkpoint's own when not given.")]
Media = Annotated[list[str] | None, typer.Argument(help="Pictures, recordings, clips: paths, URLs or data URIs.")]


@app.command()
def chat(
    media: Media = None,
    model: ModelName = "demo",
    message: Annotated[str | None, typer.Option("--say", "-s", help="Say this, print the answer and leave.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens an answer.")] = 512,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    dtype: Dtype = None,
) -> None:
    """Talk with a model about pictures, recordings and clips."""
    import omni

    talk = omni.load(model, dtype=dtype).chat(system, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    waiting = list(media or [])
    if message is not None:
        _answer(talk, message, waiting)
        return
    typer.echo("Say something. /add FILE adds a medium to your next message, /quit leaves.")
    for line in _lines():
        if line == "/quit":
            return
        if line.startswith("/add "):
            waiting.append(line.removeprefix("/add ").strip())
            continue
        try:
            _answer(talk, line, waiting)
            waiting = []
        except InputError as error:
            # The conversation stands as it was: the user may mend the message and go on.
            typer.echo(f"{error}", err=True)
            waiting = []


@app.command()
def encode(
    media: Media = None,
    model: ModelName = "demo",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the embeddings, one file a medium.")] = Path(
        "embeddings"
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="How many media are read and encoded at a time.")] = 8,
    overwrite: Annotated[bool, typer.Option(help="Encode again what is already there.")] = False,
    dtype: Dtype = None,
) -> None:
    """Encode media, or whole folders of them, to safetensors files.

    A folder may be encoded in several goes: what is already there, made by the same checkpoint of the same content, is
    left alone. A file that cannot be read is named and passed over, and the exit code is then 2.
    """
    import omni
    from omni.encode_files import encode_files, is_current, plan
    from omni.fingerprint import checkpoint_fingerprint
    from omni.loading import find_directory

    jobs = plan(media or [], out)
    if not jobs:
        raise InputError("nothing_to_encode", "no files were given, or the folders hold none")
    fingerprint = f"{checkpoint_fingerprint(find_directory(model))} {dtype or 'own dtype'}"
    todo = jobs if overwrite else [job for job in jobs if not is_current(job, fingerprint)]
    if len(todo) < len(jobs):
        typer.echo(f"{len(jobs) - len(todo)} of {len(jobs)} are there already")
    if not todo:
        return
    loaded = omni.load(model, parts=("vision", "audio"), dtype=dtype)
    failed, done, began = [], 0, time.perf_counter()
    with tqdm(total=len(todo), unit="file", disable=None) as bar:
        for outcome in encode_files(loaded.media, todo, fingerprint, batch_size=batch_size):
            if outcome.state == "failed":
                failed.append(f"{outcome.job.source}: {outcome.reason}")
            else:
                done += 1
            bar.update()
    seconds = time.perf_counter() - began
    programs = loaded.media.programs()
    typer.echo(f"{done} encoded in {seconds:.1f} s, {done / seconds:.2f} a second, {programs} programs compiled")
    for line in failed:
        typer.echo(printable(line), err=True)
    if failed:
        raise typer.Exit(2)


@app.command()
def transcribe(
    recordings: Annotated[list[str], typer.Argument(help="Recordings, or films for their sound: paths, URLs.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A speech recogniser, such as Qwen/Qwen3-ASR-0.6B.")],
    language: Annotated[str | None, typer.Option(help="What is spoken, such as English or en.")] = None,
    context: Annotated[str, typer.Option(help="Names and terms that may occur.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with languages and times.")] = False,
    stretch_seconds: Annotated[float | None, typer.Option(help="Longest stretch that is read at once.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most stretches that are read together.")] = 8,
    dtype: Dtype = None,
) -> None:
    """Write down what is said in recordings of any length, one line each.

    A file that cannot be read is named and passed over, and the exit code is then 2.
    """
    import omni
    from omni.transcription import Transcriber

    loaded = omni.load(model, parts=("audio", "text"), dtype=dtype)
    transcriber = Transcriber(loaded, language, context, stretch_seconds, None, batch_size, None)
    failed = False
    for source, result in zip(recordings, transcriber.run(recordings), strict=True):
        if isinstance(result, InputError):
            typer.echo(printable(f"{source}: {result}"), err=True)
            failed = True
        elif as_json:
            typer.echo(json.dumps({"file": source, **result.to_dict()}, ensure_ascii=False))
        else:
            typer.echo(" ".join(result.text.split("\n")))
    if failed:
        raise typer.Exit(2)


@app.command()
def inspect(
    media: Media = None,
    model: ModelName = "demo",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("inspect"),
    question: Annotated[str, typer.Option(help="The message whose tokens are drawn.")] = "What is this?",
) -> None:
    """Draw what the model sees: patches, mel frames, the token layout."""
    import omni
    from omni.inspection import inspect as pictures

    if not media:
        raise InputError("nothing_to_inspect", "no files were given")
    loaded = omni.load(model)
    _folder(out)
    for i, (title, picture) in enumerate(pictures(loaded, media, question)):
        path = out / f"{i:02d} {title}.png".replace(" ", "-").replace("/", "-")
        picture.save(path)
        typer.echo(path)


@app.command()
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
    from omni.saving import holds_checkpoint
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
    with tqdm(total=steps, unit="step", disable=None) as bar, (_folder(out) / "metrics.jsonl").open("a") as log:
        for metrics in run(loaded, conversations, out / "state", options):
            bar.update(metrics.step - bar.n)
            bar.set_postfix(loss=f"{metrics.loss:.3f}")
            log.write(json.dumps(dataclasses.asdict(metrics)) + "\n")
            log.flush()
    loaded.save(out, overwrite=True)
    typer.echo(f"{steps} steps on {len(conversations)} conversations; the checkpoint is in {out}")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="demo, a checkpoint directory, or a name on the hub.")],
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
    dtype: Dtype = None,
) -> None:
    """Ask a model for every answer in a file, and count those that it gives word for word.

    It answers greedily, and reads the true conversation before each answer. The table is Markdown.
    """
    import omni
    from omni.evaluation import evaluate as run
    from omni.evaluation import table, turns
    from omni.loading import find_directory
    from omni.records import read_records

    if data is None:
        data = find_directory(model) / "heldout.zip"
        if not data.exists():
            raise InputError("no_data", f"{model} comes without a heldout.zip: name a file of conversations")
    records = read_records(data)
    loaded = omni.load(model, dtype=dtype)
    total, right, results = sum(len(turns(record.messages)) for record in records), 0, []
    with (
        _notes_last(),
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


@app.command()
def info(model: ModelName = "demo") -> None:
    """Say what a checkpoint is: parts, parameters, memory needed. Reads no weights."""
    from omni.summary import summary

    typer.echo(summary(model))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _answer(talk, message: str, media: list[str]) -> None:
    with _notes_last():
        for piece in talk.stream(message, *media):
            typer.echo(piece, nl=False)
            sys.stdout.flush()
        typer.echo()


@contextmanager
def _notes_last() -> Iterator[None]:
    """Says at the end, and once, what was warned of on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for note in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
        typer.echo(f"({note})", err=True)


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


def _lines() -> Iterator[str]:
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        if line:
            yield line


def _leave_soon_when_interrupted() -> None:
    """Ctrl-C ends the program within a second, also while the device computes and Python cannot look at signals."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        while reader.recv(1, socket.MSG_WAITALL)[:1] != bytes([signal.SIGINT]):
            pass
        time.sleep(_SECONDS_TO_LEAVE)
        os._exit(130)

    wait.sockets = reader, writer  # type: ignore[attr-defined]  # open for as long as the thread runs
    threading.Thread(target=wait, daemon=True).start()


def program() -> None:
    """Runs the command line as a process of its own."""
    _leave_soon_when_interrupted()
    main()


def main() -> None:
    """Runs the command line; bad input is one line on stderr and exit code 2."""
    try:
        app()
    except (InputError, CheckpointError) as error:
        typer.echo(printable(f"omni: {error}"), err=True)
        raise SystemExit(2) from None
    except OSError as error:
        # Pictures and embeddings that cannot be written: no room, no permission, a file in a folder's place.
        where = f": {error.filename}" if error.filename else ""
        typer.echo(f"omni: {(error.strerror or str(error)).lower()}{where}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
