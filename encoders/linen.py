"""The encoders and projectors as Flax Linen modules, for programs that are built on Linen.

    encoder = linen.VisionEncoder(config)
    variables = {"params": linen.to_linen(tower.encoder)}
    hidden = encoder.apply(variables, *rows)
    linen.from_linen(tower.encoder, variables["params"])

Each runs the NNX module of the same name: outputs are equal, and parameters bear the same names in the same tree, with
blocks stacked along their first axis, so that the two convert into one another without a table. `encoders` does not
export them, as their names are those of the NNX modules.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Float32, Int32, Shaped

from encoders import audio, projectors, vision
from encoders.config import AudioConfig, VisionConfig
from encoders.projectors import VisionTokens
from encoders.vision import VisionHidden

__all__ = ["AudioEncoder", "AudioProjector", "VisionEncoder", "VisionProjector", "from_linen", "to_linen"]

_HALVES = (0.5, 0.5, 0.5)


def to_linen(module: nnx.Module) -> dict[str, Any]:
    """The parameters of an NNX module as a Linen module of this file takes them under "params".

    Args:
        module: an encoder or a projector; its arrays are shared, not copied.
    """
    return unflatten_dict({path: leaf.get_value() for path, leaf in nnx.to_flat_state(nnx.state(module, nnx.Param))})


def from_linen(module: nnx.Module, params: Mapping[str, Any]) -> None:
    """Puts the parameters of a Linen module into the NNX module of the same name, in place.

    Args:
        module: made with the same config; one that `nnx.eval_shape` made, and that has no weights yet, will do.
        params: what stands under "params"; the arrays are shared, not copied.

    Raises:
        ValueError: a parameter is missing, is not the module's, or has another shape.
    """
    given: dict[Any, Any] = flatten_dict(params)
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    strange = {path for path, _ in flat} ^ set(given)
    if strange:
        names = ", ".join(sorted(".".join(map(str, path)) for path in strange))
        raise ValueError(f"these are not the parameters of this {type(module).__name__}; they differ in {names}")
    for path, leaf in flat:
        shape, wanted = given[path].shape, leaf.get_value().shape
        if shape != wanted:
            raise ValueError(f"{'.'.join(map(str, path))} has the shape {shape} where the module has {wanted}")
        leaf.set_value(given[path])
    nnx.update(module, nnx.from_flat_state(flat))


M = TypeVar("M", bound=nnx.Module)


def _bound(linen: nn.Module, build: Callable[[nnx.Rngs], M]) -> M:
    """The NNX module that `build` makes, with the parameters of a Linen module, which it declares when called first."""
    if linen.is_initializing():
        module = build(nnx.Rngs(params=linen.make_rng("params")))
        params = {name: linen.param(name, lambda _, drawn=drawn: drawn) for name, drawn in to_linen(module).items()}
    else:
        module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
        params = linen.variables.get("params", {})
    from_linen(module, params)
    return module


class VisionEncoder(nn.Module):
    """`encoders.VisionEncoder` in Linen; arguments as there."""

    config: VisionConfig
    dtype: Any = jnp.float32
    image_mean: tuple[float, float, float] = _HALVES
    image_std: tuple[float, float, float] = _HALVES

    @nn.compact
    def __call__(
        self,
        pixels: Shaped[Array, "rows length values"],
        coordinates: Int32[Array, "rows length 2"],
        table_indices: Int32[Array, "rows length 4"],
        table_weights: Float32[Array, "rows length 4"],
        lengths: Int32[Array, "rows"],
    ) -> VisionHidden:
        """Encodes frames, one a row; arguments as `encoders.VisionEncoder` takes them."""
        module = _bound(
            self,
            lambda rngs: vision.VisionEncoder(
                self.config, rngs=rngs, dtype=self.dtype, image_mean=self.image_mean, image_std=self.image_std
            ),
        )
        return module(pixels, coordinates, table_indices, table_weights, lengths)


class VisionProjector(nn.Module):
    """`encoders.VisionProjector` in Linen; arguments as there."""

    config: VisionConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, hidden: VisionHidden) -> VisionTokens:
        """Projects what a VisionEncoder returned."""
        module = _bound(self, lambda rngs: projectors.VisionProjector(self.config, rngs=rngs, dtype=self.dtype))
        return module(hidden)


class AudioEncoder(nn.Module):
    """`encoders.AudioEncoder` in Linen; arguments as there."""

    config: AudioConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        mel: Float[Array, "rows chunks bins frames"],
        conv_frames: Int32[Array, "rows chunks"],
        lengths: Int32[Array, "rows"],
    ) -> Float[Array, "rows length width"]:
        """Encodes attention windows, one a row; arguments as `encoders.AudioEncoder` takes them."""
        module = _bound(self, lambda rngs: audio.AudioEncoder(self.config, rngs=rngs, dtype=self.dtype))
        return module(mel, conv_frames, lengths)


class AudioProjector(nn.Module):
    """`encoders.AudioProjector` in Linen; arguments as there."""

    config: AudioConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "rows length width"]) -> Float[Array, "rows length out"]:
        """Projects what an AudioEncoder returned."""
        module = _bound(self, lambda rngs: projectors.AudioProjector(self.config, rngs=rngs, dtype=self.dtype))
        return module(x)
