"""The Qwen3 text decoder in Flax NNX."""

from omni.decoder.cache import KVCache
from omni.decoder.config import TextConfig
from omni.decoder.model import TextDecoder

__all__ = ["KVCache", "TextConfig", "TextDecoder"]
