"""One entry a family: which configuration it reads, and where each parameter lies in its files.

Nothing outside this package branches on a model's name. A family names its tensors once, in the form the parameter tree
has; `checkpoint.py` does the reading.
"""

import difflib

from omni.errors import CheckpointError
from omni.families.family import Family, Source
from omni.families.qwen3 import QWEN3
from omni.families.qwen3_omni import QWEN3_OMNI
from omni.families.qwen3_vl import QWEN3_VL

__all__ = ["FAMILIES", "QWEN3", "QWEN3_OMNI", "QWEN3_VL", "Family", "Source", "family_of"]

FAMILIES = (QWEN3_OMNI, QWEN3_VL, QWEN3)


def family_of(model_type: str | None) -> Family:
    """The family that a `model_type` belongs to.

    Raises:
        CheckpointError: none does; the message names the nearest that does.
    """
    known = {name: family for family in FAMILIES for name in family.model_types}
    if model_type in known:
        return known[model_type]
    if not model_type:
        raise CheckpointError("config.json has no model_type; supported are " + ", ".join(known))
    nearest = difflib.get_close_matches(model_type, known, n=1, cutoff=0.0)
    raise CheckpointError(f"model_type {model_type!r} is not supported; the nearest supported one is {nearest[0]!r}")
