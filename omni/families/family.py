"""What the library knows of a family: which configuration it reads, and where each parameter lies in its files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from omni.config import ModelConfig, RelevanceForm


@dataclass(frozen=True)
class Source:
    """Where one parameter lies on disk.

    Attributes:
        pattern: tensor name with `{0}`, `{1}` for the leading axes counted by `stacked`, and `{part}` when in parts.
        stacked: how many leading axes of the parameter are spread over tensors: 1 for layers, 2 for layers x experts.
        parts: names of the tensors that lie one after another along the next axis, such as gate and up projections.
        numbers: what `{0}` counts, such as every fourth layer; from 0 on when None.
        otherwise: where the parameter lies in files that have no tensor of this name.
        transposed: whether the last two axes of each tensor are the other way round on disk. A file may have them as
            the parameter does all the same: `as_stored` tells by their shapes.
    """

    pattern: str
    stacked: int = 0
    parts: tuple[str, ...] = ()
    numbers: range | None = None
    otherwise: "Source | None" = None
    transposed: bool = False

    def pieces(self, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int | slice, ...], tuple[int, ...]]]:
        """The tensors that make up a parameter: name, the place in the parameter, and the shape on disk."""
        rest = shape[self.stacked :]
        for lead in _indices(shape[: self.stacked]):
            named = lead if self.numbers is None else (self.numbers[lead[0]], *lead[1:])
            if not self.parts:
                yield self.pattern.format(*named), lead, self._on_disk(rest)
                continue
            size = rest[0] // len(self.parts)
            for i, part in enumerate(self.parts):
                place = (*lead, slice(i * size, (i + 1) * size))
                yield self.pattern.format(*named, part=part), place, self._on_disk((size, *rest[1:]))

    def numbered(self, numbers: range) -> "Source":
        """This source of the layers of those numbers."""
        otherwise = self.otherwise and self.otherwise.numbered(numbers)
        return replace(self, numbers=numbers, otherwise=otherwise)

    def as_stored(self, shape: tuple[int, ...], stored: Mapping[str, Any]) -> "Source":
        """This source as a file has it: the other one, or with its axes the other way round.

        Args:
            shape: the parameter's.
            stored: canonical tensor name -> something with a `.shape`.
        """
        if self.otherwise is not None:
            ours, theirs = (next(source.pieces(shape))[0] for source in (self, self.otherwise))
            if ours not in stored and theirs in stored:
                return self.otherwise.as_stored(shape, stored)
        straight = replace(self, transposed=False)
        fits = all(name in stored and stored[name].shape == size for name, _, size in straight.pieces(shape))
        return straight if fits else self

    def turned(self, piece: np.ndarray) -> np.ndarray:
        """A piece as the parameter has it, from one as it lies on disk; and the other way round."""
        return piece.swapaxes(-1, -2) if self.transposed else piece

    def _on_disk(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not shape:
        yield ()
        return
    for i in range(shape[0]):
        for rest in _indices(shape[1:]):
            yield (i, *rest)


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint.

    Attributes:
        name: for people.
        model_types: values of `model_type` in config.json.
        read: config.json -> ModelConfig.
        sources: ModelConfig -> {parameter path: Source}, in canonical names.
        prefixes: tensor prefixes found in files -> canonical ones; the longest that fits wins.
        skipped: prefixes of tensors that belong to parts this library does not run (speech output).
        template: file name of the default chat template in omni/assets/templates.
        layout: how a prompt tells the decoder of time: by `positions`, or by `timestamps` in words.
        saved_config: config.json -> config.json of a directory that lacks the skipped tensors.
        relevance: how its rerankers are asked; None where it has none.
    """

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], ModelConfig]
    sources: Callable[[ModelConfig], dict[str, Source]]
    prefixes: Mapping[str, str]
    skipped: tuple[str, ...]
    template: str
    layout: Literal["positions", "timestamps"] = "positions"
    saved_config: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    relevance: RelevanceForm | None = None

    def canonical(self, name: str) -> str | None:
        """The canonical name of a tensor in a file, or None for one that is skipped knowingly."""
        if name.startswith(self.skipped):
            return None
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            if name.startswith(prefix):
                return self.prefixes[prefix] + name[len(prefix) :]
        return name
