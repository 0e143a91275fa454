"""Animated pictures (GIF, APNG, WebP, AVIF) as videos: how long each frame stays, and the frames as they are shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image, UnidentifiedImageError

from processors.decode.container.pyav import check_frame_size
from processors.decode.image.colours import on_white, on_white_canvas
from processors.errors import InputError
from processors.io.access import Access
from processors.io.splice import splice
from processors.io.truncation import is_truncated

# Browsers show what asks for 10 ms or less for 100 ms: such files were made for viewers that could go no faster.
_HASTY_SECONDS, _USUAL_SECONDS = 0.0105, 0.1


def animation_format(stream: BufferedIOBase) -> str | None:
    """Return Pillow's name for the format of what may be an animation, or None; the stream is left at its start."""
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if head[4:8] == b"ftyp" and {b"avif", b"avis"} & _brands(head) else None


def _brands(head: bytes) -> set[bytes]:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}


def frame_edges(
    stream: BufferedIOBase, form: str, name: str, access: Access
) -> tuple[Float64[np.ndarray, "edges"], tuple[int, int]]:
    """Read when each frame comes on, and when the last one goes, in seconds; and the size of them all.

    Raises:
        InputError: `video_corrupt`, `video_too_large`.
    """
    if _is_cut_short(stream, form):
        raise InputError("video_truncated", f"{name} is cut short: it ends in the middle of a frame")
    encoded = stream.seek(0, 2)
    with _opened(stream, form, name) as image:
        width, height = image.size
        check_frame_size(width, height, encoded, name, access)
        count = getattr(image, "n_frames", 1)
        if count > access.limits.video_frames:
            raise InputError("video_too_large", f"{name}: {count:,} frames")
        lengths = []
        for number in range(_first(image), count):
            access.check()
            image.seek(number)
            if form in ("WEBP", "AVIF"):
                image.load()  # these tell a frame's length when they decode it
            seconds = float(image.info.get("duration", 0) or 0) / 1000
            lengths.append(seconds if seconds > _HASTY_SECONDS else _USUAL_SECONDS)
    return np.cumsum([0.0, *lengths]), (width, height)


def animation_frames(
    stream: BufferedIOBase, form: str, ranks: Int64[np.ndarray, "frames"], name: str, access: Access
) -> Iterator[Image.Image]:
    """Yield frames of ascending ranks in RGB, each as it is shown, transparency laid on white."""
    wanted, repeats = np.unique(ranks, return_counts=True)
    with _opened(stream, form, name) as image:
        for rank, times in zip((wanted + _first(image)).tolist(), repeats.tolist(), strict=True):
            # Frame by frame: each is drawn over the one before.
            for number in range(image.tell(), rank + 1):
                access.check()
                image.seek(number)
                _load_on_white(image)
            shown = _on_white(image)
            for _ in range(times):
                yield shown


def _first(image: Image.Image) -> int:
    """The number of the first frame: a PNG may begin with a picture for viewers that know no animations."""
    return int(bool(image.info.get("default_image")))


def _is_cut_short(stream: BufferedIOBase, form: str) -> bool:
    length = stream.seek(0, 2)
    if form == "WEBP":
        stream.seek(4)
        return 8 + int.from_bytes(stream.read(4), "little") > length
    if form == "PNG":
        return not _png_ends(stream, length)
    return _gif_is_short(stream, length) if form == "GIF" else is_truncated(stream)


def _png_ends(stream: BufferedIOBase, length: int) -> bool:
    place = 8
    while place + 12 <= length:
        stream.seek(place)
        size, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
        place += 12 + size
        if kind == b"IEND":
            return place <= length
    return False


def _gif_is_short(stream: BufferedIOBase, length: int) -> bool:
    """Walk the blocks; a missing trailer alone is common, and loses nothing."""
    stream.seek(10)
    flags = stream.read(1)[:1] or b"\0"
    stream.seek(13 + _palette(flags[0]))
    while lead := stream.read(1):
        if lead == b";":
            return False
        if lead == b"!":
            stream.seek(1, 1)
        elif lead == b",":
            flags = stream.read(9)[8:] or b"\0"
            stream.seek(_palette(flags[0]) + 1, 1)
        else:  # what follows the last frame, which no viewer reads
            return False
        while (size := stream.read(1)) != b"\0":
            if not size or stream.seek(size[0], 1) > length:
                return True
    return stream.tell() > length


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


@contextmanager
def _opened(stream: BufferedIOBase, form: str, name: str) -> Iterator[Image.Image]:
    stream.seek(0)
    try:
        source: Any = with_alpha(stream) if form == "WEBP" else stream
        with Image.open(source, formats=[form]) as image:
            yield image
    except InputError:
        raise
    except (MemoryError, Image.DecompressionBombError):
        raise InputError("video_too_large", f"{name}: decoding it needs more memory than there is") from None
    except UnidentifiedImageError:
        raise InputError("video_unknown_format", f"{name} is not video of a known format") from None
    except Exception:  # Pillow raises nearly anything on damaged data: OSError, SyntaxError, struct.error, ...
        raise InputError("video_corrupt", f"{name} is damaged or cut short and cannot be decoded") from None


def with_alpha(stream: BufferedIOBase) -> BufferedIOBase:
    """Return an animated WebP that is said to be see-through: where no frame covers the canvas it is, whatever it says.

    Any other WebP is returned as it is, at its start.
    """
    stream.seek(0)
    head = stream.read(21)
    size = stream.seek(0, 2)
    stream.seek(0)
    if head[12:16] != b"VP8X" or len(head) < 21 or not head[20] & 0x02:
        return stream
    return splice(stream, [head[:20] + bytes([head[20] | 0x10]), (21, size)])


def gif_on_white(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Return the first frame of a GIF on white where it does not cover the canvas; Pillow has the first colour there.

    Args:
        image: loaded.
        box: where the frame is on the canvas.
    """
    if "transparency" in image.info or tuple(box) == (0, 0, *image.size):
        return image
    return on_white_canvas(image, box)


def _load_on_white(image: Any) -> None:
    """Load a frame; the first of a GIF lies on white, and so do those that are drawn over it."""
    box = image.tile[0][1] if image.format == "GIF" and image.tile and not image.tell() else None
    image.load()
    if box and (shown := gif_on_white(image, box)) is not image:
        image.im, image._mode = shown.im, shown.mode
        if image.dispose:
            image.dispose = Image.new("RGB", image.dispose.size, "white").im


def _on_white(image: Image.Image) -> Image.Image:
    return on_white(image) if image.has_transparency_data else image.convert("RGB")
