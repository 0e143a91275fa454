"""The waveform over the log-mel spectrogram, in seconds and hertz, with the borders of chunks and windows."""

from typing import Any, Literal, Protocol, runtime_checkable

import librosa
import numpy as np
from jaxtyping import Float
from librosa import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from processors.config import AudioConfig
from processors.drawing.picture import Picture
from processors.mel import MAX_FREQUENCY

# No screen is wider, and no more lines can be told apart.
_MOST_COLUMNS, _MOST_LINES = 2000, 100
WAVE, CHUNK, WINDOW = "#56b4e9", "#bbbbbb", "#ffffff"


@runtime_checkable
class Spectrogram(Protocol):
    """What audio features hold, and all that drawing them needs."""

    @property
    def mel(self) -> Float[np.ndarray, "bands frames"]: ...
    @property
    def config(self) -> Any: ...


def audio_picture(
    features: Spectrogram,
    name: str,
    waveform: Float[np.ndarray, "samples"] | None = None,
    chunk_frames: int | None = None,
    window_frames: int | None = None,
    tokens: int | None = None,
) -> Picture:
    """A picture of audio as the encoder receives it.

    Args:
        features: its spectrogram.
        name: of the audio.
        waveform: mono, at the rate of the features' settings; drawn above the spectrogram.
        chunk_frames: mel frames that are convolved together.
        window_frames: mel frames that attend to one another.
        tokens: how many it becomes.
    """
    config = features.config
    bands, frames = features.mel.shape
    seconds = frames * config.hop_length / config.sampling_rate
    caption = f"{name}: {seconds:.2f} s, {frames} mel frames of {bands} bands"
    caption += f", {tokens} tokens" if tokens is not None else ""
    return Picture(
        f"{name} spectrogram",
        caption,
        lambda: draw_audio(features.mel, config, waveform, chunk_frames, window_frames),
    )


def draw_audio(
    mel: Float[np.ndarray, "bands frames"],
    config: AudioConfig,
    waveform: Float[np.ndarray, "samples"] | None = None,
    chunk_frames: int | None = None,
    window_frames: int | None = None,
) -> Figure:
    """Draw audio; arguments as `audio_picture`."""
    frame_seconds = config.hop_length / config.sampling_rate
    seconds = mel.shape[1] * frame_seconds
    figure = Figure(figsize=(10, 3.6 if waveform is None else 4.8), layout="constrained")
    if waveform is None:
        every, below = [], figure.add_subplot()
    else:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
        draw_waveform(above, waveform, config.sampling_rate)
        above.tick_params(labelbottom=False)
        every = [above]
    mesh = _draw_mel(below, mel, config)
    lines = []
    marks: tuple[tuple[int | None, str, Literal[":", "-"], str], ...] = (
        (chunk_frames, CHUNK, ":", "chunk"),
        (window_frames, WINDOW, "-", "window"),
    )
    for step, colour, style, label in marks:
        borders = np.arange(step, mel.shape[1], step) * frame_seconds if step else np.empty(0)
        if step and 0 < len(borders) <= _MOST_LINES:
            about = f"{label} border, every {step * frame_seconds:g} s"
            lines.append(
                below.vlines(
                    borders, 0, 1, colour, linestyles=style, label=about, transform=below.get_xaxis_transform()
                )
            )
            # Thinner where there are many: the spectrogram is what is to be seen.
            lines[-1].set_linewidth(min(0.8 if label == "chunk" else 1.6, 40 / len(borders)))
    below.set_xlim(0, seconds)
    figure.colorbar(mesh, ax=[*every, below], label="log mel, normalised", pad=0.01, aspect=40)
    if lines:
        # On the colours of the spectrogram, where the lines are white.
        figure.legend(handles=lines, loc="outside lower right", ncols=2, facecolor="#666666", labelcolor="white")
    return figure


def draw_waveform(axes: Axes, waveform: Float[np.ndarray, "samples"], rate: int) -> None:
    """Draw a waveform, its axis from 0 to its length in seconds."""
    display.waveshow(np.asarray(waveform, np.float32), sr=rate, axis="s", ax=axes, color=WAVE, linewidth=0.5)
    axes.set_xlim(0, max(len(waveform), 1) / rate)
    # Silence is a line in the middle, not an axis of all there is between -1e-9 and 1e-9.
    highest = max(float(np.abs(waveform).max(initial=0)), 1e-3) * 1.05
    axes.set_ylim(-highest, highest)
    axes.set_ylabel("amplitude")
    axes.set_xlabel("")


def _draw_mel(axes: Axes, mel: Float[np.ndarray, "bands frames"], config: AudioConfig):
    bands, frames = mel.shape
    # Neighbours share a column where there are more of them than a screen shows.
    together = -(-frames // _MOST_COLUMNS)
    starts = np.arange(0, frames, together)
    columns = np.add.reduceat(mel, starts, axis=1) / np.diff([*starts, frames])
    edges = np.append(starts, frames) * config.hop_length / config.sampling_rate
    # Of a band's filter, the middles of its two slopes: where the next band is as loud.
    hertz = librosa.mel_frequencies(2 * bands + 3, fmin=0, fmax=MAX_FREQUENCY)[1::2]
    mesh = display.specshow(columns, x_coords=edges, y_coords=hertz, x_axis="s", y_axis="mel", ax=axes, cmap="viridis")
    axes.set_ylim(0, MAX_FREQUENCY)
    axes.set_yticks([0, 500, 1000, 2000, 4000, MAX_FREQUENCY])
    axes.set_xlabel("seconds")
    axes.set_ylabel("hertz")
    return mesh
