"""What two traces of a conversation differ in, and where that begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from omni.tools.verify.measures import Distance, distance
from omni.tools.verify.stages import AUXILIARY, STAGES, Arrays, Tolerances, stage_of

# A greedy choice is a tie where the two best scores are closer than the tolerance lets scores be apart. Single scores
# stray farther than their mean does.
_TIE = 8.0


@dataclass(frozen=True)
class Finding:
    """One array of one case, compared.

    Attributes:
        case: whose it is.
        name: of the array, such as `vision/0`.
        through: our array from our inputs, against the recorded one.
        alone: our array from the recorded inputs; None where these are not known.
        tolerance: greatest error that is allowed.
        by_rows: whether the error is that of the middle row, and not of the whole array.
    """

    case: str
    name: str
    through: Distance
    alone: Distance | None
    tolerance: float
    by_rows: bool = False

    @property
    def stage(self) -> str:
        """The stage that the array belongs to."""
        return stage_of(self.name)

    @property
    def error(self) -> float:
        """How far off it is, as relative L2 error."""
        return self.through.median if self.by_rows else self.through.relative

    @property
    def error_alone(self) -> float | None:
        """How far off the stage itself is, whatever its inputs; None where that is not known."""
        if self.alone is None:
            return None
        return self.alone.median if self.by_rows else self.alone.relative

    @property
    def is_own(self) -> bool:
        """Whether the stage itself is off by more than is allowed."""
        return self.error_alone is not None and self.error_alone > self.tolerance

    @property
    def is_beyond(self) -> bool:
        """Whether it is, by itself or through its inputs: with these, twice as much is allowed."""
        return self.is_own or self.error > (1 if self.alone is None else 2) * self.tolerance


def compare(
    case: str, ours: Arrays, recorded: Arrays, tolerances: Tolerances, alone: Arrays | None = None
) -> list[Finding]:
    """Compares every recorded array, in the order of stages; one that we do not give is infinitely far off.

    Args:
        case: its name.
        ours: what is examined.
        recorded: what is wanted.
        tolerances: how far each stage may be off.
        alone: ours from recorded inputs, as `isolate` gives it.
    """
    findings = []

    def measured(name: str, arrays: Arrays) -> Distance:
        if name not in arrays:
            return Distance.nowhere(recorded[name].size, recorded[name].size)
        if name == "greedy":
            return _answers(arrays[name], recorded[name], recorded, tolerances.of("logits"))
        return distance(arrays[name], recorded[name])

    names = [name for name in recorded if name not in AUXILIARY]
    for name in sorted(names, key=lambda n: (STAGES.index(stage_of(n)), n)):
        by_itself = None if alone is None or name not in alone else measured(name, alone)
        by_rows = stage_of(name) in tolerances.by_rows
        findings.append(Finding(case, name, measured(name, ours), by_itself, tolerances.of(name), by_rows))
    return findings


def first_stage(findings: Sequence[Finding]) -> str | None:
    """The first stage that differs: one that is off by itself or, where none is, that errors have added up in."""
    for chosen in (lambda f: f.is_own, lambda f: f.is_beyond):
        stages = {finding.stage for finding in findings if chosen(finding)}
        if stages:
            return next(stage for stage in STAGES if stage in stages)
    return None


@dataclass(frozen=True)
class Row:
    """A stage over all cases.

    Attributes:
        stage: which.
        findings: of all its arrays.
        worst: the one that is farthest off, for its tolerance.
        worst_alone: likewise from recorded inputs; None where no inputs are known.
        verdict: `same` to the last bit, `ok` within the tolerance, `differs` by itself, or `inherits` its error from a
            stage before.
    """

    stage: str
    findings: tuple[Finding, ...]
    worst: Finding
    worst_alone: Finding | None
    verdict: str


def by_stage(findings: Sequence[Finding]) -> Iterator[Row]:
    """One row for each stage that was compared, in order."""
    first = first_stage(findings)
    for stage in STAGES:
        own = tuple(finding for finding in findings if finding.stage == stage)
        if not own:
            continue
        isolated = [finding for finding in own if finding.alone is not None]
        verdict = "ok"
        if any(finding.is_own for finding in own) or (stage == first):
            verdict = "differs"
        elif any(finding.is_beyond for finding in own):
            verdict = "inherits"
        elif not any(finding.through.unequal for finding in own):
            verdict = "same"
        yield Row(
            stage,
            own,
            max(own, key=lambda f: (f.error > f.tolerance, f.error, f.through.unequal)),
            max(isolated, key=lambda f: (f.is_own, f.error_alone), default=None),
            verdict,
        )


def _answers(ours: np.ndarray, wanted: np.ndarray, recorded: Arrays, tolerance: float) -> Distance:
    """Distance of answers: all that comes after a choice between equals may be another answer."""
    steps = min(len(ours), len(wanted))
    differs = np.flatnonzero(ours[:steps] != wanted[:steps])
    if not len(differs) and len(ours) == len(wanted):
        return Distance.none(len(wanted))
    step = int(differs[0]) if len(differs) else steps
    margins, deviations = recorded.get("greedy/margins"), recorded.get("greedy/deviations")
    unequal = max(len(ours), len(wanted)) - step
    if margins is not None and step < len(margins):
        deviation = 1.0 if deviations is None else float(deviations[step])
        if float(margins[step]) <= min(_TIE * tolerance, 1.0) * deviation:
            return Distance.none(len(wanted), unequal)
    return Distance.nowhere(unequal, len(wanted))
