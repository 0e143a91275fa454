"""Images, video and audio to embeddings and chat with Qwen3-Omni, in JAX, without torch.

model = omni.load("demo")
model.encode("cat.jpg").pooled()
model.chat().send("What is in this picture?", "cat.jpg").text
"""

import importlib
from typing import TYPE_CHECKING, Any

from omni._guard import check as _check_for_shadows

_check_for_shadows()

from omni._moved import install as _install_old_names
from omni.errors import CheckpointError, InputError
from omni.media.types import Audio, Image, Video
from processors import Access, Limits, Sources

if TYPE_CHECKING:
    from omni.bulk.encode_files import encode_files
    from omni.bulk.search import search
    from omni.chat import Chat
    from omni.generation.boxes import Box, Point
    from omni.generation.reply import Reply
    from omni.loading import load
    from omni.media.embedding import Embedding
    from omni.media.similarity import Similarity, similarity
    from omni.model import Model
    from omni.options import GenerationOptions
    from omni.prompt.inputs import Inputs
    from omni.prompt.reply_stream import ReasoningDelta, TextDelta, ToolCallDelta
    from omni.prompt.tool_calls import ToolCall
    from omni.tasks.rerank import RankedDocument
    from omni.tasks.transcribe import Piece, Transcript

_install_old_names()

__version__ = "0.1.0"
__all__ = [
    "Access",
    "Audio",
    "Box",
    "Chat",
    "CheckpointError",
    "Embedding",
    "GenerationOptions",
    "Image",
    "InputError",
    "Inputs",
    "Limits",
    "Model",
    "Piece",
    "Point",
    "RankedDocument",
    "ReasoningDelta",
    "Reply",
    "Similarity",
    "Sources",
    "TextDelta",
    "ToolCall",
    "ToolCallDelta",
    "Transcript",
    "Video",
    "encode_files",
    "load",
    "search",
    "similarity",
]

# JAX takes most of a second to import: it is loaded when a name that needs it is first used.
_LAZY = {
    "Box": "omni.generation.boxes",
    "Chat": "omni.chat",
    "Embedding": "omni.media.embedding",
    "GenerationOptions": "omni.options",
    "Inputs": "omni.prompt.inputs",
    "Model": "omni.model",
    "Piece": "omni.tasks.transcribe",
    "Point": "omni.generation.boxes",
    "RankedDocument": "omni.tasks.rerank",
    "ReasoningDelta": "omni.prompt.reply_stream",
    "Reply": "omni.generation.reply",
    "Similarity": "omni.media.similarity",
    "TextDelta": "omni.prompt.reply_stream",
    "ToolCall": "omni.prompt.tool_calls",
    "ToolCallDelta": "omni.prompt.reply_stream",
    "Transcript": "omni.tasks.transcribe",
    "encode_files": "omni.bulk.encode_files",
    "load": "omni.loading",
    "search": "omni.bulk.search",
    "similarity": "omni.media.similarity",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'omni' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
