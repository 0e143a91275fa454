"""The sound in any container that FFmpeg opens, laid on the clock of the container."""

from collections.abc import Iterator
from io import BufferedIOBase

import numpy as np
from jaxtyping import Float32

from processors.av_container import av_module, first_track, open_container
from processors.errors import InputError
from processors.waveform import joined, resample, to_mono

# Timestamps jitter by the tick of the container (1 ms in Matroska); a step beyond this is a hole in the track.
_JITTER_SECONDS = 0.05
# A longer hole is a broken clock, not silence.
_MAX_HOLE_SECONDS = 600.0


def load_audio_track(
    stream: BufferedIOBase, name: str, target_rate: int, start: float | None = None
) -> Float32[np.ndarray, "samples"]:
    """Decodes the first audio track, averages its channels, and resamples it once.

    Args:
        stream: the container, from its start.
        name: what messages call it.
        target_rate: samples a second of the result.
        start: time in the container of the first sample wanted, in seconds: what lies before is left out, and silence
            stands in for a track that starts later. Without it, the track's own start.

    Raises:
        InputError: `audio_unknown_format`, `audio_needs_video_extra`, `audio_no_track`, `audio_unknown_codec`,
            `audio_corrupt`, `audio_empty`, `audio_not_finite`.
    """
    return joined(audio_track_blocks(stream, name, target_rate, start))


def audio_track_blocks(
    stream: BufferedIOBase, name: str, target_rate: int, start: float | None = None
) -> Iterator[Float32[np.ndarray, "_"]]:
    """As `load_audio_track`, block by block."""
    with open_container(stream, name, "audio") as container:
        track = first_track(container, name, "audio")
        yield from resample(_on_clock(_decoded(container, track, name), start, track.rate), track.rate, target_rate)


def _decoded(container, track, name: str) -> Iterator[tuple[float | None, np.ndarray]]:
    """Times in seconds and mono stretches, in order."""
    av = av_module("audio", name)
    begun = False
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            # A recording may start in the middle of a frame; damage after that would leave a hole.
            if begun:
                raise InputError("audio_corrupt", f"{name}: its audio track is damaged") from None
            continue
        for frame in frames:
            begun = True
            if frame.sample_rate != track.rate:
                raise InputError("audio_corrupt", f"{name}: its audio track changes its sampling rate on the way")
            samples = frame.to_ndarray()
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            yield frame.time, to_mono(samples, channel_axis=0)


def _on_clock(
    stretches: Iterator[tuple[float | None, np.ndarray]], start: float | None, rate: int
) -> Iterator[np.ndarray]:
    """Cuts what lies before `start` and fills holes with silence, so that sample n is at start + n / rate."""
    position, first = 0, True
    for time, samples in stretches:
        if time is not None:
            start = time if start is None else start
            hole = round((time - start) * rate) - position
            tolerance = 0 if first else _JITTER_SECONDS * rate
            if tolerance < abs(hole) <= _MAX_HOLE_SECONDS * rate:
                if hole > 0:
                    yield np.zeros(hole, np.float32)
                    position += hole
                else:
                    samples = samples[-hole:]
        # Until something has been kept, every stretch is laid exactly.
        first = first and not len(samples)
        position += len(samples)
        yield samples
