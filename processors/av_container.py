"""PyAV, which is an extra, and the containers that it opens."""

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def open_container(stream: BufferedIOBase, name: str, kind: str) -> Iterator[Any]:
    """Opens a container from its start, and closes it; the stream stays open.

    Args:
        stream: seekable.
        name: what messages call it.
        kind: `audio` or `video`, the first word of the codes.

    Raises:
        InputError: `<kind>_needs_video_extra`, `<kind>_unknown_format`; `<kind>_corrupt` for what FFmpeg raises inside.
    """
    unknown = InputError(f"{kind}_unknown_format", f"{name} is not {kind} of a known format, or its start is damaged")
    stream.seek(0)
    head = stream.read(4096)
    stream.seek(0)
    if is_plain_text(head) and not head.startswith(b"YUV4MPEG2"):
        raise unknown
    av = av_module(kind, name)
    # Tags that are not UTF-8 are no reason to refuse a file; PyAV 19 takes them as they are, and has no such option.
    lenient = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    try:
        container = av.open(stream, **lenient)
    except (av.FFmpegError, ValueError):
        raise unknown from None
    with container:
        try:
            yield container
        except av.FFmpegError:
            raise InputError(f"{kind}_corrupt", f"{name} is damaged and cannot be decoded") from None


def first_track(container: Any, name: str, kind: str) -> Any:
    """The first track of a kind.

    Raises:
        InputError: `<kind>_no_track`, `<kind>_unknown_codec`.
    """
    from av.stream import Disposition

    # The cover of an album is a video track of one picture.
    tracks = [
        track
        for track in getattr(container.streams, kind)
        if not int(track.disposition) & int(Disposition.attached_pic)
    ]
    if not tracks:
        raise InputError(f"{kind}_no_track", f"{name} holds no {kind} track")
    if tracks[0].codec_context is None:
        raise InputError(f"{kind}_unknown_codec", f"{name}: no decoder for its {kind} track")
    return tracks[0]
