"""Vectors of prompts: the recipe of Qwen3-VL-Embedding."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from omni.errors import InputError, check_batch_size, shown
from omni.media.embedding import Embedding
from omni.media.encoder import as_medium
from omni.media.types import is_samples
from omni.prompt.inputs import Inputs
from omni.prompt.messages import is_token_ids
from omni.runtime import Runtime
from processors import Access
from processors.io.access import DEFAULT_ACCESS
from processors.io.sources import describe, names_media

INSTRUCTION = "Represent the user's input."
NOTHING = "NULL"
"""What stands for a text without a character."""


def embed(
    model: Runtime, inputs: Any, instruction: Any, batch_size: Any, access: Access
) -> Float32[np.ndarray, "width"] | Float32[np.ndarray, "items width"]:
    """The last hidden state of one prompt or of many, of length 1; see `Model.embed`."""
    check_batch_size(batch_size)
    single = not isinstance(inputs, list | tuple) or _is_messages(inputs) or _is_ids(inputs) or is_samples(inputs)
    items = [inputs] if single else list(inputs)
    found = [np.zeros((0, model.engine.width), np.float32)]
    for start in range(0, len(items), batch_size):
        batch = [as_conversation(item, instruction, access) for item in items[start : start + batch_size]]
        ready = iter(model.prepare_all([one for one in batch if not isinstance(one, Inputs)], True, access))
        found.append(model.engine.hidden([(o if isinstance(o, Inputs) else next(ready)).to_prompt() for o in batch]))
    vectors = np.concatenate(found)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return vectors[0] if single else vectors


def as_conversation(item: Any, instruction: Any, access: Access = DEFAULT_ACCESS) -> Any:
    """An item as messages, its instruction the system message; token ids and prepared inputs as they are.

    Raises:
        InputError: `bad_instruction`, it is no string, or there is no place for it; `ambiguous_text`, a string names
            media; or the codes of `as_medium`.
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
        _check_text(item, access)
        return [opening, {"role": "user", "content": item or NOTHING}]
    medium = as_medium(item, access)
    kind = medium.kind if isinstance(medium, Embedding) else type(medium).__name__.lower()
    return [opening, {"role": "user", "content": [{"type": kind, kind: medium}]}]


def _check_text(text: str, access: Access) -> None:
    """Refuses a string that `encode` reads as media, and that would be embedded as text here."""
    kind = names_media(text, access)
    if kind is not None:
        remedy = "pathlib.Path(...)" if kind == "a file" else "omni.Image(...), omni.Audio(...) or omni.Video(...)"
        raise InputError(
            "ambiguous_text",
            f"{describe(text)} is {kind}, and embed takes strings for text: give {remedy} for what it holds, or "
            '[{"role": "user", "content": ...}] to embed the string itself',
        )


def _is_messages(value: Any) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) and "role" in v for v in value)
    )


def _is_ids(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return isinstance(value, list | tuple) and is_token_ids(value) and not is_samples(value)


def _punctuated(instruction: str) -> str:
    """The instruction as a sentence: the model was trained on such as end with a mark."""
    text = instruction.strip()
    return text + "." if text and not unicodedata.category(text[-1]).startswith("P") else text
