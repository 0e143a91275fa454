"""What is put before a model that makes embeddings: the recipe of Qwen3-VL-Embedding."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from omni.embedding import Embedding
from omni.encoding import as_medium
from omni.errors import InputError, shown
from omni.inputs import Inputs

INSTRUCTION = "Represent the user's input."
# What stands for a text without a character.
_NOTHING = "NULL"


def is_prompt(value: Any) -> bool:
    """Whether a value is one prompt: messages, token ids, or prepared inputs."""
    return isinstance(value, Inputs) or _is_messages(value) or _is_ids(value)


def as_conversation(item: Any, instruction: Any) -> Any:
    """An item as messages, its instruction the system message; token ids and prepared inputs as they are.

    Raises:
        InputError: `bad_instruction`, it is no string, or there is no place for it; or the codes of `as_medium`.
    """
    if instruction is not None and not isinstance(instruction, str):
        raise InputError("bad_instruction", f"the instruction must be a string, got {shown(instruction)}")
    if isinstance(item, Inputs) or _is_ids(item) or (_is_messages(item) and item[0]["role"] == "system"):
        if instruction is not None:
            raise InputError("bad_instruction", "what is given begins with its own instruction")
        return item
    opening = {"role": "system", "content": _punctuated(instruction or "") or INSTRUCTION}
    if _is_messages(item):
        return [opening, *item]
    if isinstance(item, str):
        return [opening, {"role": "user", "content": item or _NOTHING}]
    medium = as_medium(item)
    kind = medium.kind if isinstance(medium, Embedding) else type(medium).__name__.lower()
    return [opening, {"role": "user", "content": [{"type": kind, kind: medium}]}]


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) and "role" in v for v in value)
    )


def _is_ids(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], int | np.integer)


def _punctuated(instruction: str) -> str:
    """The instruction as a sentence: the model was trained on such as end with a mark."""
    text = instruction.strip()
    return text + "." if text and not unicodedata.category(text[-1]).startswith("P") else text
