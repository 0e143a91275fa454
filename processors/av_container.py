"""PyAV, which is an extra, and the containers that it opens."""

from io import BufferedIOBase
from typing import Any

from processors.errors import InputError
from processors.sniffing import is_plain_text


def av_module(kind: str, name: str) -> Any:
    """Imports PyAV.

    Raises:
        InputError: `video_needs_video_extra` or `audio_needs_video_extra`, it is not installed.
    """
    try:
        import av
    except ImportError:
        message = f'{name}: this kind of {kind} is read through PyAV: pip install "omni-jax[video]"'
        raise InputError(f"{kind}_needs_video_extra", message) from None
    return av


def open_container(stream: BufferedIOBase, name: str, kind: str) -> Any:
    """Opens a container from its start; the caller closes it, and the stream afterwards.

    Args:
        stream: seekable.
        name: what messages call it.
        kind: `audio` or `video`, the first word of the codes.

    Raises:
        InputError: `<kind>_needs_video_extra`, `<kind>_unknown_format`.
    """
    unknown = InputError(f"{kind}_unknown_format", f"{name} is not {kind} of a known format, or its start is damaged")
    stream.seek(0)
    head = stream.read(4096)
    stream.seek(0)
    if is_plain_text(head) and not head.startswith(b"YUV4MPEG2"):
        raise unknown
    av = av_module(kind, name)
    try:
        return av.open(stream, metadata_errors="ignore")
    except (av.FFmpegError, ValueError):
        raise unknown from None
