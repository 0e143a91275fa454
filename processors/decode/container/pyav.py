"""PyAV, which is an extra, and the containers that it opens: by their own demuxer, with nothing else in reach."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, NoReturn

from processors.decode.container.format import MOV, container_format
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access

_MAX_STREAMS = 512
_ENDLESS = {
    "mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "vc1", "dirac", "dv", "mp3", "aac", "loas",
    "ac3", "eac3", "dts", "truehd", "mlp",
}  # fmt: skip
# Samples of one channel in one decoded frame: an hour's length of a codec's longest is far below.
_MAX_FRAME_SAMPLES = 1 << 22


def av_module(kind: str, name: str) -> Any:
    """Import PyAV.

    Raises:
        InputError: `video_needs_video_extra` or `audio_needs_video_extra`, it is not installed.
    """
    try:
        import av
    except ImportError:
        message = f'{name}: this kind of {kind} is read through PyAV: pip install "omni-jax[video]"'
        raise InputError(f"{kind}_needs_video_extra", message) from None
    return av


class _Bytes:
    """A stream without a name, against which FFmpeg would resolve others'; each reading heeds the deadline."""

    def __init__(self, stream: BufferedIOBase, access: Access):
        self._stream, self._access = stream, access
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        self._access.check()
        return self._stream.read(size)


@contextmanager
def open_container(stream: BufferedIOBase, name: str, kind: str, access: Access = DEFAULT_ACCESS) -> Iterator[Any]:
    """Open a container from its start, and close it; the stream stays open.

    The demuxer is chosen by the container's own magic number, FFmpeg has no protocol, and what it tries to open beside
    the stream is refused. Whatever a library raises inside becomes an InputError.

    Args:
        stream: seekable.
        name: what messages call it.
        kind: `audio` or `video`, the first word of the codes.
        access: limits and deadline.

    Raises:
        InputError: `<kind>_needs_video_extra`, `<kind>_unknown_format`; `<kind>_corrupt` for what is raised inside,
            `<kind>_too_large` where memory does not suffice.
    """
    access.check()
    unknown = InputError(f"{kind}_unknown_format", f"{name} is not {kind} of a known format, or its start is damaged")
    demuxer = container_format(stream)
    if demuxer is None:
        raise unknown
    av = av_module(kind, name)
    options = {
        "format_whitelist": demuxer,
        "protocol_whitelist": "",
        "max_streams": str(_MAX_STREAMS),
        **codec_limits(stream.seek(0, 2), access),
    }
    if demuxer == MOV:
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    stream.seek(0)
    # Tags that are not UTF-8 are no reason to refuse a file; PyAV 19 takes them as they are, and has no such option.
    lenient = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    try:
        container = av.open(
            _Bytes(stream, access),
            format=demuxer.partition(",")[0],
            options=options,
            io_open=_refuse_opening,
            **lenient,
        )
    except MemoryError:
        raise _too_large(name, kind) from None
    except InputError:
        raise
    except Exception as error:  # FFmpegError, ValueError, and what the stream raises
        access.check()
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise _too_large(name, kind) from None
        raise unknown from None
    with container:
        try:
            yield container
        except InputError:
            raise
        except MemoryError:
            raise _too_large(name, kind) from None
        except Exception:  # PyAV raises nearly anything on damaged data: FFmpegError, ValueError, KeyError, ...
            raise InputError(f"{kind}_corrupt", f"{name} is damaged and cannot be decoded") from None


def most_frame_pixels(encoded: int, access: Access) -> int:
    """Return how many pixels one frame may have of a video of so many bytes: a few bytes may not claim a large one."""
    limits = access.limits
    return int(min(limits.frame_pixels, max(limits.free_bytes, limits.image_expansion * encoded) / 3))


def codec_limits(encoded: int, access: Access) -> dict[str, str]:
    """Return the options by which FFmpeg's decoders bound one frame."""
    # More than this no decoder takes for a limit, nor for a frame.
    most = min(most_frame_pixels(encoded, access), (1 << 31) - 1)
    return {"max_pixels": str(most), "max_samples": str(_MAX_FRAME_SAMPLES)}


def first_track(container: Any, name: str, kind: str, access: Access = DEFAULT_ACCESS) -> Any:
    """Return the first track of a kind, its decoder's limits set.

    Raises:
        InputError: `<kind>_no_track`, `<kind>_unknown_codec`, `video_too_large`.
    """
    track = maybe_track(container, kind)
    if track is None:
        raise InputError(f"{kind}_no_track", f"{name} holds no {kind} track")
    context = track.codec_context
    if context is None:
        raise InputError(f"{kind}_unknown_codec", f"{name}: no decoder for its {kind} track")
    if kind == "video":
        check_frame_size(context.width, context.height, container.size, name, access)
    context.options = codec_limits(container.size, access)
    return track


def maybe_track(container: Any, kind: str) -> Any | None:
    """Return the first track of a kind, or None. The cover of an album is a video track of one picture, and is none."""
    from av.stream import Disposition

    for track in getattr(container.streams, kind):
        if not int(track.disposition) & int(Disposition.attached_pic):
            return track
    return None


def may_end_anywhere(container: Any) -> bool:
    """Return whether a container has no end of its own: one that is cut in the middle of a frame is as good as any."""
    return container.format.name in _ENDLESS


def check_frame_size(width: int, height: int, encoded: int, name: str, access: Access) -> None:
    """Raise `video_too_large` for more pixels than a frame of a video of so many bytes may have."""
    most = most_frame_pixels(encoded, access)
    if width * height > most:
        raise InputError("video_too_large", f"{name}: frames of {width} x {height} pixels, the limit is {most:,}")


def raise_if_exhausted(error: Any) -> None:
    """Raise MemoryError for an error of FFmpeg that says no more than that memory does not suffice."""
    if getattr(error, "errno", None) in (errno.ENOMEM, errno.EAGAIN):  # the latter where no thread can be started
        raise MemoryError from None


def _refuse_opening(url: str, flags: int, options: dict) -> NoReturn:
    raise PermissionError("a container may not open another file")


def _too_large(name: str, kind: str) -> InputError:
    return InputError(f"{kind}_too_large", f"{name}: decoding it needs more memory than there is")
