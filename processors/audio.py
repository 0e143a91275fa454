"""Audio to log-mel spectrograms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float32

from processors.config import AudioConfig
from processors.decode.audio.decoder import AudioSource, Rate, load_audio
from processors.errors import InputError
from processors.io.access import DEFAULT_ACCESS, Access
from processors.mel import log_mel
from processors.notebook import shown


@dataclass(frozen=True)
class AudioFeatures:
    """The log-mel spectrogram of audio.

    Attributes:
        mel: `feature_size` bands by `samples // hop_length` frames.
        config: the settings that it was made with.
    """

    mel: Float32[np.ndarray, "bands frames"]
    config: AudioConfig = field(default_factory=AudioConfig)

    @shown
    def _repr_png_(self) -> bytes:
        from processors.drawing.spectrogram import audio_picture

        return audio_picture(self, "audio").png()


class AudioProcessor:
    """Turns audio of any length into log-mel spectrograms, each as if it were alone.

    Args:
        config: sampling rate and geometry of the spectrogram.
        access: limits and source policy of every call that brings none of its own.
    """

    def __init__(self, config: AudioConfig | None = None, *, access: Access = DEFAULT_ACCESS):
        self.config: AudioConfig = config or AudioConfig()
        self.access: Access = access

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, access: Access = DEFAULT_ACCESS) -> "AudioProcessor":
        """Read the settings that lie beside a checkpoint; errors as `AudioConfig.from_pretrained`.

        Args:
            directory: the checkpoint's.
            access: limits and source policy of calls that bring none of their own.
        """
        return cls(AudioConfig.from_pretrained(directory), access=access)

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self, waveforms: list[Any] | tuple[Any, ...], sampling_rate: Rate = 16_000, *, access: Access | None = None
    ) -> list[AudioFeatures]: ...

    @overload
    def __call__(
        self, waveforms: AudioSource, sampling_rate: Rate = 16_000, *, access: Access | None = None
    ) -> AudioFeatures: ...

    def __call__(
        self,
        waveforms: AudioSource | Sequence[AudioSource],
        sampling_rate: Rate = 16_000,
        *,
        access: Access | None = None,
    ) -> AudioFeatures | list[AudioFeatures]:
        """Processes audio, or a list of it into a list.

        Args:
            waveforms: whatever `load_audio` takes, or a list of such. A two-dimensional array is audio of several
                channels.
            sampling_rate: samples a second of the arrays; anything encoded carries its own.
            access: limits, source policy and deadline of this call.

        Raises:
            InputError: `audio_too_short`, or the codes of `load_audio`.
        """
        if not isinstance(waveforms, list | tuple):
            access = access or self.access
            waveform = load_audio(waveforms, sampling_rate, self.config.sampling_rate, access=access)
            return AudioFeatures(log_mel(waveform, self.config), self.config)
        if not waveforms:
            raise InputError("audio_missing", "the list of audio is empty")
        return [self(waveform, sampling_rate, access=access) for waveform in waveforms]
