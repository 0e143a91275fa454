"""A stage: one piece of work that ours and the reference do on the same inputs, and what it costs at the least.

Imported by every side's process, so that nothing but the standard library and NumPy may be imported here and at the top
of the modules of stages: builders import what they need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BYTES = {"float32": 4, "bfloat16": 2, "uint8": 1}


@dataclass(frozen=True)
class Product:
    """Products of [m, k] by [k, n] matrices.

    Attributes:
        m: rows.
        k: what is summed over.
        n: columns.
        batch: how many are one call.
        count: how many calls.
    """

    m: int
    k: int
    n: int
    batch: int = 1
    count: float = 1

    @property
    def flops(self) -> float:
        """Floating point operations of all of them."""
        return 2.0 * self.m * self.k * self.n * self.batch * self.count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What its rate depends on."""
        return self.m, self.k, self.n, self.batch


@dataclass(frozen=True)
class Cost:
    """What one call takes at the least.

    Attributes:
        products: its matrix products.
        moved: bytes read and written between them, one pass over each array.
        read: bytes of weights and of what was remembered that are read once; set where a call is bound by reading them,
            as a step of decoding is. Its products then count at the rate of the largest.
    """

    products: tuple[Product, ...] = ()
    moved: float = 0.0
    read: float = 0.0

    @property
    def flops(self) -> float:
        """Floating point operations of the products."""
        return sum(product.flops for product in self.products)


@dataclass(frozen=True)
class Timed:
    """A result that brings its own time.

    Attributes:
        seconds: of the part that counts.
        value: the result.
        floor: seconds that the work takes at the least, measured on the way.
        peak_bytes: of memory, where another process did the work.
    """

    seconds: float
    value: Any
    floor: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Call:
    """One side of a stage, ready to run.

    Attributes:
        run: the work, given the number of the round, of which inputs may depend; a `Timed` brings its own time.
        array: what is compared between sides, from a result; not timed.
        bare: the part of the work that no implementation can leave out, such as the bare decoding of a file.
    """

    run: Callable[[int], Any]
    array: Callable[[Any], np.ndarray] = np.asarray
    bare: Callable[[], Any] | None = None


Builder = Callable[[Path], Call]


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: unlike that of any other stage.
        group: stages of one kind.
        dtype: of weights and activations, or of the values that are read.
        sides: builders by name, "ours" first; each is called in a process of its own, with the folder of the files.
        files: name of the folder of files that stages share.
        prepare: writes those files, deterministic; None where there are none.
        cost: of one call.
        items: what one call works through, in `unit`.
        unit: such as "images".
        programs: whether ours compiles programs, so that there are a cold and a warm first call.
        together: whether the sides are alive at the same time; where memory does not allow it, one follows the other.
        rounds: least and most counted calls of each side.
        seconds: for the counted calls of all sides; when they are spent, no further round begins.
        note: what a reader of the table is to know.
    """

    name: str
    group: str
    dtype: str
    sides: Mapping[str, Builder]
    files: str = ""
    prepare: Callable[[Path], None] | None = None
    cost: Cost = field(default_factory=Cost)
    items: float = 1
    unit: str = "calls"
    programs: bool = True
    together: bool = True
    rounds: tuple[int, int] = (3, 9)
    seconds: float = 40.0
    note: str = ""
