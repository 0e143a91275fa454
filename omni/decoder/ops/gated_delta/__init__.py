"""The gated delta rule."""

from omni.decoder.ops.gated_delta.api import IMPLEMENTATIONS as IMPLEMENTATIONS
from omni.decoder.ops.gated_delta.api import gated_delta_rule as gated_delta_rule
