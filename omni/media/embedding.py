"""The embedding of one medium, as the text decoder receives it."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open

from omni.errors import InputError, is_number, is_whole, shown
from processors.io.sources import describe
from processors.notebook import shown as shown_in_notebooks
from processors.notebook import table

Kind = Literal["image", "audio", "video"]
_FORMAT = "omni-embedding-1"
_CODES = {"float16": "F16", "float32": "F32", "float64": "F64"}


@dataclass(frozen=True, eq=False)
class Embedding:
    """One image, audio or video, encoded and projected to the decoder's width.

    Attributes:
        kind: `image`, `audio` or `video`.
        tokens: projected embeddings, in the order the decoder reads them.
        deepstack: features added to the first decoder layers, one level a layer; None for audio.
        grid_thw: patches in time, height and width; None for audio.
        seconds_per_grid: seconds between two steps of the time axis; None unless a video.
        audio: the audio track's embedding, for a video whose audio is read too.
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
            if value is None:
                continue
            dtype = getattr(getattr(value, "dtype", None), "name", "")
            if dtype not in _CODES or np.ndim(value) != axes:
                raise InputError("bad_embedding", f"{field} must be a float array of {axes} axes")
            if not np.isfinite(value).all():
                raise InputError("bad_embedding", f"{field} holds NaN or infinity")
        if self.deepstack is not None and self.deepstack.shape[1:] != self.tokens.shape:
            shapes = f"{list(self.deepstack.shape)} for tokens {list(self.tokens.shape)}"
            raise InputError("bad_embedding", f"deepstack has the shape {shapes}")
        if self.grid_thw is not None and not _is_grid(self.grid_thw):
            raise InputError("bad_embedding", "grid_thw must be the patches in time, height and width, each 1 or more")
        seconds, times = self.seconds_per_grid, self.timestamps
        if seconds is not None and not (is_number(seconds) and 0 < seconds < float("inf")):
            raise InputError("bad_embedding", f"seconds_per_grid must be a number above 0, got {shown(seconds)}")
        if times is not None and not all(is_number(time) and abs(time) < float("inf") for time in times):
            raise InputError("bad_embedding", "timestamps must be numbers of seconds")
        if self.audio is not None and (not isinstance(self.audio, Embedding) or self.audio.kind != "audio"):
            raise InputError("bad_embedding", f"audio must be an embedding of kind audio, got {shown(self.audio)}")

    def __repr__(self) -> str:
        count, width = self.tokens.shape
        facts = [f"{count} tokens of width {width}, {self.tokens.dtype}"]
        if self.grid_thw is not None:
            facts.append("grid " + " x ".join(map(str, self.grid_thw)))
        if self.deepstack is not None:
            facts.append(f"{len(self.deepstack)} levels of deepstack")
        if self.audio is not None:
            facts.append(f"audio of {len(self.audio.tokens)} tokens")
        return f"<omni.Embedding of {self.kind}: {', '.join(facts)}>"

    @shown_in_notebooks
    def _repr_html_(self) -> str:
        count, width = self.tokens.shape
        mean, norms = self.pooled(), np.linalg.norm(self.tokens.astype(np.float64), axis=1)
        facts = {
            "tokens": f"{count} of width {width}, {self.tokens.dtype}",
            "length of a token": f"{norms.min():.3g} to {norms.max():.3g}" if count else None,
            "pooled": " ".join(f"{value:+.3g}" for value in mean[:6]) + " …",
            "grid (time, height, width)": self.grid_thw and " x ".join(map(str, self.grid_thw)),
            "deepstack": None if self.deepstack is None else f"{len(self.deepstack)} levels",
            "seconds": self.timestamps and f"{self.timestamps[0]:.2f} to {self.timestamps[-1]:.2f}",
            "audio": None if self.audio is None else f"{len(self.audio.tokens)} tokens",
        }
        return table(f"Embedding of {self.kind}", facts)

    def pooled(self) -> Float[np.ndarray, "width"]:
        """The mean over tokens: one vector for the whole medium."""
        return self.tokens.mean(axis=0)

    def save(self, path: str | os.PathLike[str], *, notes: Mapping[str, str] | None = None) -> None:
        """Writes a safetensors file that `Embedding.load` reads back exactly; the same embedding gives the same bytes.

        Args:
            path: of the file; one that is there is replaced, and never seen half written.
            notes: what else the file's header is to say, such as what was encoded; `read_notes` gives it back.
        """
        tensors, header = {}, {**(notes or {}), "format": _FORMAT}
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
        # A name of its own: that of the target may be as long as names can be.
        partial = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            partial.write_bytes(_serialized(tensors, header))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Embedding":
        """Reads a file written by `save`.

        Raises:
            InputError: the file is absent, or is not an embedding.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise InputError("unreadable_embedding", f"{describe(path)} is not a readable embedding file") from error
        if header.get("format") != _FORMAT:
            raise InputError("unreadable_embedding", f"{describe(path)} was not written by Embedding.save")
        grid = header.get("grid_thw")
        seconds = header.get("seconds_per_grid")
        times = header.get("timestamps")
        audio_tokens = tensors.get("audio.tokens")
        try:
            return cls(
                kind=header["kind"],  # type: ignore[arg-type]
                tokens=tensors["tokens"],
                deepstack=tensors.get("deepstack"),
                grid_thw=tuple(map(int, grid.split())) if grid else None,  # type: ignore[arg-type]
                seconds_per_grid=float(seconds) if seconds else None,
                audio=None if audio_tokens is None else cls("audio", audio_tokens, tensors.get("audio.deepstack")),
                timestamps=tuple(map(float, times.split())) if times else None,
            )
        except (KeyError, ValueError, OverflowError) as error:
            raise InputError("unreadable_embedding", f"{describe(path)} is a damaged embedding file") from error


def read_notes(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """Return the header of an embedding's file, without its tensors; None for a file that is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return header if header.get("format") == _FORMAT else None


def _is_grid(grid: object) -> bool:
    if not isinstance(grid, tuple | list) or len(grid) != 3:
        return False
    return all(is_whole(side) and 1 <= side < 1 << 31 for side in grid)


def _serialized(tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file (https://github.com/huggingface/safetensors#format), its header in one order.

    The safetensors package writes metadata in an order that changes from process to process.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(notes.items()))}
    parts, at = [], 0
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        code, shape = _CODES[array.dtype.name], list(array.shape)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin aligned
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
