"""Contact sheets of videos: the frames really sampled, when each is shown, and the audio beneath."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image

from processors.drawing.patches import Patches, frames_of
from processors.drawing.picture import Picture
from processors.drawing.spectrogram import draw_waveform
from processors.waveform import AUDIO_RATE

_MOST_FRAMES = 48
# In inches: the sheet, the widest frame on it, and the time above a frame.
_WIDTH, _WIDEST, _TIME = 12.0, 2.4, 0.22
# Between the frames of two steps, and of one, in widths of a frame.
_GAP, _SEAM = 0.12, 0.015


@runtime_checkable
class TimedPatches(Patches, Protocol):
    """What video features hold."""

    @property
    def seconds_per_grid(self) -> float: ...
    @property
    def timestamps(self) -> Float[np.ndarray, "frames"]: ...
    @property
    def audio(self) -> Float[np.ndarray, "samples"] | None: ...


def contact_sheet(features: TimedPatches, name: str, audio_tokens: int | None = None) -> Picture:
    """A picture of a video as the encoder receives it: frames side by side that share a step of time.

    Args:
        features: what the processor made.
        name: of the video.
        audio_tokens: how many its audio becomes.
    """
    t, h, w = features.grid_thw[0].tolist()
    size, merge = features.config.patch_size, features.config.merge_size
    count, shown = len(features.timestamps), shown_frames(features)
    first, last = features.timestamps[[0, -1]].tolist()
    caption = (
        f"{name}: {count} frames from {first:.2f} to {last:.2f} s, resized to {w * size} x {h * size} pixels, "
        f"in {t} step{'s' * (t > 1)}, {t * h * w // merge**2} tokens"
    )
    if features.audio is not None:
        caption += f"; audio from 0.00 to {len(features.audio) / AUDIO_RATE:.2f} s"
        caption += f", {audio_tokens} tokens" if audio_tokens is not None else ""
    if len(shown) < count:
        caption += f"; {len(shown)} of the frames are shown"
    return Picture(f"{name} frames", caption, lambda: draw_contact_sheet(features))


def shown_frames(features: TimedPatches) -> list[int]:
    """Which of the sampled frames a contact sheet shows: those of whole steps, spread evenly over the video."""
    depth, steps = features.config.temporal_patch_size, int(features.grid_thw[0, 0])
    most = max(_MOST_FRAMES // depth, 1)
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, most)).round().astype(int)).tolist()
    count = len(features.timestamps)
    return [frame for step in chosen for frame in range(step * depth, min((step + 1) * depth, count))]


def draw_contact_sheet(features: TimedPatches) -> Figure:
    """Draw frames with the seconds at which they are shown, and the audio on the same clock."""
    depth, shown = features.config.temporal_patch_size, shown_frames(features)
    _, h, w = features.grid_thw[0].tolist()
    tall = h / w
    columns = _columns(len(shown), depth, tall)
    inches = min(_WIDTH / (columns * (1 + _GAP / depth)), _WIDEST)
    rows = -(-len(shown) // columns)
    pitch = tall + _TIME / inches
    strip = 0.9 if features.audio is None else 1.5
    size = max(columns * (1 + _GAP / depth) * inches, 6.0) + 0.4, rows * pitch * inches + strip + 0.8
    figure = Figure(figsize=size, layout="constrained")
    sheet, clock = figure.subplots(2, 1, height_ratios=(rows * pitch * inches, strip))
    sheet.set_axis_off()
    letters = min(8.0, inches * 72 / 4.5)
    for place, frame in enumerate(shown):
        row, column = divmod(place, columns)
        x, y = column + column // depth * _GAP, row * pitch + _TIME / inches
        pixels = _thumbnail(frames_of(features, frame // depth)[frame % depth], inches)
        sheet.imshow(pixels, extent=(x + _SEAM, x + 1, y + tall, y))
        sheet.text(x + 0.5, y - 0.03 / inches, _time(features, frame), fontsize=letters, ha="center", va="bottom")
    sheet.set_xlim(0, columns + (columns - 1) // depth * _GAP)
    sheet.set_ylim(rows * pitch, 0)
    sheet.set_anchor("NW")
    times = features.timestamps
    end = float(times[-1]) + features.seconds_per_grid / depth
    if features.audio is None:
        clock.set_yticks([])
        clock.spines["left"].set_visible(False)
    else:
        draw_waveform(clock, features.audio, AUDIO_RATE)
        end = max(end, len(features.audio) / AUDIO_RATE)
    clock.vlines(times, 0, 1, "#d55e00", linewidth=1, transform=clock.get_xaxis_transform(), label="sampled frame")
    clock.set_xlim(0, end)
    clock.set_xlabel("seconds; a line for each sampled frame")
    return figure


def _columns(frames: int, depth: int, tall: float) -> int:
    """A whole number of steps a row, such that the sheet is about half as high as wide."""
    columns = max(5.0, np.sqrt(frames * tall * 1.8))
    return min(max(round(columns / depth), 1), -(-frames // depth)) * depth


def _time(features: TimedPatches, frame: int) -> str:
    """The seconds of a frame, as exact as its neighbours ask for."""
    times = features.timestamps
    close = len(times) > 1 and float(np.diff(times).min()) < 0.01
    return f"{times[frame]:.{3 if close else 2}f} s"


def _thumbnail(frame: UInt8[np.ndarray, "height width 3"], inches: float) -> UInt8[np.ndarray, "h w 3"]:
    picture = Image.fromarray(frame)
    most = int(inches * 150)
    picture.thumbnail((most, most * 4), Image.Resampling.BOX)
    return np.asarray(picture)
