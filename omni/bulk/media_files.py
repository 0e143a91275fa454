"""Whether a file that nobody named, one of a folder, is a medium: by its name, or else by what it holds."""

import os
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from typing import Any

from processors.io.sniffing import sniff_stream

# A file so called is one of the job even where it is damaged: its row then says so. Names that other files have too,
# such as .ts, are left to what is in the file.
_ENDINGS = frozenset(
    """
    jpg jpeg jpe jfif png apng gif bmp dib tif tiff webp avif avifs heic heif hif jp2 j2k jpx ico tga pcx psd
    ppm pgm pbm pnm
    wav wave flac mp3 ogg oga opus spx m4a m4b aac aif aiff aifc au wma amr caf ac3 mka wv ape
    mp4 m4v mov qt mkv webm avi mpg mpeg m2v mts m2ts wmv flv ogv 3gp 3g2 asf vob y4m
    """.split()
)
_HEAD = 1 << 16


def is_medium(path: str) -> bool:
    """Whether a file of this machine is called or holds an image, audio or a video."""
    return _is_named_so(path) or _holds_one(lambda: open(path, "rb"))


def is_remote_medium(system: Any, path: str) -> bool:
    """The same of a file system of fsspec, from which no more than the first 64 KiB are read."""
    return _is_named_so(path) or _holds_one(lambda: BytesIO(system.cat_file(path, start=0, end=_HEAD)))


def _is_named_so(path: str) -> bool:
    return os.path.splitext(path)[1][1:].lower() in _ENDINGS


def _holds_one(opened: Callable[[], BufferedIOBase]) -> bool:
    try:
        with opened() as stream:
            return sniff_stream(stream) is not None
    except Exception:  # of any file system; what cannot be read was not asked for by name
        return False
