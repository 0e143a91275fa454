"""What is trained of a model: whole parts, or low-rank adapters beside frozen matrices."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from encoders.nn.context import as_weight
from encoders.nn.mesh import mesh_of
from omni.checkpoint.quantize import refuse_quantized
from omni.errors import InputError, is_number, is_whole, shown

# The matrices that adapters are laid beside: those of the text decoder's attention and dense MLPs.
_ADAPTED = re.compile(
    r"text\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|in_proj_\w+|out_proj)\.weight"
)
# Those whose rows stand for tokens.
_WITH_ROWS = ("text.embed_tokens.weight", "text.lm_head.weight")

Weights = dict[str, jax.Array]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation: W + scale · B A, with A and B trained (arXiv:2106.09685).

    Attributes:
        rank: of B A.
        alpha: scale is alpha / rank.
        tokens: ids whose rows of the embedding and of the head are trained as well. A word of tokens that the model
            was hardly trained on cannot be written without: `answer_tokens` lists those of conversations.
    """

    rank: int = 16
    alpha: float = 32.0
    tokens: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not is_whole(self.rank) or self.rank < 1 or not is_number(self.alpha):
            raise InputError("bad_option", f"adapters of rank {shown(self.rank)} and alpha {shown(self.alpha)}")
        if not all(is_whole(token) and token >= 0 for token in self.tokens):
            raise InputError("bad_option", f"tokens must be ids, got {shown(self.tokens)}")


class TrainableParameters:
    """The weights of a model as two dictionaries, one that is trained, in float32, and one that is not.

    Args:
        parts: the modules of a model.
        names: which parts are trained whole; with `lora`, none is, and adapters lie beside the text part's matrices.
        lora: train adapters alone, and the rows of its tokens.
        seed: for the adapters' first values.

    Attributes:
        frozen: weights that stay as they are.
        start: those that are trained, as they begin.
        mesh: what the weights lie on; None for a single device.

    Raises:
        InputError: `nothing_to_train`, the model has none of the weights; `quantized`, they are integers.
    """

    def __init__(self, parts: nnx.Module, names: Sequence[str], lora: LoRA | None, seed: int):
        refuse_quantized(parts, "trained")
        self._graph, state = nnx.split(parts)
        paths = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]
        leaves, self._tree = jax.tree.flatten(state)
        weights = dict(zip(paths, map(as_weight, leaves), strict=True))
        self.mesh: Mesh | None = mesh_of(leaves)
        self._paths, self._lora = tuple(paths), lora
        self._row_scales: dict[str, float] = {}
        self._dtypes = {path: leaf.dtype for path, leaf in weights.items()}
        if lora is None:
            chosen = {path for path in paths if path.split(".")[0] in names}
            self.frozen: dict[str, Any] = {path: leaf for path, leaf in weights.items() if path not in chosen}
            # A copy: the step that trains it gives its memory away, and the model keeps its own.
            self.start: dict[str, Any] = {path: jnp.array(weights[path], jnp.float32) for path in sorted(chosen)}
        else:
            self.frozen = weights
            self.start = _adapters(weights, lora, seed)
            self._row_scales = _row_scales(weights, lora)
            for path in self._row_scales:
                self.start[f"{path}.rows"] = jnp.zeros((len(lora.tokens), weights[path].shape[1]))
        if not self.start:
            raise InputError("nothing_to_train", "the model has none of the weights that are to be trained")

    def module(self, trained: Weights, frozen: Weights) -> Any:
        """The model with those weights, in its own dtype; to be called in a jitted function.

        Args:
            trained: what changes in training, in float32; `start` is what it begins as.
            frozen: the other weights.
        """
        return nnx.merge(self._graph, self._tree.unflatten([self._merged(p, trained, frozen) for p in self._paths]))

    def write(self, trained: Weights, parts: nnx.Module) -> None:
        """Puts what was trained into the modules, adapters added to their matrices.

        Args:
            trained: as `module` takes it.
            parts: the modules to write into.
        """
        changed = [path for path in self._paths if {path, f"{path}.A", f"{path}.rows"} & trained.keys()]
        frozen = {path: self.frozen[path] for path in changed if path in self.frozen}
        merged = jax.jit(lambda *given: {path: self._merged(path, *given) for path in changed})(trained, frozen)
        written = []
        for path, variable in nnx.to_flat_state(nnx.state(parts)):
            value = merged.get(".".join(map(str, path)))
            if value is not None:
                # Where the parameter lay before, on the mesh that the user has made.
                place = getattr(variable.get_value(), "sharding", None)
                variable.set_value(jax.device_put(value, place) if isinstance(place, NamedSharding) else value)
                written.append((path, variable))
        nnx.update(parts, nnx.from_flat_state(written))

    def _merged(self, path: str, trained: Weights, frozen: Weights) -> jax.Array:
        if path in trained:
            return trained[path].astype(self._dtypes[path])
        whole = frozen[path]
        if self._lora is not None and f"{path}.rows" in trained:
            change = self._row_scales[path] * trained[f"{path}.rows"]
            return whole.at[jnp.asarray(self._lora.tokens)].add(change.astype(whole.dtype))
        if self._lora is None or f"{path}.A" not in trained:
            return whole
        change = jnp.einsum("...or,...ri->...oi", trained[f"{path}.B"], trained[f"{path}.A"])
        return (whole.astype(jnp.float32) + self._lora.alpha / self._lora.rank * change).astype(whole.dtype)


def _adapters(weights: Mapping[str, jax.Array], lora: LoRA, seed: int) -> Weights:
    """A random and B zero, so that training begins at the model as it is; stacks of layers have a stack each."""
    found: Weights = {}
    for i, (path, weight) in enumerate(sorted(weights.items())):
        if not _ADAPTED.fullmatch(path):
            continue
        *stack, out, into = weight.shape
        key = jax.random.fold_in(jax.random.key(seed), i)
        found[f"{path}.A"] = jax.random.normal(key, (*stack, lora.rank, into)) / jnp.sqrt(into)
        found[f"{path}.B"] = jnp.zeros((*stack, out, lora.rank))
    return found


def _row_scales(weights: Mapping[str, jax.Array], lora: LoRA) -> dict[str, float]:
    """What changes of rows are multiplied by: the size of a usual entry, so that one learning rate suits all models."""
    scales = {}
    for path in _WITH_ROWS if lora.tokens else ():
        if path in weights:
            if max(lora.tokens) >= len(weights[path]):
                raise InputError("bad_option", f"the model has {len(weights[path])} tokens, and no {max(lora.tokens)}")
            mean_square = jnp.mean(jnp.square(weights[path].astype(jnp.float32)))
            scales[path] = float(lora.alpha / lora.rank * jnp.sqrt(mean_square))
    return scales
