"""How tokens visit experts."""

from omni.decoder.ops.experts.api import IMPLEMENTATIONS as IMPLEMENTATIONS
from omni.decoder.ops.experts.api import visit as visit
