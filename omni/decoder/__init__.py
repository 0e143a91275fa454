"""The Qwen3 text decoder in Flax NNX."""

from omni.decoder.cache import HybridCache
from omni.decoder.config import TextConfig
from omni.decoder.model import TextDecoder

__all__ = ["HybridCache", "TextConfig", "TextDecoder"]
