"""docs/performance.md from the results of `make bench` and of `python -m benchmarks.accelerator`.

    python -m benchmarks.page [RESULTS...] [--out docs/performance.md]

Without names, all files of benchmarks/results that are not of small sizes.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.run import RESULTS, ROOT

OPENING = """# Performance

Made by `python -m benchmarks.page` from what `make bench` and `python -m benchmarks.accelerator` measured; not to be
edited. Weights are random and of real size, sides take turns on the same inputs, and seconds are medians.

- **Ratio**: the reference's seconds over ours; above 1, ours is the faster.
- **Floor**: what the stage takes at the least on this machine: each product at the rate of the best library for its
  shape, and one pass over what must be read and written between them. A step of decoding: its weights read once, or its
  products at the rate of the largest, whichever takes longer. Others: as the notes say. The share is the seconds of the
  floor over ours.
- **Of the machine**: operations a second over those of the largest product in the same dtype, or bytes a second over
  those of reading.
- **First call**: in a fresh process without compiled programs, and with those that are found on disk.
- **Difference**: relative L2 between the sides' results; for tokens, the share of unlike ones.
"""


def page(records: Iterable[dict[str, Any]]) -> str:
    """The whole page."""
    return "\n".join([OPENING, *(section(record) for record in records)])


def section(record: dict[str, Any]) -> str:
    """One machine."""
    measured = record["machine"]
    lines = [f"## {record['processor']}", "", f"{record['date']}."]
    if not record["complete"]:
        lines.append("Not all stages have been run.")
    for side, versions in measured["versions"].items():
        lines.append(f"{side.capitalize()}: {', '.join(f'{name} {version}' for name, version in versions.items())}.")
    lines += ["", "| | float32 products | bfloat16 products | reading | copying |", "|---|---|---|---|---|"]
    for side, ceiling in measured["ceilings"].items():
        lines.append(
            f"| {side} | {_rate(ceiling['float32'])} | {_rate(ceiling['bfloat16'])} | {_bytes(ceiling['read'])}/s | "
            f"{_bytes(ceiling['copy'])}/s |"
        )
    groups: dict[str, list[str]] = {}
    for name, stage in record["stages"].items():
        groups.setdefault(stage["group"], []).append(name)
    for group, names in groups.items():
        lines += ["", f"### {group.capitalize()}", "", *_table({name: record["stages"][name] for name in names})]
    return "\n".join(lines) + "\n"


def _table(stages: dict[str, dict[str, Any]]) -> list[str]:
    others = list(dict.fromkeys(side for stage in stages.values() for side in stage["sides"] if side != "ours"))
    head = ["", "Ours", *(name.capitalize() for name in others), *(f"Ratio to {name}" for name in others)]
    head += ["A second", "Rate", "Of the machine", "Of the floor", "First call, cold", "warm", "Peak memory, ours"]
    head += [f"{name}" for name in others] + ["Difference"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    notes: list[str] = []
    for name, stage in stages.items():
        sides, ours = stage["sides"], stage["sides"]["ours"]
        each = [sides.get(other, {}) for other in others]
        cells = [name, _side(ours), *map(_side, each)]
        cells += [_number(stage.get("ratio", {}).get(other)) for other in others]
        cells += [_count(stage), _achieved(stage), _share(stage.get("share_of_machine"))]
        cells += [_share(stage.get("share_of_floor")), _seconds(ours.get("cold")), _seconds(ours.get("first"))]
        cells += [_bytes(_peak(side)) for side in (ours, *each)]
        cells.append(", ".join(_small(value) for value in stage.get("difference", {}).values()))
        lines.append(f"| {' | '.join(cells)} |")
        if stage["note"] and stage["note"] not in notes:
            notes.append(stage["note"])
        notes += [f"{name}, {side}: {of['error']}" for side, of in sides.items() if "error" in of]
    return [*lines, *([""] if notes else []), *(f"{note[0].upper()}{note[1:]}." for note in notes)]


def _peak(side: dict[str, Any]) -> float | None:
    return side.get("device") or side.get("peak")


def _side(side: dict[str, Any]) -> str:
    return _seconds(side.get("median")) if "median" in side else "failed" if "error" in side else ""


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _rate(value: float) -> str:
    return f"{value / 1e12:.3g} TFLOP/s" if value >= 1e12 else f"{value / 1e9:.3g} GFLOP/s"


def _bytes(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _small(value: float | None) -> str:
    return "other shapes" if value is None else f"{value:.1e}" if 0 < value < 0.01 else f"{value:.2g}"


def _count(stage: dict[str, Any]) -> str:
    value = stage.get("items_per_second")
    if value is None:
        return ""
    return f"{value:,.0f} {stage['unit']}" if value >= 100 else f"{value:.3g} {stage['unit']}"


def _achieved(stage: dict[str, Any]) -> str:
    if "bytes_per_second" in stage:
        return f"{_bytes(stage['bytes_per_second'])}/s"
    return _rate(stage["flops_per_second"]) if "flops_per_second" in stage else ""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    files = options.results or [path for path in sorted(RESULTS.glob("*.json")) if not path.stem.endswith("-quick")]
    if not files:
        parser.error("no results: run make bench first")
    options.out.write_text(page(json.loads(path.read_text("utf-8")) for path in files), "utf-8")


if __name__ == "__main__":
    main()
