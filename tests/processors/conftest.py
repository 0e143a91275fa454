"""Fixtures of the processors' tests: golden arrays, and media written on the fly."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.golden import processors_inputs

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden():
    """Loads an archive of golden arrays by its name."""
    archives = {}

    def load(name):
        if name not in archives:
            archives[name] = dict(np.load(GOLDEN / "data" / "processors" / f"{name}.npz"))
        return archives[name]

    return load


@pytest.fixture(scope="session")
def inputs():
    """The module that makes the inputs of the golden arrays."""
    return processors_inputs


def numbered_frame(number, width, height):
    """A frame whose upper half spells its number in ten bright or dark bars, over a red and a blue quarter."""
    frame = np.full((height, width, 3), 40, np.uint8)
    bar = width // 10
    for bit in range(10):
        if number >> bit & 1:
            frame[: height // 2, bit * bar : (bit + 1) * bar] = 220
    frame[height // 2 :, : width // 2] = (200, 30, 30)
    frame[height // 2 :, width // 2 :] = (30, 30, 200)
    return frame


def read_number(frame):
    height, width, _ = frame.shape
    bars = ((np.arange(10) + 0.5) * (width // 10)).astype(int)
    return sum(1 << bit for bit, x in enumerate(bars) if frame[height // 4, x].mean() > 130)


def write_video(
    times, container="mp4", codec="libx264", *, width=160, height=96, gop=12, sound=None, sound_at=0.0, video_at=0.0,
    sound_codec="aac", sound_rate=44_100, options=None,
):  # fmt: skip
    """Encodes numbered frames at the given times, and a sound beside them; gives the bytes of the file."""
    av = pytest.importorskip("av")
    unit = Fraction(1, 30) if container in {"avi", "mpeg", "h264"} else Fraction(1, 90_000)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as file:
        track = file.add_stream(codec, rate=30)
        track.width, track.height, track.pix_fmt, track.time_base = width, height, "yuv420p", unit
        track.codec_context.time_base, track.codec_context.gop_size = unit, gop
        packets = []
        if sound is not None:
            voice = file.add_stream(sound_codec, rate=sound_rate, layout="mono")
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, width, height), format="rgb24")
            frame.pts, frame.time_base = round((time + video_at) / unit), unit
            packets += track.encode(frame)
        packets += track.encode(None)
        for start in range(0, 0 if sound is None else len(sound), 1024):
            piece = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.time_base = sound_rate, Fraction(1, sound_rate)
            piece.pts = start + round(sound_at * sound_rate)
            packets += voice.encode(piece)
        if sound is not None:
            packets += voice.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    return buffer.getvalue()


_TICK = Fraction(1, 1000)
_ENCODERS = {
    "libx264": {"crf": "4", "preset": "ultrafast"},
    "libvpx": {"crf": "4", "b:v": "4M", "deadline": "realtime", "cpu-used": "8"},
}


def write_clip(
    levels, container="mp4", codec="libx264", *, times=None, rate=25, offset=0.0, size=(64, 64), pix_fmt="yuv420p",
    audio=None, audio_codec="aac", muxer=None, options=None,
):  # fmt: skip
    """A video of plain grey frames, or of arrays; times in seconds for an uneven rate, audio at 48 kHz beside it."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=muxer or {}) as file:
        track = file.add_stream(codec, rate=rate, options=options or _ENCODERS.get(codec, {}))
        track.width, track.height, track.pix_fmt = *size, pix_fmt
        fixed = container in {"avi", "mpeg", "ivf", "obu", "asf"} or codec.startswith("mpeg")
        unit = Fraction(1, rate) if fixed else _TICK
        if not fixed:
            track.codec_context.time_base = track.time_base = unit
        voice = None
        if audio is not None:
            voice = file.add_stream(audio_codec, rate=48_000, layout="mono")
        packets = []
        for number, level in enumerate(levels):
            picture = np.full((size[1], size[0], 3), level, np.uint8) if np.ndim(level) == 0 else level
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            frame.time_base = unit
            frame.pts = round((offset + (number / rate if times is None else times[number])) / unit)
            packets += track.encode(frame)
        packets += track.encode(None)
        for start in range(0, 0 if audio is None else len(audio), 1024):
            piece = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.time_base = 48_000, Fraction(1, 48_000)
            piece.pts = start + round(offset * 48_000)
            packets += voice.encode(piece)
        if voice is not None:
            packets += voice.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            file.mux(packet)
    return buffer.getvalue()


def rotate_mp4(data, matrix):
    """Writes a 2 x 2 display matrix into the header of the video track."""
    a, b, c, d = (value << 16 for value in matrix)
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16
    return data[:start] + np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes() + data[start + 36 :]


@pytest.fixture(scope="session")
def video_file():
    return write_video


@pytest.fixture(scope="session")
def frame_numbers():
    return lambda frames: [read_number(np.asarray(frame)) for frame in frames]


@pytest.fixture(scope="session")
def turned():
    return rotate_mp4


@pytest.fixture(scope="session")
def clip():
    return write_clip
