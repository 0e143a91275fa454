"""Attention within rows."""

from encoders.ops.attention.api import IMPLEMENTATIONS as IMPLEMENTATIONS
from encoders.ops.attention.api import attend as attend
