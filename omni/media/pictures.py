"""The images of a conversation, and how coordinates of what the model saw become coordinates of what was given."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from omni.errors import InputError, shown
from omni.media.embedding import Embedding
from omni.media.types import Image
from processors import ImageConfig
from processors.decode.image.decoder import open_image
from processors.image import with_pixel_limits
from processors.io.access import DEFAULT_ACCESS, Access
from processors.resize import smart_resize

COORDINATES = ("relative", "pixels")
"""Thousandths of the width and the height; or pixels of the resized image."""

_WHOLE = 1000


@dataclass(frozen=True)
class Frame:
    """An image as it was given, upright, and what the coordinates that a model writes end at.

    Attributes:
        width: of the image, in pixels.
        height: of the image, in pixels.
        right: the coordinate of its right edge.
        bottom: the coordinate of its lower edge.
    """

    width: int
    height: int
    right: float
    bottom: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the image, in pixels; what lies outside is moved to the edge."""
        return _scaled(x, self.right, self.width), _scaled(y, self.bottom, self.height)


@dataclass(frozen=True)
class Pictures:
    """The images of a conversation.

    Attributes:
        sizes: width and height of each, as the model saw it.
        config: settings that images are read with.
        access: limits and source policy that they are read with.
    """

    sizes: tuple[tuple[int, int], ...] = ()
    config: ImageConfig = field(default_factory=ImageConfig)
    access: Access = DEFAULT_ACCESS

    @classmethod
    def of(cls, media: Sequence[Embedding], config: ImageConfig, access: Access) -> "Pictures":
        """Those among the media of a conversation."""
        grids = [one.grid_thw for one in media if one.kind == "image" and one.grid_thw is not None]
        size = config.patch_size
        return cls(tuple((columns * size, rows * size) for _, rows, columns in grids), config, access)

    def frame(self, image: Any, coordinates: str = "relative") -> Frame:
        """How one of the images lies in the coordinates that a model writes.

        Args:
            image: what the conversation was given: a path, URL, bytes, PIL image, array or `omni.Image`.
            coordinates: that the model writes, one of `COORDINATES`.

        Raises:
            InputError: `image_not_there`, the conversation has no image that is resized to the same size; `bad_option`;
                `image_*`, it cannot be read.
        """
        if coordinates not in COORDINATES:
            known = " or ".join(COORDINATES)
            raise InputError("bad_option", f"coordinates must be {known}, not {shown(coordinates)}")
        wrapped = image if isinstance(image, Image) else Image(image)
        config = with_pixel_limits(self.config, wrapped.min_pixels, wrapped.max_pixels)
        opened = open_image(wrapped.source, self.access)
        height, width = smart_resize(opened.height, opened.width, config)
        if (width, height) not in self.sizes:
            saw = ", ".join(f"{w} x {h}" for w, h in self.sizes[:8]) or "no image"
            raise InputError(
                "image_not_there",
                f"this image becomes {width} x {height} pixels, and the model saw {saw}: give an image of the "
                "conversation, with the pixel limits that it had there",
            )
        edges = (_WHOLE, _WHOLE) if coordinates == "relative" else (width, height)
        return Frame(opened.width, opened.height, *map(float, edges))


NO_PICTURES = Pictures()
"""Those of a conversation without images."""


def _scaled(value: float, end: float, size: int) -> float:
    return min(max(value / end * size, 0.0), float(size))
