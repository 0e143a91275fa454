"""Towers run over media of any number and size: rows made on the host, one compiled program for each padded shape."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32, Shaped

from encoders.buckets import (
    MOST_PATCHES,
    AudioRows,
    Call,
    VisionRows,
    audio_calls,
    audio_shapes,
    vision_calls,
    vision_shapes,
)
from encoders.config import AudioConfig, VisionConfig
from encoders.nn.compile import Program, is_small
from encoders.nn.context import in_own_context
from encoders.nn.mesh import constrain
from encoders.nn.module_weights import Weights
from encoders.nn.platform import platform
from encoders.towers import AudioTower, VisionTower

# Patches in one call, where several frames go together. On the CPU one frame at a time is as fast.
_PATCHES_AT_ONCE = 8192


def _patches_at_once() -> int:
    return 1 if platform() == "cpu" else _PATCHES_AT_ONCE


# Stands in the place of an array where a program is compiled and not run.
_ARRAY: Any = jax.ShapeDtypeStruct


class VisionEmbedding(NamedTuple):
    """Tokens of one image or video, on the host.

    Attributes:
        tokens: in the order the decoder reads them, frame after frame.
        deepstack: the same for each deepstack level; None without any.
    """

    tokens: Float32[np.ndarray, "tokens width"]
    deepstack: Float32[np.ndarray, "levels tokens width"] | None


class VisionEmbedder:
    """Runs a vision tower; each call uses the weights that the tower has when it begins.

    Args:
        tower: the vision tower.
    """

    def __init__(self, tower: VisionTower):
        self.tower: VisionTower = tower
        self.config: VisionConfig = tower.config
        self._runner = _Runner(tower)

    @property
    def programs(self) -> int:
        """How many programs have been compiled."""
        return self._runner.programs

    @property
    def weights(self) -> list[Any]:
        """The tower's arrays, as programs take them."""
        return self._runner.weights.read()[1]

    @property
    def version(self) -> object:
        """Another object after each edit of the tower."""
        return self._runner.weights.version

    def shapes(self, most_patches: int = MOST_PATCHES) -> list[tuple[int, int]]:
        """Return rows and patches a row of every program that `encode` can need, at most 24.

        Args:
            most_patches: of the largest frame.
        """
        return vision_shapes(_patches_at_once(), most_patches)

    @in_own_context
    def compile(self, rows: int, length: int) -> None:
        """Compile the program of one of `shapes` for pixels that are grey levels, and keep it where JAX keeps programs.

        Nothing is run. Without a folder for programs (`encoders.cache_programs`) this is of no use.

        Args:
            rows: frames of a call.
            length: patches a row, pads included.
        """
        config, array = self.config, _ARRAY
        values = config.in_channels * config.temporal_patch_size * config.patch_size**2
        self._runner.compile(
            VisionRows(
                array((rows, length, values), np.uint8),
                array((rows, length, 2), np.int32),
                array((rows, length, 4), np.int32),
                array((rows, length, 4), np.float32),
                array((rows,), np.int32),
            )
        )

    @in_own_context
    def encode(
        self, pixels: Shaped[np.ndarray, "patches values"], grid_thw: Int32[np.ndarray, "media 3"]
    ) -> list[VisionEmbedding]:
        """Encodes images and videos; each comes out the same whatever its neighbours.

        Args:
            pixels: patches of all media, one medium after another, as `PatchEmbed` takes them.
            grid_thw: patches of each medium in time, height and width.

        Returns:
            One embedding for each row of `grid_thw`.

        Raises:
            ValueError: the grids do not fit the patches.
        """
        calls = vision_calls(pixels, grid_thw, self.config, _patches_at_once(), whole_patches=True)
        frames: dict[int, VisionEmbedding] = {}
        for call, found in self._runner.run(calls):
            tokens = np.asarray(found.tokens)
            levels = None if found.deepstack is None else np.asarray(found.deepstack)
            for row, i in enumerate(call.members):
                count = call.rows.lengths[row] // self.config.merge_unit
                frames[i] = VisionEmbedding(tokens[row, :count], None if levels is None else levels[:, row, :count])
        results, start = [], 0
        for t in grid_thw[:, 0].tolist():
            results.append(_joined([frames[i] for i in range(start, start + t)]))
            start += t
        return results


class AudioEmbedder:
    """Runs an audio tower; each call uses the weights that the tower has when it begins.

    Args:
        tower: the audio tower.
    """

    def __init__(self, tower: AudioTower):
        self.tower: AudioTower = tower
        self.config: AudioConfig = tower.config
        self._runner = _Runner(tower)

    @property
    def programs(self) -> int:
        """How many programs have been compiled."""
        return self._runner.programs

    @property
    def version(self) -> object:
        """Another object after each edit of the tower."""
        return self._runner.weights.version

    def shapes(self) -> list[tuple[int, int]]:
        """Return rows and chunks a row of every program that `encode` can need, at most 15."""
        return audio_shapes(self.config)

    @in_own_context
    def compile(self, rows: int, chunks: int) -> None:
        """Compile the program of one of `shapes`, as `VisionEmbedder.compile` does.

        Args:
            rows: windows of a call.
            chunks: chunks a row, pads included.
        """
        config, array = self.config, _ARRAY
        self._runner.compile(
            AudioRows(
                array((rows, chunks, config.num_mel_bins, config.chunk_frames), np.float32),
                array((rows, chunks), np.int32),
                array((rows,), np.int32),
            )
        )

    @in_own_context
    def encode(self, mels: Sequence[Float32[np.ndarray, "bins _"]]) -> list[Float32[np.ndarray, "_ width"]]:
        """Encodes audio of any length; each comes out the same whatever its neighbours.

        Args:
            mels: log-mel spectrograms.

        Returns:
            The tokens of each.

        Raises:
            ValueError: a spectrogram is empty or has another number of bands.
        """
        windows: dict[int, np.ndarray] = {}
        for call, found in self._runner.run(audio_calls(mels, self.config)):
            tokens = np.asarray(found)
            for row, i in enumerate(call.members):
                windows[i] = tokens[row, : call.rows.lengths[row]]
        results, start = [], 0
        for mel in mels:
            end = start + -(-mel.shape[1] // self.config.n_window_infer)
            results.append(np.concatenate([windows[i] for i in range(start, end)]))
            start = end
        return results


class _Runner:
    """A tower's weights, and the programs compiled for it."""

    def __init__(self, tower: VisionTower | AudioTower):
        self.weights = Weights(tower)
        self._small = is_small(self.weights.read()[1])
        self._shapes: set[tuple] = set()

    @property
    def programs(self) -> int:
        return len(self._shapes)

    def compile(self, rows: Any) -> None:
        """Compile the program for rows of these shapes."""
        _apply.compile(self._small, *self.weights.read(), rows)

    def run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        """Runs calls; the next is made ready on the host while the device works on the one before."""
        graph, weights = self.weights.read()
        ahead: tuple[Call, Any] | None = None
        for call in calls:
            self._shapes.add(tuple((a.shape, a.dtype.name) for a in call.rows))
            started = call, _apply(self._small, graph, weights, call.rows)
            if ahead is not None:
                yield ahead
            ahead = started
        if ahead is not None:
            yield ahead


def _applied(graph: Any, weights: Any, rows: Any) -> Any:
    found = graph.merge(weights)(*rows)
    # The host reads all of it, and every process does.
    return jax.tree.map(lambda a: constrain(a.astype(jnp.float32), *[None] * a.ndim), found)


_apply = Program(_applied, static_argnums=0)


def _joined(frames: Sequence[VisionEmbedding]) -> VisionEmbedding:
    levels = [frame.deepstack for frame in frames if frame.deepstack is not None]
    tokens = np.concatenate([frame.tokens for frame in frames])
    return VisionEmbedding(tokens, np.concatenate(levels, axis=1) if levels else None)
