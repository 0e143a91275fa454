"""One entry a family: which configuration it reads, and where each parameter lies in its files.

Nothing outside this package branches on a model's name. A family names its tensors once, in the form the parameter tree
has; `checkpoint/load.py` does the reading.
"""

import difflib
import re
from functools import partial

from omni.errors import CheckpointError
from omni.families.family import Family, Source
from omni.families.qwen3 import QWEN3
from omni.families.qwen3_5 import QWEN3_5
from omni.families.qwen3_asr import QWEN3_ASR
from omni.families.qwen3_next import QWEN3_NEXT
from omni.families.qwen3_omni import QWEN3_OMNI
from omni.families.qwen3_vl import QWEN3_VL

__all__ = [
    "FAMILIES",
    "QWEN3",
    "QWEN3_5",
    "QWEN3_ASR",
    "QWEN3_NEXT",
    "QWEN3_OMNI",
    "QWEN3_VL",
    "Family",
    "Source",
    "family_of",
]

FAMILIES = (QWEN3_OMNI, QWEN3_VL, QWEN3_ASR, QWEN3, QWEN3_NEXT, QWEN3_5)


def family_of(model_type: str | None) -> Family:
    """The family that a `model_type` belongs to.

    Raises:
        CheckpointError: none does; the message names the nearest that are supported.
    """
    known = {name: family for family in FAMILIES for name in family.model_types}
    if model_type in known:
        return known[model_type]
    if not model_type:
        message = "config.json has no model_type; supported are " + ", ".join(known)
        raise CheckpointError(message, code="unsupported_family")
    first, second = sorted(known, key=partial(_likeness, model_type[:60]), reverse=True)[:2]
    message = f"model_type {model_type[:60]!r} is not supported; the nearest supported ones are {first} and {second}"
    raise CheckpointError(message, code="unsupported_family")


def _likeness(wanted: str, known: str) -> tuple[int, float]:
    """How many words two names share, such as `omni`; and how far their spelling agrees."""
    words, others = (set(re.findall("[a-z]{2,}", name)) for name in (wanted, known))
    return len(words & others), difflib.SequenceMatcher(None, wanted, known).ratio()
