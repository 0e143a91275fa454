"""The audio in any container that FFmpeg opens, laid on the clock of the container."""

from collections.abc import Iterator
from io import BufferedIOBase
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.decode.container.pyav import (
    av_module,
    first_track,
    may_end_anywhere,
    maybe_track,
    open_container,
    raise_if_exhausted,
)
from processors.decode.container.structure import check_structure
from processors.decode.container.timeline import Timeline
from processors.decode.pool import isolated_audio
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.waveform import resample, to_mono

# Timestamps jitter by the tick of the container (1 ms in Matroska); a step beyond this is a hole in the track.
_JITTER_SECONDS = 0.05
# A longer hole is a broken clock, not silence.
_MAX_HOLE_SECONDS = 600.0
_BLOCK = 1 << 16


def audio_track_blocks(
    stream: BufferedIOBase, name: str, target_rate: int, start: float | None = None, access: Access = DEFAULT_ACCESS
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Decode the first audio track, average its channels, and resample it once; block by block.

    Args:
        stream: the container, from its start.
        name: what messages call it.
        target_rate: samples a second of the result.
        start: time in the container of the first sample wanted, in seconds: what lies before is left out, and silence
            stands in for a track that starts later. Without it, the track's own start.
        access: limits and deadline, and whether to decode in a process apart.

    Raises:
        InputError: `audio_unknown_format`, `audio_needs_video_extra`, `audio_no_track`, `audio_unknown_codec`,
            `audio_truncated`, `audio_corrupt`, `audio_empty`, `audio_not_finite`, `audio_too_large`,
            `audio_expansion`, `decoder_crashed`, `decoder_time`.
    """
    if access.isolate:
        yield from isolated_audio(stream, name, target_rate, start, access)
    else:
        yield from track_blocks(stream, name, target_rate, start, access)


def track_blocks(
    stream: BufferedIOBase, name: str, target_rate: int, start: float | None, access: Access
) -> Iterator[Float32[np.ndarray, "_"]]:
    """As `audio_track_blocks`, in this process."""
    stream, joints, _ = check_structure(stream, name, "audio", access)
    most = max(access.limits.free_bytes, access.limits.audio_expansion * stream.seek(0, 2)) // 4
    with open_container(stream, name, "audio", access) as container:
        track = first_track(container, name, "audio", access)
        samples = 0
        for block in _at_rate(_decoded(container, track, joints, name, access), start, target_rate, name):
            samples += len(block)
            if samples > most:
                raise InputError("audio_expansion", f"{name}: a small file becomes more than {most:,} samples")
            yield block


def _decoded(
    container: Any, track: Any, joints: tuple[int, ...], name: str, access: Access
) -> Iterator[tuple[float | None, int, np.ndarray]]:
    """Times in seconds, rates and mono stretches, in order."""
    av = av_module("audio", name)
    begun = damaged = False
    beside, timeline = maybe_track(container, "video"), Timeline(container, joints)
    for packet in container.demux(track if beside is None else [beside, track]):
        access.check()
        if packet.size:
            timeline.place(packet)
        if packet.stream.index != track.index:
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            raise_if_exhausted(error)
            # A track may start in the middle of a frame; damage after that leaves a hole.
            damaged = begun
            continue
        for frame in frames:
            if damaged:
                raise InputError("audio_corrupt", f"{name}: its audio track is damaged")
            begun = True
            samples = frame.to_ndarray()
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            yield frame.time, frame.sample_rate, to_mono(samples, channel_axis=0)
    if damaged and not may_end_anywhere(container):
        raise InputError("audio_corrupt", f"{name}: the end of its audio track is damaged")


def _at_rate(
    stretches: Iterator[tuple[float | None, int, np.ndarray]], start: float | None, target_rate: int, name: str
) -> Iterator[np.ndarray]:
    """Resample what follows at one rate as one; a track may change its rate where files were joined."""
    empty = True
    for rate, group in groupby(stretches, lambda stretch: stretch[1]):
        if rate < 1:
            raise InputError("audio_corrupt", f"{name}: its audio track has no sampling rate")
        empty, clock = False, _Clock(start, rate)
        yield from resample(clock.lay((time, samples) for time, _, samples in group), rate, target_rate)
        start = None if clock.start is None else clock.start + clock.position / rate
    if empty:
        raise InputError("audio_empty", f"{name}: its audio track holds no samples")


class _Clock:
    """Cuts what lies before `start` and fills holes with silence, so that sample n is at start + n / rate."""

    def __init__(self, start: float | None, rate: int):
        self.start, self.rate = start, rate
        self.position = 0

    def lay(self, stretches: Iterator[tuple[float | None, np.ndarray]]) -> Iterator[np.ndarray]:
        first = True
        for time, samples in stretches:
            if time is not None:
                self.start = time if self.start is None else self.start
                hole = round((time - self.start) * self.rate) - self.position
                tolerance = 0 if first else _JITTER_SECONDS * self.rate
                if tolerance < abs(hole) <= _MAX_HOLE_SECONDS * self.rate:
                    for begin in range(0, hole, _BLOCK):
                        yield np.zeros(min(_BLOCK, hole - begin), np.float32)
                    self.position += max(hole, 0)
                    samples = samples[max(-hole, 0) :]
            # Until something has been kept, every stretch is laid exactly.
            first = first and not len(samples)
            self.position += len(samples)
            yield samples
