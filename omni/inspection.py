"""Draws what the model sees of each medium, and of a conversation about them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PilImage

from omni.drawing import draw_layout, draw_mel, draw_patches
from omni.encoding import as_medium
from omni.inputs import Inputs
from omni.model import Model
from processors.audio import AudioFeatures
from processors.image import ImageFeatures
from processors.video import VideoFeatures

_MOST_FRAMES = 6


def inspect(
    model: Model, media: Sequence[Any], question: str = "What is this?"
) -> Iterator[tuple[str, PilImage.Image]]:
    """Pictures of every medium as the towers receive it, then of the token layout of a question about them.

    Args:
        model: a loaded model.
        media: anything `Model.encode` takes.
        question: text of the message that the token layout shows.

    Yields:
        A title and a picture.
    """
    wrapped = [as_medium(medium) for medium in media]
    content: list[dict[str, Any]] = []
    for i, medium in enumerate(wrapped):
        features = model.media.read(medium)
        name = _name(getattr(medium, "source", None)) or f"medium {i + 1}"
        yield from _draw(model, features, name)
        embedding = model.media.encode([features])[0]
        content.append({"type": embedding.kind, embedding.kind: embedding})
    if model.config.text is not None and model.tokenizer is not None:
        inputs = model.prepare([{"role": "user", "content": [*content, {"type": "text", "text": question}]}])
        yield "tokens", draw_layout(token_kinds(inputs), f"{len(inputs.token_ids)} tokens")


def token_kinds(inputs: Inputs) -> list[str]:
    """What each token carries: `text`, `image`, `audio` or `video`."""
    kinds = np.full(len(inputs.token_ids), "text", dtype=object)
    for span in inputs.spans:
        kinds[span.indices] = span.kind
    return kinds.tolist()


def frames_of(features: ImageFeatures | VideoFeatures, patch: int, merge: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """The resized frames, put together again from their patches."""
    frames, start = [], 0
    for t, h, w in features.grid_thw.tolist():
        pixels = features.pixels[start : start + t * h * w]
        start += t * h * w
        depth = pixels.shape[1] // (3 * patch * patch)
        blocks = pixels.reshape(t, h // merge, w // merge, merge, merge, 3, depth, patch, patch)
        frames += list(blocks.transpose(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(t * depth, h * patch, w * patch, 3))
    return frames


def _name(source: Any) -> str | None:
    """The last part of a path or an address."""
    if not isinstance(source, str | Path) or str(source)[:5].lower() == "data:":
        return None
    return Path(urlsplit(source).path if isinstance(source, str) and "://" in source else source).name


def _draw(model: Model, features: Any, name: str) -> Iterator[tuple[str, PilImage.Image]]:
    if isinstance(features, ImageFeatures | VideoFeatures):
        config = model.media.image.config if isinstance(features, ImageFeatures) else model.media.video.config
        frames = frames_of(features, config.patch_size, config.merge_size)
        t, h, w = features.grid_thw[0].tolist()
        tokens = t * h * w // config.merge_size**2
        shown = frames[:: max(1, -(-len(frames) // _MOST_FRAMES))]
        height, width = frames[0].shape[:2]
        caption = f"{name}: {len(frames)} x {width} x {height}, grid {t} x {h} x {w}, {tokens} tokens"
        yield f"{name} patches", draw_patches(shown, config.patch_size, config.merge_size, caption)
    track = features.audio if isinstance(features, VideoFeatures) else None
    heard = features if isinstance(features, AudioFeatures) else None if track is None else model.media.audio(track)
    if heard is not None and model.config.audio is not None:
        config = model.media.audio.config
        seconds = config.hop_length / config.sampling_rate
        frames = heard.mel.shape[1]
        caption = f"{name}: {frames * seconds:.2f} s, {frames} mel frames of {heard.mel.shape[0]} bins"
        yield f"{name} mel", draw_mel(heard.mel, seconds, model.config.audio.n_window_infer, caption)
