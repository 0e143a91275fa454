"""What methods of quantisation have in common: settings in config.json, and weights that lie in several tensors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from omni.checkpoint.quantized.packed import PackedTensor
from omni.checkpoint.safetensors import FLOATS, StoredTensor
from omni.errors import CheckpointError, is_whole, shown

_FLOATS = frozenset(FLOATS.values())
_MOST_WORDS = 32  # of a module's name
# Of activations and caches, which are not quantised here.
_PASSED_OVER = tuple(
    f".{what}_{kind}" for what in ("input", "output", "activation", "q", "k", "v") for kind in ("scale", "zero_point")
)


class Unsupported(ValueError):
    """A form of quantisation that nothing here reads; the message names it."""


class Misfit(ValueError):
    """Tensors of one weight that contradict config.json or one another."""


@dataclass(frozen=True)
class Parts:
    """The tensors that one weight lies in.

    Attributes:
        name: that the weight has in files that are not quantised.
        tensors: ending of the name -> tensor.
    """

    name: str
    tensors: Mapping[str, StoredTensor]

    def get(self, ending: str, *dtypes: Any) -> StoredTensor | None:
        """The tensor of an ending, if it is there.

        Raises:
            Misfit: it is of none of these dtypes.
        """
        tensor = self.tensors.get(ending)
        if tensor is not None and tensor.dtype not in map(np.dtype, dtypes):
            raise Misfit(f"has {ending.lstrip('._')} of {tensor.dtype.name}")
        return tensor

    def need(self, ending: str, *dtypes: Any) -> StoredTensor:
        """The tensor of an ending.

        Raises:
            Misfit: it is not there, or of none of these dtypes.
        """
        tensor = self.get(ending, *dtypes)
        if tensor is None:
            raise Misfit(f"has no {ending.lstrip('._')}")
        return tensor


class Method(ABC):
    """One way in which checkpoints are quantised, with the settings of one of them.

    Attributes:
        name: for people, with what tells its forms apart.
        plain: names of modules that are not quantised, nor what lies below them.
        endings: what is put behind a weight's own name, or its module's, in the names of its tensors.
        suffix: what is put behind a module's name in that of its weight.
    """

    name: str
    plain: frozenset[str] = frozenset()
    endings: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str] = ".weight"

    @abstractmethod
    def stems(self, stored: Mapping[str, StoredTensor]) -> Iterator[str]:
        """What precedes the endings, of all that is packed."""

    @abstractmethod
    def weight(self, parts: Parts, dtype: np.dtype) -> PackedTensor:
        """The weight that lies in some tensors.

        Raises:
            Misfit: they contradict config.json or one another.
        """

    def pack(self, stored: Mapping[str, StoredTensor], dtype: np.dtype) -> dict[str, StoredTensor | PackedTensor]:
        """Puts one weight in the place of the tensors that it lies in; what is plain stays as it is.

        Args:
            stored: canonical tensor name -> tensor.
            dtype: in which weights are kept.

        Raises:
            CheckpointError: `bad_quantisation`, with every weight whose tensors do not fit.
        """
        rest, found, problems = dict(stored), dict[str, PackedTensor](), list[str]()
        for stem in self.stems(stored):
            tensors = {ending: rest.pop(stem + ending) for ending in self.endings if stem + ending in rest}
            first, tensor = next(iter(tensors.items()))
            module = tensor.name.removesuffix(first)
            try:
                if self._is_plain(stem) or self._is_plain(module):
                    raise Misfit("is packed, and config.json says that it is not quantised")
                found[stem + self.suffix] = self.weight(Parts(module + self.suffix, tensors), dtype)
            except Misfit as error:
                problems.append(f"{module} {error}")
        rest = {name: tensor for name, tensor in rest.items() if not name.endswith(_PASSED_OVER)}
        for name, tensor in rest.items():
            if tensor.dtype not in _FLOATS:
                problems.append(f"{tensor.name} is of {tensor.dtype.name}, which belongs to no weight")
            elif name in found:
                problems.append(f"{tensor.name} is there twice, packed and plain")
        if not found and not problems:
            problems.append("nothing in them is packed")
        if problems:
            message = f"the files do not fit the quantisation that config.json tells of ({self.name})"
            raise CheckpointError(message, code="bad_quantisation", problems=problems)
        return {**rest, **found}

    def _is_plain(self, name: str) -> bool:
        """By whole words alone: regular expressions of a stranger's could run for ever."""
        words = name.split(".")[:_MOST_WORDS]
        ends = range(1, len(words) + 1)
        return any(".".join(words[i:j]) in self.plain for j in ends for i in range(j)) if self.plain else False


def listed(config: Mapping[str, Any], *names: str) -> frozenset[str]:
    """The names of modules in lists of a config."""
    found = [entry for name in names for entry in config.get(name) or ()]
    return frozenset(entry for entry in found if isinstance(entry, str) and entry and not entry.startswith("re:"))


def whole(config: Mapping[str, Any], name: str, method: str, default: Any = None, least: int = 1) -> int:
    """A whole number of a config.

    Raises:
        Unsupported: it is none, or too small.
    """
    value = config.get(name, default)
    if not is_whole(value) or not least <= value < 1 << 31:
        raise Unsupported(f"{method} with {name}={shown(value)}")
    return value


def group(config: Mapping[str, Any], method: str) -> int | None:
    """How many columns share a scale; None where all of a row do, which configs write as -1.

    Raises:
        Unsupported: it is no such number.
    """
    return None if config.get("group_size") == -1 else whole(config, "group_size", method)


def expect(tensor: StoredTensor, *shapes: tuple[int, ...]) -> StoredTensor:
    """Returns the tensor, whose shape must be one of these.

    Raises:
        Misfit: it is none of them.
    """
    if tensor.shape not in shapes:
        ending = tensor.name.rpartition(".")[2]
        raise Misfit(f"has {ending} of the shape {list(tensor.shape)} where {list(shapes[0])} is wanted")
    return tensor
