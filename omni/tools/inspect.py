"""Draws what the model sees of each medium, of a conversation about them, and how alike they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from encoders.buckets import audio_token_count
from omni.errors import InputError
from omni.media.encoder import Features, Medium, as_medium
from omni.media.types import Audio, Video
from omni.model import Model
from omni.tools.drawing.layout import layout_picture
from omni.tools.drawing.similarity import similarity_picture
from processors import load_audio
from processors.audio import AudioFeatures
from processors.drawing.contact_sheet import contact_sheet
from processors.drawing.patches import patch_pictures
from processors.drawing.picture import Picture, shortened
from processors.drawing.spectrogram import audio_picture
from processors.image import ImageFeatures
from processors.io.sources import describe
from processors.video import VideoFeatures


def inspect(
    model: Model, media: Sequence[Any], question: str = "What is this?", audio: bool = False
) -> Iterator[tuple[str, Picture]]:
    """Pictures of every medium as the towers receive it, of the tokens of a question about them, of their likeness.

    Args:
        model: a loaded model.
        media: anything `Model.encode` takes.
        question: text of the message that the token layout shows.
        audio: whether to read the audio of videos as well; of an `omni.Video`, its own setting holds.

    Yields:
        A title and a picture: patches of an image, the spectrogram of audio, frames and patches of a video and the
        spectrogram of its audio; the tokens, for a model that reads text; similarity, for two media or more.
    """
    embeddings, names = [], []
    for i, source in enumerate(media):
        medium = as_medium(source)
        if audio and isinstance(medium, Video) and medium is not source:
            medium = Video(medium.source, audio=True)
        name = shortened(name_of(getattr(medium, "source", None)) or f"medium {i + 1}")
        features, waveform = _read(model, medium)
        for picture in _pictures(model, features, waveform, name):
            yield picture.title, picture
        embeddings += model.media.encode([features])
        names.append(name)
    if model.config.text is not None and model.tokenizer is not None:
        content: list[dict[str, Any]] = [{"type": one.kind, one.kind: one} for one in embeddings]
        inputs = model.prepare([{"role": "user", "content": [*content, {"type": "text", "text": question}]}])
        yield "tokens", layout_picture(inputs)
    if len(embeddings) > 1:
        yield "similarity", similarity_picture(embeddings, names)


def name_of(source: Any) -> str | None:
    """The last part of a path or an address."""
    if not isinstance(source, str | Path) or str(source)[:5].lower() == "data:":
        return None
    return Path(urlsplit(source).path if isinstance(source, str) and "://" in source else source).name


def _read(model: Model, medium: Medium) -> tuple[Features, np.ndarray | None]:
    """What the towers receive, and of audio the waveform that it was made from."""
    waveform = None
    if isinstance(medium, Audio):
        rate = model.media.audio.config.sampling_rate
        try:
            waveform = load_audio(medium.source, medium.sampling_rate, rate, access=model.access())
        except InputError:
            raise
        except Exception as error:
            message = f"{describe(medium.source)} could not be read: its decoder failed with {type(error).__name__}"
            raise InputError("media_failed", message) from error
        medium = Audio(waveform, rate)
    return model.media.read(medium), waveform


def _pictures(model: Model, features: Features, waveform: np.ndarray | None, name: str) -> Iterator[Picture]:
    if isinstance(features, ImageFeatures):
        yield from patch_pictures(features, name)
    spectrogram = features if isinstance(features, AudioFeatures) else None
    tokens = None
    if isinstance(features, VideoFeatures) and features.audio is not None:
        waveform, spectrogram = features.audio, model.media.audio(features.audio)
    config = model.config.audio
    if spectrogram is not None and config is not None:
        tokens = audio_token_count(spectrogram.mel.shape[1], config)
    if isinstance(features, VideoFeatures):
        yield contact_sheet(features, name, tokens)
        yield from patch_pictures(features, name)
    if spectrogram is not None and config is not None:
        yield audio_picture(spectrogram, name, waveform, config.chunk_frames, config.n_window_infer, tokens)
