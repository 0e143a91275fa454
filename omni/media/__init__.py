"""Media and their embeddings: what users wrap them in, and what the towers make of them."""

from omni.media.types import Audio, Image, Video

__all__ = ["Audio", "Image", "Video"]
