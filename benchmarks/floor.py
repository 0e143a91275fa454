"""What a stage takes at the least on this machine, and what share of that a side reaches."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks.stages.stage import Product, Stage

Rate = Callable[[Product], float]


def floor_seconds(stage: Stage, ceilings: Mapping[str, float], rate: Rate) -> float | None:
    """Seconds of the products at the rate of the best library, and of one pass over what lies between them.

    Where a call is bound by what it reads, the longer of reading it once and of multiplying at the rate of the largest
    product. None for a stage without products.

    Args:
        stage: what is done.
        ceilings: floating point operations a second in each dtype, and bytes a second in `read` and `copy`.
        rate: floating point operations a second of a product.
    """
    cost = stage.cost
    if cost.read:
        return max(cost.read / ceilings["read"], cost.flops / ceilings[stage.dtype])
    if not cost.products:
        return None
    return sum(product.flops / rate(product) for product in cost.products) + cost.moved / ceilings["copy"]


def best(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The largest figure of each kind, of all libraries."""
    kinds = {kind for figures in measured.values() for kind in figures}
    return {kind: max(figures[kind] for figures in measured.values() if kind in figures) for kind in sorted(kinds)}


def summed_up(
    stage: Stage, sides: dict[str, dict[str, Any]], floor: float | None, ceilings: Mapping[str, float]
) -> Any:
    """Medians, ratios and shares of a stage.

    Args:
        stage: what was done.
        sides: what was measured of each, with `times`.
        floor: seconds at the least.
        ceilings: as in `floor_seconds`.
    """
    for side in sides.values():
        if times := side.get("times"):
            side |= {"median": median(times), "minimum": min(times)}
    ours = sides.get("ours", {}).get("median")
    found: dict[str, Any] = {
        "group": stage.group,
        "dtype": stage.dtype,
        "unit": stage.unit,
        "items": stage.items,
        "note": stage.note,
        "sides": sides,
        "floor": floor,
    }
    if ours is None:
        return found
    found["ratio"] = {
        name: side["median"] / ours for name, side in sides.items() if name != "ours" and "median" in side
    }
    found["items_per_second"] = stage.items / ours
    if floor is not None:
        found["share_of_floor"] = floor / ours
    if stage.cost.read:
        found |= {"bytes_per_second": stage.cost.read / ours}
        found["share_of_machine"] = found["bytes_per_second"] / ceilings["read"]
    elif stage.cost.products:
        found |= {"flops_per_second": stage.cost.flops / ours}
        found["share_of_machine"] = found["flops_per_second"] / ceilings[stage.dtype]
    return found
