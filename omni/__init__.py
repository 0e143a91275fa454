"""Images, video and audio to embeddings and chat with Qwen3-Omni, in JAX, without torch.

model = omni.load("demo")
model.encode("cat.jpg").pooled()
model.chat().send("What is in this picture?", "cat.jpg").text
"""

import importlib
from typing import TYPE_CHECKING, Any

from omni._guard import check as _check_for_shadows

_check_for_shadows()

from omni.errors import CheckpointError, InputError
from omni.media import Audio, Image, Video
from processors import Access, Limits, Sources

if TYPE_CHECKING:
    from omni.chat import Chat
    from omni.embedding import Embedding
    from omni.inputs import Inputs
    from omni.loading import load
    from omni.model import Model
    from omni.reply import Reply
    from omni.transcription import Piece, Transcript

__version__ = "0.1.0"
__all__ = [
    "Access",
    "Audio",
    "Chat",
    "CheckpointError",
    "Embedding",
    "Image",
    "InputError",
    "Inputs",
    "Limits",
    "Model",
    "Piece",
    "Reply",
    "Sources",
    "Transcript",
    "Video",
    "load",
]

# JAX takes most of a second to import: it is loaded when a name that needs it is first used.
_LAZY = {
    "Chat": "omni.chat",
    "Embedding": "omni.embedding",
    "Inputs": "omni.inputs",
    "Model": "omni.model",
    "Piece": "omni.transcription",
    "Reply": "omni.reply",
    "Transcript": "omni.transcription",
    "load": "omni.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
