"""Any audio to one mono float32 waveform."""

from collections.abc import Iterator
from io import BufferedIOBase
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float32

from processors.decode.audio.flac_frames import flac_segments
from processors.decode.audio.iff_chunks import iff_segments
from processors.decode.audio.legacy_formats import check_legacy
from processors.decode.audio.libsndfile import Segment
from processors.decode.audio.mpeg_frames import mpeg_segments
from processors.decode.audio.ogg_pages import ogg_segments
from processors.decode.audio.sample_arrays import MonoBlocks, is_samples, mono_blocks
from processors.decode.audio.segments import AudioSegment, audio_start, corrupt
from processors.decode.audio.wave_chunks import is_wave, wave_segments
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.io.checked_stream import CheckedStream
from processors.io.sources import Source, describe, is_source, open_source
from processors.waveform import bounded, check_length, checked_rate, joined, resample

AudioSource = Source | np.ndarray | Any
"""A path, URL, data URI, encoded bytes or a binary stream; or an array of samples, of NumPy or anything else."""

Rate = float | int | Any
"""Samples a second, of any type of number."""

# Behind so much of something else no audio is looked for.
_SEARCHED = 1 << 16
_MOST_SEGMENTS = 10_000
# What becomes more than this, and so many times its own size, is counted before it is kept.
_WARY_BYTES, _WARY_EXPANSION = 1 << 25, 200


def load_audio(
    source: AudioSource,
    sampling_rate: Rate | None = None,
    target_rate: Rate = 16_000,
    *,
    access: Access = DEFAULT_ACCESS,
) -> Float32[np.ndarray, "samples"]:
    """Decodes audio, averages its channels, and resamples it once.

    Args:
        source: a path, http(s) URL, base64 data URI, encoded bytes or a binary stream; or an array [samples],
            [channels, samples] or [samples, channels] of NumPy, or through `__array__`, DLPack or the buffer protocol,
            or a list of numbers: the shorter side is the channels, the first where both are equal. Floats are taken as
            they are, full scale being 1; integers (int8, int16, int32, uint8) are scaled by value.
        sampling_rate: samples a second of an array, which needs it; anything encoded carries its own.
        target_rate: samples a second of the result.
        access: limits, source policy and deadline.

    Returns:
        The waveform, full scale being 1.

    Raises:
        InputError: `audio_unknown_format`, `audio_needs_video_extra`, `audio_no_track`, `audio_unknown_codec`,
            `audio_corrupt`, `audio_truncated`, `audio_empty`, `audio_shape`, `audio_dtype`, `audio_not_finite`,
            `audio_range`, `audio_rate`, `audio_too_long`, `audio_expansion`, or the codes of `open_source`.
    """
    target_rate = checked_rate(target_rate)
    if not is_source(source) or is_samples(source):
        samples, rate = _array(source, sampling_rate)
        check_length(-(-len(samples) * target_rate // rate), target_rate, None, access.limits)
        return joined(resample(samples.blocks(access), rate, target_rate))
    with open_source(source, access) as stream:
        encoded = stream.seek(0, 2)

        def blocks() -> Iterator[Float32[np.ndarray, "_"]]:
            decoded = _decode(stream, describe(source), target_rate, access, encoded)
            return bounded(decoded, target_rate, encoded, access.limits)

        most = max(_WARY_BYTES, _WARY_EXPANSION * encoded) // np.dtype(np.float32).itemsize
        waveform = joined(blocks(), most)
        if waveform is None:
            # A bomb, or hours of silence: counted before any of it is kept.
            for _ in blocks():
                pass
            waveform = joined(blocks())
    return waveform


def audio_blocks(
    source: AudioSource,
    sampling_rate: Rate | None = None,
    target_rate: Rate = 16_000,
    access: Access = DEFAULT_ACCESS,
) -> Iterator[Float32[np.ndarray, "_"]]:
    """As `load_audio`, block by block: hours need no more memory than seconds, so that no limit on length applies."""
    target_rate = checked_rate(target_rate)
    if not is_source(source) or is_samples(source):
        samples, rate = _array(source, sampling_rate)
        yield from resample(samples.blocks(access), rate, target_rate)
        return
    with open_source(source, access) as stream:
        yield from _decode(stream, describe(source), target_rate, access, None)


def _array(source: Any, sampling_rate: Rate | None) -> tuple[MonoBlocks, int]:
    samples = mono_blocks(source)
    if sampling_rate is None:
        raise InputError("audio_rate", "an array of samples needs its sampling rate")
    return samples, checked_rate(sampling_rate)


def _decode(
    stream: BufferedIOBase, name: str, target_rate: int, access: Access, encoded: int | None
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Blocks at the target rate; where the size of the file is passed, promises over the limits are refused at once."""
    # Counting the frames of hours takes seconds.
    checked = CheckedStream(stream, 0, access)
    start = audio_start(checked)
    segments = _segments(checked, name, start)
    try:
        first = Segment(stream, segments[0], name)
    except LookupError:
        yield from _through_ffmpeg(stream, name, start, target_rate, access)
        return
    if len(segments) > _MOST_SEGMENTS:
        raise corrupt(name, f"more than {_MOST_SEGMENTS:,} pieces are laid end to end")
    promised = 0

    def stretches() -> Iterator[tuple[int, np.ndarray]]:
        nonlocal promised
        for number, one in enumerate(segments):
            try:
                segment = Segment(stream, one, name) if number else first
            except LookupError:
                raise corrupt(name, "a piece laid behind the first cannot be read") from None
            checked_rate(segment.rate)
            if encoded is not None and segment.samples is not None:
                promised += -(-segment.samples * target_rate // segment.rate)
                check_length(promised, target_rate, encoded, access.limits)
            for block in segment.blocks(access):
                yield segment.rate, block

    empty = True
    for rate, group in groupby(stretches(), lambda stretch: stretch[0]):
        empty = False
        yield from resample((block for _, block in group), rate, target_rate)
    if empty:
        raise InputError("audio_empty", f"{name} holds no samples")


def _segments(stream: BufferedIOBase, name: str, start: int) -> list[AudioSegment]:
    """What libsndfile is to read, one stretch after another; the whole where it is of another kind."""
    stream.seek(start)
    head = stream.read(64)
    if is_wave(head):
        return wave_segments(stream, name, start)
    if head[:4] == b"fLaC":
        return flac_segments(stream, name, start)
    whole = [AudioSegment([(start, stream.seek(0, 2))])]
    if head[:4] == b"OggS":
        return ogg_segments(stream, name, start) or whole
    check_legacy(stream, name, start)
    return iff_segments(stream, name, start) or mpeg_segments(stream, name, start) or whole


def _through_ffmpeg(
    stream: BufferedIOBase, name: str, start: int, target_rate: int, access: Access
) -> Iterator[Float32[np.ndarray, "_"]]:
    from processors.decode.audio.track import audio_track_blocks

    stream.seek(0)
    blocks = audio_track_blocks(stream, name, target_rate, access=access)
    try:
        block = next(blocks)
    except StopIteration:
        raise InputError("audio_empty", f"{name} holds no samples") from None
    except InputError as error:
        # MPEG audio behind something that is none.
        unknown = error.code in {"audio_unknown_format", "audio_needs_video_extra"}
        segments = mpeg_segments(stream, name, start, _SEARCHED) if unknown else None
        if segments is None:
            raise
    else:
        yield block
        yield from blocks
        return
    for one in segments:
        try:
            segment = Segment(stream, one, name)
        except LookupError:
            raise corrupt(name) from None
        yield from resample(segment.blocks(access), segment.rate, target_rate)
