"""Progress of a long command: a bar on a terminal, and a line now and then elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from tqdm import tqdm

_LINES = 10


class Progress:
    """Tells how far a command is.

    Args:
        total: how much there is to do.
        unit: of what.
        done: how much was done before.
    """

    def __init__(self, total: int, unit: str, done: int = 0):
        self._total, self._unit, self._told = total, unit, done
        self._bar = tqdm(total=total, initial=done, unit=unit, disable=not sys.stderr.isatty())

    def update(self, done: int, **values: str) -> None:
        """Tell that so much is done, and values that go with it."""
        if not self._bar.disable:
            self._bar.set_postfix(values, refresh=False)
            self._bar.update(done - self._bar.n)
        elif done == self._total or done - self._told >= max(1, self._total // _LINES):
            self._told = done
            told = "".join(f", {name.replace('_', ' ')} {value}" for name, value in values.items())
            typer.echo(f"{self._unit} {done} of {self._total}{told}", err=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


@contextmanager
def progress(total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Progress that is closed at the end."""
    told = Progress(total, unit, done)
    try:
        yield told
    finally:
        told.close()
