"""Recording what a model gives, and checking a model against a record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from omni.errors import InputError
from omni.model import Model
from omni.prompt.records import read_records
from omni.tools.verify.cases import Case, default_cases, digest
from omni.tools.verify.compare import Finding, compare, first_stage
from omni.tools.verify.fingerprint import changes, describe
from omni.tools.verify.isolation import isolate
from omni.tools.verify.stages import Tolerances, arithmetic
from omni.tools.verify.storage import Record, Writer, writing
from omni.tools.verify.trace import trace

Trace = Callable[[Case], dict[str, np.ndarray]]
Step = Callable[[str], Any]

# What a machine may lack, and others have.
_LACKING = frozenset({"video_needs_video_extra"})


@dataclass(frozen=True)
class Result:
    """A model checked against a record.

    Attributes:
        findings: every array of every case, compared.
        failures: cases that could not be run to their end, with the reason.
        notes: what the two were made with, where it differs.
        tolerances: how far each stage might be off.
    """

    findings: Sequence[Finding]
    failures: dict[str, str]
    notes: Sequence[str]
    tolerances: Tolerances

    @property
    def first(self) -> str | None:
        """The first stage that differs."""
        return first_stage(self.findings)

    @property
    def is_good(self) -> bool:
        """Whether every case was run, and every stage is as recorded, within the tolerance."""
        return not self.failures and self.first is None


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is recorded or checked.

    Attributes:
        model: the loaded model.
        directory: where its files lie.
        about: what a record tells of it.
    """

    model: Model
    directory: Path
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model) -> "Subject":
        """Looks at the files of a model that has just been loaded.

        Raises:
            InputError: `nothing_to_record`, it has no text part to answer with.
        """
        if model.config.text is None:
            raise InputError("nothing_to_record", "this model has no text part: there is nothing to ask it")
        directory = model._origin.directory
        return cls(model, directory, describe(model, directory, jax.tree.leaves(nnx.state(model.parts))[0].dtype.name))


def choose_cases(model: Model, data: Path | None, record: Record | None = None) -> list[Case]:
    """The conversations to go through: a user's own, those of a record, or the default ones.

    Raises:
        InputError: `other_cases`, a record was made of other default conversations than these; or the codes of
            `read_records`.
    """
    if record is not None and record.data == "own":
        data = record.directory / "conversations.jsonl"
    if data is None:
        cases = default_cases(model.config, tokenizer=model.tokenizer is not None)
        if record is not None and record.data_digest not in (digest(cases), digest([c for c in cases if c.is_plain])):
            raise InputError("other_cases", "the record is of other default conversations: this version asks new ones")
    else:
        cases = [Case(f"{i + 1:04d}", one.messages) for i, one in enumerate(read_records(data))]
    if record is not None:
        known = {case.name for case in cases}
        if lost := [name for name in record.cases if name not in known]:
            raise InputError("bad_record", f"the record names cases that it does not hold: {', '.join(lost)[:200]}")
        cases = [case for case in cases if case.name in record.cases]
    return cases


def record(
    directory: Path,
    cases: Sequence[Case],
    about: dict[str, Any],
    take: Trace,
    *,
    maker: str = "omni",
    own: bool = False,
    overwrite: bool = False,
    step: Step = lambda _: None,
) -> dict[str, str]:
    """Writes a record.

    Args:
        directory: where to; appears whole.
        cases: conversations.
        about: what is told of the model.
        take: what it makes of a conversation.
        maker: `omni` or `transformers`.
        own: whether the conversations are a user's, and are kept in the record.
        overwrite: replace a record that is there.
        step: called with the name of each case when it is done.

    Returns:
        Default cases that this machine cannot read, with the reason.

    Raises:
        InputError: `record_exists`; a conversation cannot be used.
    """
    with writing(directory, overwrite=overwrite) as writer:
        for case in cases:
            _take_in(writer, case, take, own)
            step(case.name)
        if own:
            writer.keep_conversations([case.messages for case in cases])
        writer.finish(maker=maker, model=about, data_digest=None if own else digest(cases))
    return writer.skipped


def check(
    subject: Subject,
    wanted: Record,
    cases: Sequence[Case],
    options: Sequence[str] = (),
    *,
    step: Step = lambda _: None,
) -> Result:
    """Goes through the cases of a record again, and compares.

    Args:
        subject: what is checked.
        wanted: the record.
        cases: its conversations.
        options: tolerances as `Tolerances.replaced` takes them, in place of the usual ones.
        step: called with the name of each case when it is done.

    Raises:
        InputError: `bad_record`, `bad_tolerance`.
    """
    model, tolerances = subject.model, tolerances_between(subject, wanted).replaced(options)
    findings: list[Finding] = []
    failures: dict[str, str] = {}
    for case in cases:
        ours: dict[str, np.ndarray] = {}
        alone: dict[str, np.ndarray] = {}
        recorded = wanted.load(case.name)
        try:
            trace(model, case.messages, like=recorded, steps=len(recorded.get("greedy", (0,))), into=ours)
            isolate(model, case.messages, ours, recorded, into=alone)
        except InputError as error:
            failures[case.name] = str(error)
        findings += compare(case.name, ours, recorded, tolerances, alone)
        step(case.name)
    return Result(findings, failures, list(changes(wanted.model, subject.about)), tolerances)


def tolerances_between(subject: Subject, wanted: Record) -> Tolerances:
    """How far a model may be from a record, by the arithmetic of both and by the depth of the model.

    Raises:
        InputError: `bad_record`, it does not tell dtype and platform.
    """
    told = [(str(about.get("dtype")), str(about.get("platform"))) for about in (wanted.model, subject.about)]
    if any(dtype not in ("float32", "bfloat16") for dtype, _ in told):
        raise InputError("bad_record", "the record does not tell the dtype of the model")
    config = subject.model.config
    depths = [config.vision and config.vision.depth, config.audio and config.audio.encoder_layers]
    depths.append(config.text and config.text.num_hidden_layers)
    depth = max(filter(None, depths), default=1)
    alike = _programs(wanted.model) == _programs(subject.about)
    return Tolerances.between(arithmetic(*told[0]), arithmetic(*told[1]), depth, alike=alike)


def _programs(about: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the rounding of programs depends on."""
    versions = about.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    own = (about.get(name) for name in ("dtype", "platform", "device"))
    return (*own, versions.get("jax"), versions.get("jaxlib"))


def _take_in(writer: Writer, case: Case, take: Trace, own: bool) -> None:
    try:
        writer.add(case.name, take(case))
    except InputError as error:
        if own or error.code not in _LACKING:
            raise InputError(error.code, f"case {case.name}: {error}") from error
        writer.skipped[case.name] = str(error)
