"""The process apart in which untrusted media are decoded: `python -m processors.decode.process FD`.

It has one socket to its parent and one file to read, in which nothing else can be opened; its memory and its processor
time are bounded. It answers in JSON and raw bytes, of which the parent believes nothing.
"""

import importlib
import io
import json
import math
import os
import pickle
import pkgutil
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from processors.decode.audio.track import track_blocks
from processors.decode.protocol import ANSWER, NEXT, REQUEST, START
from processors.decode.video.decoder import sample_stream
from processors.errors import InputError
from processors.features import Processors, packed
from processors.io.sources import OpenFile

# Standard input, output and error, the socket, and the file to read: more can't be opened.
_SOCKET_FD = 3
_MOST_FILES = 5

# What NumPy, Pillow and codecs import when they first need it.
_LOADED = (
    "encodings.idna", "encodings.latin_1", "encodings.ascii", "encodings.utf_16", "encodings.cp1252", "numpy.ma",
    "numpy.linalg", "numpy.fft", "numpy.random", "numpy.char", "numpy.rec", "numpy.polynomial", "PIL.ImageOps",
    "PIL.ImageChops", "PIL.ImageSequence", "PIL.ImagePalette", "PIL.TiffImagePlugin", "soxr", "traceback", "fractions",
    "PIL.ImageCms", "pillow_heif", "soundfile", "scipy.fft", "scipy.sparse",
)  # fmt: skip

Answer = tuple[dict[str, Any], bytes]


def main(fd: int) -> None:
    """Answer requests until the parent closes the socket."""
    _load()
    if fd != _SOCKET_FD:
        os.dup2(fd, _SOCKET_FD)
    os.closerange(_SOCKET_FD + 1, 1 << 10)
    channel = socket.socket(fileno=_SOCKET_FD)
    threading.Thread(target=_end_with_parent, args=(_SOCKET_FD,), daemon=True).start()
    base = _address_space()
    _limit_for_good()
    _send(channel, {"ready": True})
    while request := _receive(channel):
        (access, operation, arguments), source = request
        _limit_request(access.limits.decoder_bytes, access.limits.decoder_seconds, base)
        try:
            _answer(channel, operation, source, arguments, access)
        finally:
            os.close(source)


def _load() -> None:
    """Import whatever decoding may need, for no file can be opened later."""
    for name in _LOADED:
        _import(name)
    with suppress(ImportError):  # an extra: the request that needs it is told so
        import av

        for module in pkgutil.walk_packages(av.__path__, "av."):
            if not module.name.endswith("__main__"):
                _import(module.name)
    Image.init()
    image = io.BytesIO()
    Image.new("RGBA", (2, 2)).save(image, "GIF")
    Image.open(image).convert("RGB").resize((1, 1), Image.Resampling.BICUBIC)


def _import(name: str) -> None:
    with suppress(ImportError):
        importlib.import_module(name)


def _end_with_parent(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)
    poll.poll()
    os._exit(0)


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    except OSError:  # a system without /proc
        return 1 << 30


def _limit_for_good() -> None:
    import resource

    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, _MOST_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_request(memory: float, seconds: float, base: int) -> None:
    import resource

    spent = resource.getrusage(resource.RUSAGE_SELF)
    for kind, value in (
        (resource.RLIMIT_AS, base + memory),
        (resource.RLIMIT_CPU, math.ceil(spent.ru_utime + spent.ru_stime + seconds) if seconds < 1e9 else math.inf),
    ):
        hard = resource.getrlimit(kind)[1]
        soft = resource.RLIM_INFINITY if value >= 1 << 62 else int(value)
        try:
            resource.setrlimit(kind, (soft, hard))
        except (ValueError, OSError):  # a system that knows no such limit
            pass


def _receive(channel: socket.socket) -> tuple[tuple[Any, str, tuple], int] | None:
    """The next request, and the descriptor of the file that it is about; None when the parent is gone."""
    head, descriptors, _, _ = socket.recv_fds(channel, REQUEST.size, 1)
    if len(head) < REQUEST.size:
        return None
    kind, size = REQUEST.unpack(head)
    if kind != START or not descriptors:
        return None
    return pickle.loads(_exactly(channel, size)), descriptors[0]


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        block = channel.recv(size - len(data))
        if not block:
            raise SystemExit
        data += block
    return bytes(data)


def _send(channel: socket.socket, answer: dict[str, Any], payload: bytes = b"") -> None:
    text = json.dumps(answer).encode()
    channel.sendall(ANSWER.pack(len(text), len(payload)) + text)
    if payload:
        channel.sendall(payload)


def _answer(channel: socket.socket, operation: str, source: int, arguments: tuple, access: Any) -> None:
    try:
        answers = _OPERATIONS[operation](source, *arguments, access)
        for answer, payload in answers:
            _send(channel, answer, payload)
            if REQUEST.unpack(_exactly(channel, REQUEST.size))[0] != NEXT:
                answers.close()
                return
        _send(channel, {"end": True})
    except InputError as error:
        _send(channel, {"error": [error.code, str(error)]})
    except MemoryError:
        _send(channel, {"error": [f"{operation}_too_large", "decoding it needs more memory than the decoder may take"]})
    except Exception as error:  # a fault of our own: the request ends, and the process is as good as before
        _send(channel, {"error": ["decoder_crashed", f"the decoder failed with {type(error).__name__}"]})


def _video(source: int, name: str, config: Any, fps: Any, num_frames: Any, access: Any) -> Iterator[Answer]:
    stream = OpenFile(source, name).open()
    sampled = sample_stream(stream, name, config, fps, num_frames, access)
    header = {"fps": sampled.fps, "start": sampled.start, "size": sampled.size, "audio": sampled.audio is not None}
    yield header, np.asarray(sampled.timestamps, np.float64).tobytes()
    for frame in sampled.frames:
        yield {"size": frame.size}, np.asarray(frame).tobytes()


def _audio(source: int, name: str, rate: int, start: float | None, access: Any) -> Iterator[Answer]:
    stream = OpenFile(source, name).open()
    yield {}, b""
    for block in track_blocks(stream, name, rate, start, access):
        yield {}, np.asarray(block, np.float32).tobytes()


def _features(source: int, name: str, processors: Processors, access: Any) -> Iterator[Answer]:
    return packed(processors.read(OpenFile(source, name), access))


_OPERATIONS = {"video": _video, "audio": _audio, "features": _features}

if __name__ == "__main__":
    main(int(sys.argv[1]))
