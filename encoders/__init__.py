"""Pixels and mel frames to embeddings: the Qwen3-Omni encoders and projectors in Flax NNX."""

from encoders._moved import install as _install_old_names
from encoders.audio import AudioEncoder
from encoders.config import AudioConfig, VisionConfig
from encoders.nn.compile import cache_programs
from encoders.projectors import AudioProjector, PatchMerger, VisionProjector, VisionTokens
from encoders.runner import AudioEmbedder, VisionEmbedder, VisionEmbedding
from encoders.towers import AudioTower, VisionTower
from encoders.vision import VisionEncoder, VisionHidden

_install_old_names()

# omni refuses to start when another package of this name stands in our place (omni/_guard.py).
__omni__ = "omni-jax"

__all__ = [
    "AudioConfig",
    "AudioEmbedder",
    "AudioEncoder",
    "AudioProjector",
    "AudioTower",
    "PatchMerger",
    "VisionConfig",
    "VisionEmbedder",
    "VisionEmbedding",
    "VisionEncoder",
    "VisionHidden",
    "VisionProjector",
    "VisionTokens",
    "VisionTower",
    "cache_programs",
]
