"""Segments of audio files through libsndfile, which gets bytes only: never a path, never a name."""

from collections.abc import Iterator
from io import BufferedIOBase
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.decode.audio.narrow_samples import narrow_samples
from processors.decode.audio.segments import AudioSegment, corrupt, truncated
from processors.errors import InputError
from processors.io.access import Access
from processors.io.splice import splice
from processors.waveform import MAX_CHANNELS, to_mono

# What libsndfile is handed begins with one of these: the rest it guesses, or looks for in other files.
_MAGIC = (
    b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b".snd", b"dns.", b"caff", b"Creative Voice File", b"2BIT",
    b"NIST_1A", b"PVF1\n", b" paf", b"fap ",
)  # fmt: skip
_IRCAM = {(0x64, 0xA3, 0), (0, 0xA3, 0x64)}
_IFF = {b"AIFF", b"AIFC", b"8SVX", b"16SV"}
_BLOCK = 1 << 17
_UNKNOWN = 1 << 62


def _is_readable(head: bytes) -> bool:
    if head[:4] == b"FORM":
        return head[8:12] in _IFF
    ircam = len(head) > 3 and ((head[0], head[1], head[3]) in _IRCAM or (head[0], head[2], head[3]) in _IRCAM)
    return head.startswith(_MAGIC) or ircam


class Segment:
    """An opened segment.

    Attributes:
        rate: samples a second.
        samples: how many the segment promises; None where it does not.

    Raises:
        InputError: `audio_shape`, too many channels.
        LookupError: libsndfile does not know the format.
    """

    def __init__(self, stream: BufferedIOBase, segment: AudioSegment, name: str):
        import soundfile

        self._name, self._segment = name, segment
        data = splice(stream, segment.pieces)
        if segment.wide:
            data = narrow_samples(data, len(segment.pieces[0]), segment.wide, segment.big_endian)
        if not _is_readable(data.read(32)):
            raise LookupError("no format of libsndfile's")
        data.seek(0)
        try:
            self._file: Any = soundfile.SoundFile(data)  # pyright: ignore[reportArgumentType]
        except (RuntimeError, TypeError, ValueError) as error:
            raise LookupError(type(error).__name__) from None
        self.rate = self._file.samplerate
        known = segment.samples is not None or 0 <= self._file.frames < _UNKNOWN
        self.samples = (self._file.frames if segment.samples is None else segment.samples) if known else None
        if not 0 < self._file.channels <= MAX_CHANNELS:
            channels = self._file.channels
            self._file.close()
            raise InputError("audio_shape", f"{name}: {channels:,} channels, the limit is {MAX_CHANNELS}")

    def blocks(self, access: Access) -> Iterator[Float32[np.ndarray, "_"]]:
        """Yields mono stretches to the end of the segment.

        Raises:
            InputError: `audio_corrupt`; `audio_truncated`, there is less than was promised; those of `to_mono`.
        """
        segment, read = self._segment, -self._segment.skipped
        size = max(1024, _BLOCK // self._file.channels)
        with self._file as file:
            while segment.samples is None or read < segment.samples:
                access.check()
                try:
                    block = file.read(size, dtype="float32", always_2d=True)
                except Exception:  # LibsndfileError is a RuntimeError; a hostile header may give anything
                    raise corrupt(self._name) from None
                if not len(block):
                    break
                begin, read = max(0, -read), read + len(block)
                surplus = 0 if segment.samples is None else max(0, read - segment.samples)
                if len(block) > begin + surplus:
                    yield to_mono(block[begin : len(block) - surplus], channel_axis=1)
        if self.samples is not None and not segment.open_end and 0 <= read < self.samples:
            raise truncated(self._name, f"{read:,} of {self.samples:,} samples are there")
