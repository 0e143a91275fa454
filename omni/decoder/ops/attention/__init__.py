"""Attention over the slots of a cache."""

from omni.decoder.ops.attention.api import IMPLEMENTATIONS as IMPLEMENTATIONS
from omni.decoder.ops.attention.api import attend as attend
