"""Adapters of PEFT, put into the weights that a model is loaded with.

A directory of PEFT holds adapter_config.json and adapter_model.safetensors: for some modules the two matrices of a
low-rank product (LoRA, arXiv:2106.09685), for others weights of their own. What is read here is put into the tensors of
the checkpoint before anything reads them, so a model knows nothing of adapters, and weights are quantised afterwards.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from omni.checkpoint.adapted import AdaptedTensor, Product
from omni.checkpoint.adapter_config import FILE, AdapterConfig, read_adapter_config
from omni.checkpoint.directory import find_directory
from omni.checkpoint.parameter import Tensor
from omni.checkpoint.safetensors import StoredTensor, open_file
from omni.errors import CheckpointError, shown
from omni.families import Family, Source

WEIGHTS = "adapter_model.safetensors"
_OUTER = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.weight)?")
# Saved with an adapter whenever the vocabulary may have changed.
_EMBEDDINGS = ("embed_tokens", "lm_head")
_EXPERT_PARAMETERS = ("gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Place:
    """Where a matrix lies in a parameter: the numbers before it, and its rows."""

    path: str
    lead: tuple[int, ...]
    rows: slice


@dataclass(frozen=True, eq=False)
class Adapter:
    """The directory of an adapter.

    Attributes:
        name: as it was asked for.
        digest: of its files, in hexadecimal.
        config: its settings.
        tensors: name -> tensor, as they lie in the file.
    """

    name: str
    digest: str
    config: AdapterConfig
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def open(cls, directory: Path, name: str) -> "Adapter":
        """Map the tensors of a directory.

        Raises:
            CheckpointError: it holds no adapter, or one that cannot be read; see `read_adapter_config`.
        """
        if not (directory / FILE).is_file():
            message = f"{FILE} is not in the directory {name[:200]!r}: it holds no adapter of PEFT"
            raise CheckpointError(message, code="file_missing")
        config = read_adapter_config(directory)
        weights = directory / WEIGHTS
        if not weights.is_file():
            if (directory / "adapter_model.bin").is_file():
                message = "the adapter's weights are a pickle of PyTorch, which is not read; save it as safetensors"
                raise CheckpointError(message, code="pytorch_weights")
            raise CheckpointError(f"{WEIGHTS} is not in the adapter's directory", code="file_missing")
        tensors = open_file(weights)
        digest = hashlib.sha256((directory / FILE).read_bytes())
        with weights.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return cls(name, digest.hexdigest(), config, tensors)


def open_adapters(names: Any, offline: bool = False, check: Callable[[], None] = lambda: None) -> tuple[Adapter, ...]:
    """The adapters of one or several directories, or names on the hub.

    Args:
        names: a directory or a name, or a sequence of them.
        offline: take what the hub's cache holds, and use no network.
        check: called while a download runs; what it raises ends it.

    Raises:
        CheckpointError: `bad_option`; there is no such directory; see `Adapter.open`.
    """
    several = (names,) if isinstance(names, str | os.PathLike) else names
    if not isinstance(several, list | tuple) or not all(isinstance(name, str | os.PathLike) for name in several):
        message = f"adapters must be a directory, or a list of directories, not {shown(names)}"
        raise CheckpointError(message, code="bad_option")
    found = ((find_directory(name, offline=offline, check=check), name) for name in several)
    return tuple(Adapter.open(directory, os.fspath(name)) for directory, name in found)


@dataclass(frozen=True, eq=False)
class _Added:
    """A product, where it goes, and the tensors that it is of."""

    place: Place
    product: Product
    tensors: tuple[StoredTensor, ...]


@dataclass
class _Changes:
    """What adapters do to the parameters of a model.

    Attributes:
        added: parameter path and its first number -> products.
        replaced: canonical tensor name -> what is there in the tensor's place.
        problems: what does not fit.
    """

    added: dict[tuple[str, tuple[int, ...]], list[_Added]] = field(default_factory=dict)
    replaced: dict[str, StoredTensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


Whole = Mapping[str, tuple[Source, tuple[int, ...]]]


def with_adapters(
    stored: Mapping[str, Tensor],
    adapters: Sequence[Adapter],
    family: Family,
    sources: Mapping[str, Source],
    shapes: Mapping[str, Any],
    places: Mapping[str, Source],
    tied: Mapping[str, str],
) -> dict[str, Tensor | AdaptedTensor]:
    """The tensors of a checkpoint with adapters put into them; the sum of all where several change one.

    Args:
        stored: canonical tensor name -> tensor.
        adapters: to put in.
        family: of the checkpoint.
        sources: parameter path -> where it lies in some files or other, of all parts of the checkpoint.
        shapes: parameter path -> something with a `.shape`, of the same.
        places: parameter path -> where it lies in these files, of the parts that are loaded.
        tied: canonical name of a tensor that is there as another -> that of the other.

    Raises:
        CheckpointError: `adapter_mismatch`, with everything that does not fit the checkpoint; `unsupported_adapter`,
            what would untie the output head from the embedding.
    """
    whole = {path: (source, tuple(shapes[path].shape)) for path, source in sources.items()}
    index, changes = _index(whole), _Changes()
    for adapter in adapters:
        _Reading(adapter, family, whole, index, stored, tied, changes).run()
    if changes.problems:
        message = "the adapter does not fit the checkpoint"
        raise CheckpointError(message, code="adapter_mismatch", problems=changes.problems)
    found: dict[str, Tensor | AdaptedTensor] = dict(stored)
    for path, source in places.items():
        shape = whole[path][1]
        for name, place, _ in source.pieces(shape):
            piece = _place(path, place, shape)
            brought = changes.replaced.get(name)
            inner = sorted(_within(piece, changes.added.get((path, piece.lead[:1]), ())), key=lambda one: one[0].lead)
            if brought is None and not inner:
                continue
            base, tensors = stored[name], [tensor for _, of in inner for tensor in of]
            found[name] = AdaptedTensor(
                base if brought is None else brought,
                base.name,
                base.dtype,
                source,
                tuple(product for product, _ in inner),
                tuple(dict.fromkeys(tensors)),
            )
    return found


def _index(whole: Whole) -> dict[str, Place]:
    """Canonical name of a tensor, in all forms that files have it in -> its place in a parameter."""
    index = {}
    for path, (source, shape) in whole.items():
        form: Source | None = source
        while form is not None:
            for name, place, _ in form.pieces(shape):
                index[name] = _place(path, place, shape)
            form = form.otherwise
    return index


def _place(path: str, place: tuple[int | slice, ...], shape: tuple[int, ...]) -> Place:
    lead = tuple(one for one in place if isinstance(one, int))
    rows = place[-1] if place and isinstance(place[-1], slice) else slice(0, shape[len(lead)])
    return Place(path, lead, rows)


def _within(piece: Place, added: Iterable[_Added]) -> Iterator[tuple[Product, tuple[StoredTensor, ...]]]:
    """The products that fall on one tensor, as far as they do, in the tensor's own numbers."""
    depth = len(piece.lead)
    for one in added:
        at, product = one.place, one.product
        if at.lead[:depth] != piece.lead:
            continue
        if len(at.lead) > depth:
            yield replace(product, lead=at.lead[depth:], rows=at.rows), one.tensors
            continue
        start, stop = max(at.rows.start, piece.rows.start), min(at.rows.stop, piece.rows.stop)
        if start < stop:
            rows = slice(start - piece.rows.start, stop - piece.rows.start)
            left = product.left[start - at.rows.start : stop - at.rows.start]
            yield replace(product, rows=rows, left=left), one.tensors


class _Reading:
    """One adapter, gone through tensor by tensor."""

    def __init__(
        self,
        adapter: Adapter,
        family: Family,
        whole: Whole,
        index: Mapping[str, Place],
        stored: Mapping[str, Tensor],
        tied: Mapping[str, str],
        changes: _Changes,
    ):
        self._adapter, self._config, self._family = adapter, adapter.config, family
        self._whole, self._index, self._stored = whole, index, stored
        self._tied, self._changes = tied, changes
        self._multiplied, self._replaced = set[str](), dict[str, StoredTensor]()

    def run(self) -> None:
        """Add what the adapter does to the changes.

        Raises:
            CheckpointError: `unsupported_adapter`.
        """
        factors: dict[tuple[str, bool], dict[str, StoredTensor]] = {}
        brought: dict[str, StoredTensor] = {}
        for name, tensor in self._adapter.tensors.items():
            inner = name.removeprefix(_OUTER)
            if match := _FACTOR.fullmatch(inner):
                factors.setdefault((match["module"], match["kind"] is not None), {})[match["side"]] = tensor
            elif "lora_" in inner or "token_adapter" in inner:
                self._problem(f"{name} is of no kind that is read")
            else:
                brought[inner.replace(".base_layer.", ".")] = tensor
        for (module, is_embedding), pair in factors.items():
            if "A" not in pair or "B" not in pair:
                self._problem(f"{module} has one of its two matrices, and not the other")
            elif any(len(tensor.shape) < 2 or 0 in tensor.shape for tensor in pair.values()):
                self._problem(f"{module} has a matrix that is none")
            else:
                self._multiply(module, pair["B"], pair["A"], is_embedding)
        for name, tensor in brought.items():
            self._replace(name, tensor)
        self._check_tied()
        for name, tensor in self._replaced.items():
            if name in self._changes.replaced:
                self._problem(f"two adapters bring {name}, each its own")
            self._changes.replaced[name] = tensor
        if not self._multiplied and not self._replaced and not self._changes.problems:
            self._problem(f"none of its {len(self._adapter.tensors)} tensors is of a part that is read")

    def _problem(self, text: str) -> None:
        self._changes.problems.append(text)

    def _multiply(self, module: str, b: StoredTensor, a: StoredTensor, is_embedding: bool) -> None:
        """The two matrices of a module: B [out, rank] and A [rank, in]."""
        if self._family.canonical(f"{module}.weight") is None:
            return  # of a part that is never run
        name = str(self._family.canonical(f"{module}.weight"))
        place = self._index.get(name)
        if name in self._tied:
            self._multiplied.add(name)
        elif place is None:
            self._multiply_experts(module, b, a)
        else:
            key = f"{module}.weight" if self._is_parameter(module, "weight") else module
            scale = self._scale(module, key, b.shape[1])
            # Of an embedding the rows are what goes in; of a convolution the columns are channels and pixels.
            left, right = (a.array.T, b.array.T) if is_embedding else (b.array, a.array)
            left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
            self._put(module, place, left, right, scale, (a, b))
            self._multiplied.add(name)

    def _multiply_experts(self, module: str, b: StoredTensor, a: StoredTensor) -> None:
        """The products of all experts of a layer, side by side in B [out, rank x experts], A [experts x rank, in]."""
        # PEFT wraps one parameter in the module of another: where it adapts both, the first lies inside.
        outer = module.removesuffix(".base_layer")
        names = [name for name in _EXPERT_PARAMETERS if self._is_parameter(outer, name)]
        name = names[0 if len(names) == 1 or module != outer else -1] if names else ""
        place = self._index.get(str(self._family.canonical(f"{outer}.{name}")))
        if place is None or (len(names) == 1 and module != outer):
            self._problem(f"{module} is no module of the checkpoint, and no parameter that {FILE} names")
            return
        experts, rows, columns = self._whole[place.path][1][len(place.lead) :]
        rank = a.shape[0] // experts
        if len(b.shape) != 2 or len(a.shape) != 2 or (b.shape[1], a.shape[0]) != (rank * experts,) * 2:
            self._problem(f"{module} has matrices of {list(b.shape)} and {list(a.shape)} for {experts} experts")
            return
        scale = self._scale(module, f"{outer}.{name}", rank)
        lefts, rights = b.array.reshape(-1, rank, experts), a.array.reshape(experts, rank, -1)
        # PEFT before 0.18, and models whose experts lie [in, out], have the product the other way round.
        turned = (b.shape[0], a.shape[1]) != (rows, columns)
        for expert in range(experts):
            left, right = lefts[:, :, expert], rights[expert]
            left, right = (right.T, left.T) if turned else (left, right)
            at = Place(place.path, (*place.lead, expert), slice(0, rows))
            self._put(module, at, left, right, scale, (a, b))
        self._multiplied.add(str(self._family.canonical(f"{outer}.{name}")))

    def _is_parameter(self, module: str, name: str) -> bool:
        whole = f"{module}.{name}"
        return any(whole == one or whole.endswith(f".{one}") for one in self._config.parameters)

    def _scale(self, module: str, key: str, rank: int) -> float:
        if rank != self._config.rank_of(key):
            self._problem(f"{module} is of the rank {rank}, and {FILE} says {self._config.rank_of(key)}")
        return self._config.scale_of(key)

    def _put(
        self,
        module: str,
        place: Place,
        left: np.ndarray,
        right: np.ndarray,
        scale: float,
        tensors: tuple[StoredTensor, ...],
    ) -> None:
        shape = self._whole[place.path][1][len(place.lead) :]
        theirs, ours = [len(left), right.shape[1]], [place.rows.stop - place.rows.start, math.prod(shape[1:])]
        if len(shape) < 2 or left.shape[1] != len(right) or theirs != ours:
            self._problem(f"{module} is {theirs} in the adapter, and {ours} in the checkpoint")
            return
        product = Product((), place.rows, left, right, scale)
        self._changes.added.setdefault((place.path, place.lead[:1]), []).append(_Added(place, product, tensors))

    def _replace(self, name: str, tensor: StoredTensor) -> None:
        module = name.rpartition(".")[0]
        allowed = (*self._config.replaced, *_EMBEDDINGS)
        if not any(re.search(rf"(?:^|\.){re.escape(one)}(?:\.|$)", module) for one in allowed):
            self._problem(f"{name} is of no module that {FILE} names in modules_to_save")
            return
        canonical = self._family.canonical(name)
        if canonical is None:
            return
        ours = self._stored.get(self._tied.get(canonical, canonical))
        if ours is None:
            self._problem(f"{name} is no tensor of the checkpoint")
        elif tensor.shape != ours.shape:
            self._problem(f"{name} is {list(tensor.shape)} in the adapter, and {list(ours.shape)} in the checkpoint")
        else:
            self._replaced[canonical] = tensor

    def _check_tied(self) -> None:
        """Refuses what changes an embedding, or the output head that is the same tensor, and not the other."""
        for head, embedding in self._tied.items():
            theirs, ours = self._replaced.pop(head, None), self._replaced.get(embedding)
            follows = theirs is None and self._config.tied
            agree = ours is not None and (follows or (theirs is not None and np.array_equal(theirs.array, ours.array)))
            if {head, embedding} & self._multiplied or ((theirs or ours) is not None and not agree):
                message = "it adapts the embedding or the output head alone, and config.json ties the two"
                raise CheckpointError(f"the adapter cannot be merged: {message}", code="unsupported_adapter")
