"""What `omni verify` prints and writes of a comparison."""

import math
from typing import Any

from omni.tools.verify.check import Result
from omni.tools.verify.compare import by_stage
from omni.tools.verify.measures import Distance

_TITLES = ("stage", "", "error", "alone", "allowed", "largest", "cosine", "unequal", "where")


def table(result: Result) -> str:
    """A Markdown table, a row for each stage: of its arrays the one that is farthest off."""
    rows: list[tuple[str, ...]] = [_TITLES]
    for row in by_stage(result.findings):
        far, alone = row.worst.through, row.worst_alone
        rows.append(
            (
                row.stage,
                row.verdict,
                _short(row.worst.error),
                "" if alone is None or alone.error_alone is None else _short(alone.error_alone),
                _short(row.worst.tolerance),
                _short(far.largest),
                f"{far.cosine:.6f}",
                f"{far.unequal:,} of {far.size:,}",
                "" if row.verdict == "same" else f"{row.worst.case} {row.worst.name}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, 1, len(_TITLES) - 1)
    lines = []
    for cells in rows:
        padded = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join("-" * (w + 2) if i in left else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def sentence(result: Result, cases: int) -> str:
    """The outcome in one line."""
    if result.is_good:
        return f"{cases} cases, every stage within its tolerance"
    if result.first is None:
        return f"{len(result.failures)} of {cases} cases could not be run"
    worst = [f for f in result.findings if f.stage == result.first and f.is_beyond]
    names = sorted({finding.case for finding in worst})
    return f"the first stage that differs: {result.first}, in {len(names)} of {cases} cases"


def to_dict(result: Result, record: str, model: str) -> dict[str, Any]:
    """All of it, as JSON would hold it; what is infinitely far off is null."""
    return {
        "model": model,
        "against": record,
        "good": result.is_good,
        "first": result.first,
        "notes": list(result.notes),
        "failures": result.failures,
        "tolerances": dict(result.tolerances.stages),
        "stages": [
            {"stage": row.stage, "verdict": row.verdict, "case": row.worst.case, "array": row.worst.name}
            | _numbers(row.worst.through)
            for row in by_stage(result.findings)
        ],
        "arrays": [
            {"case": f.case, "array": f.name, "allowed": f.tolerance, "beyond": f.is_beyond}
            | _numbers(f.through)
            | {"alone": None if f.alone is None else _numbers(f.alone)}
            for f in result.findings
        ],
    }


def _numbers(far: Distance) -> dict[str, Any]:
    finite = {name: value if math.isfinite(value) else None for name, value in vars(far).items()}
    return {
        "relative": finite["relative"],
        "largest": finite["largest"],
        **{k: finite[k] for k in ("cosine", "unequal", "size")},
    }


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}" if math.isfinite(value) else "inf"
