"""Decoded frames of any pixel format to upright RGB on white."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from processors.decode.container.pyav import check_frame_size, raise_if_exhausted
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access

# Packed formats in which many writers leave the fourth byte at 0.
_FOURTH_BYTE = {"rgba", "bgra", "argb", "abgr"}


class FrameConverter:
    """Converts the PyAV frames of one track to images of mode RGB: turned as their display matrix says, on white.

    One for a track, not one a frame: PyAV's own conversion keeps a pool of threads for every frame, and a frame whose
    side data were looked at stays until the garbage collector comes.

    Args:
        encoded: bytes of the whole video.
        name: what messages call it.
        access: limits.
    """

    def __init__(self, encoded: int, name: str, access: Access = DEFAULT_ACCESS):
        from av.video.reformatter import VideoReformatter

        _name_side_data()
        self._encoded, self._name, self._access = encoded, name, access
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._matrix: np.ndarray | None = None

    def __call__(self, frame: Any) -> Image.Image:
        """Convert one frame.

        Raises:
            InputError: `video_too_large`, `video_corrupt`.
        """
        check_frame_size(frame.width, frame.height, self._encoded, self._name, self._access)
        try:
            picture = self._on_white(frame) if _has_alpha(frame) else self._converted(frame, "rgb24")
        except MemoryError:
            raise
        except Exception as error:  # FFmpegError, ValueError: a format that nothing converts
            raise_if_exhausted(error)
            message = f"{self._name}: a frame of its video track cannot be converted to RGB"
            raise InputError("video_corrupt", message) from None
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        if self._matrix is not None:
            picture = upright(picture, self._matrix)
        return Image.fromarray(np.ascontiguousarray(picture))

    def _converted(self, frame: Any, form: str) -> np.ndarray:
        return self._reformatter.reformat(frame, format=form, threads=1).to_ndarray()

    def _on_white(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        picture = self._converted(frame, "rgba")
        if frame.format.name in _FOURTH_BYTE and not picture[..., 3].any():
            return picture[..., :3]
        layer = Image.fromarray(picture)
        paper = Image.new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return np.asarray(paper.convert("RGB"))


def _has_alpha(frame: Any) -> bool:
    return any(part.is_alpha for part in frame.format.components)


def _display_matrix(frame: Any) -> np.ndarray | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    matrix = None if data is None else np.frombuffer(bytes(data), np.int32)
    return matrix if matrix is not None and len(matrix) == 9 else None


def _name_side_data() -> None:
    """Let PyAV hand over side data of kinds newer than itself, which it refuses together with all others of a frame."""
    from av.sidedata.sidedata import Type

    if "_missing_" in vars(Type):
        return

    def unnamed(cls: Any, value: object) -> Any:
        member = object.__new__(cls)
        member._name_, member._value_ = f"TYPE_{value}", value
        return member

    setattr(Type, "_missing_", classmethod(unnamed))  # noqa: B010


def upright(
    picture: UInt8[np.ndarray, "height width 3"], matrix: np.ndarray
) -> UInt8[np.ndarray, "upright_height upright_width 3"]:
    """Apply a display matrix, a point (x, y) going to (a x + c y, b x + d y), to the nearest right angle."""
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if not (a or b) or not (c or d):
        return picture
    if abs(a) < abs(b):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
