"""The embedding of one medium, as the text decoder receives it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from omni.errors import InputError, shown

Kind = Literal["image", "audio", "video"]
_FORMAT = "omni-embedding-1"


@dataclass(frozen=True, eq=False)
class Embedding:
    """One picture, recording or clip, encoded and projected to the decoder's width.

    Attributes:
        kind: `image`, `audio` or `video`.
        tokens: projected embeddings, in the order the decoder reads them.
        deepstack: features added to the first decoder layers, one level a layer; None for audio.
        grid_thw: patches in time, height and width; None for audio.
        seconds_per_grid: seconds between two steps of the time axis; None unless a video.
        audio: the sound track's embedding, for a video that is heard as well as seen.
        timestamps: when each step of the time axis is shown, in seconds from the first frame: the mean of the first and
            the last of the frames that share it; None unless a video.
    """

    kind: Kind
    tokens: Float[np.ndarray, "tokens width"]
    deepstack: Float[np.ndarray, "levels tokens width"] | None = None
    grid_thw: tuple[int, int, int] | None = None
    seconds_per_grid: float | None = None
    audio: "Embedding | None" = None
    timestamps: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError("bad_embedding", f"kind must be image, audio or video, got {shown(self.kind)}")
        for field, value, axes in (("tokens", self.tokens, 2), ("deepstack", self.deepstack, 3)):
            if value is not None and (np.ndim(value) != axes or not np.issubdtype(value.dtype, np.floating)):
                raise InputError("bad_embedding", f"{field} must be a float array of {axes} axes")
        if self.deepstack is not None and self.deepstack.shape[1:] != self.tokens.shape:
            shapes = f"{list(self.deepstack.shape)} for tokens {list(self.tokens.shape)}"
            raise InputError("bad_embedding", f"deepstack has the shape {shapes}")
        if self.grid_thw is not None and len(self.grid_thw) != 3:
            raise InputError("bad_embedding", "grid_thw must be the patches in time, height and width")

    def pooled(self) -> Float[np.ndarray, "width"]:
        """The mean over tokens: one vector for the whole medium."""
        return self.tokens.mean(axis=0)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a safetensors file that `Embedding.load` reads back exactly."""
        tensors, header = {}, {"format": _FORMAT}
        for prefix, part in (("", self), ("audio.", self.audio)):
            if part is None:
                continue
            tensors[prefix + "tokens"] = np.ascontiguousarray(part.tokens)
            if part.deepstack is not None:
                tensors[prefix + "deepstack"] = np.ascontiguousarray(part.deepstack)
        header["kind"] = self.kind
        if self.grid_thw is not None:
            header["grid_thw"] = " ".join(map(str, self.grid_thw))
        if self.seconds_per_grid is not None:
            header["seconds_per_grid"] = repr(float(self.seconds_per_grid))
        if self.timestamps is not None:
            header["timestamps"] = " ".join(repr(float(seconds)) for seconds in self.timestamps)
        # Written beside and renamed, so that a reader never meets half a file.
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            # Not `save_file`: the file that makes is its owner's alone.
            partial.write_bytes(save(tensors, metadata=header))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Embedding":
        """Reads a file written by `save`.

        Raises:
            InputError: the file is absent, or is not an embedding.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise InputError("unreadable_embedding", f"{os.fspath(path)} is not a readable embedding file") from error
        if header.get("format") != _FORMAT:
            raise InputError("unreadable_embedding", f"{os.fspath(path)} was not written by Embedding.save")
        grid = header.get("grid_thw")
        seconds = header.get("seconds_per_grid")
        times = header.get("timestamps")
        heard = tensors.get("audio.tokens")
        try:
            return cls(
                kind=header["kind"],  # type: ignore[arg-type]
                tokens=tensors["tokens"],
                deepstack=tensors.get("deepstack"),
                grid_thw=tuple(map(int, grid.split())) if grid else None,  # type: ignore[arg-type]
                seconds_per_grid=float(seconds) if seconds else None,
                audio=None if heard is None else cls("audio", heard, tensors.get("audio.deepstack")),
                timestamps=tuple(map(float, times.split())) if times else None,
            )
        except (KeyError, ValueError) as error:
            raise InputError("unreadable_embedding", f"{os.fspath(path)} is a damaged embedding file") from error
