"""`/openapi.json`: what can be asked, in OpenAPI's form, with examples that tests send."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from omni import __version__
from omni.server.chat_request import ChatRequest
from omni.server.embeddings import EmbeddingsRequest
from omni.server.http import Body, json_response
from omni.server.inspection import InspectRequest
from omni.server.rerank import RerankRequest, ScoreRequest
from omni.server.responses import ResponsesRequest
from omni.server.tokens import DetokenizeRequest, TokenizeRequest
from omni.server.transcriptions import FORMS

# A red square.
_RED = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAJ0lEQVR42u3NsQkAAAjAsP7/tF7hIA"
    "Syp6lTCQQCgUAgEAgEgi/BAjLD/C5w/SM9AAAAAElFTkSuQmCC"
)
_IMAGE = [{"type": "image_url", "image_url": {"url": _RED}}]
_HELLO = [{"role": "user", "content": "Hello"}]
# What is asked where, by which schema, and for example how.
_POSTS: dict[str, tuple[str, type[Body], dict[str, Any]]] = {
    "/v1/chat/completions": (
        "Answer a conversation.",
        ChatRequest,
        {
            "text": {"messages": _HELLO, "max_tokens": 16},
            "image": {
                "messages": [{"role": "user", "content": [*_IMAGE, {"type": "text", "text": "What is this?"}]}],
                "max_tokens": 16,
            },
            "stream": {"messages": _HELLO, "stream": True, "max_tokens": 4},
        },
    ),
    "/v1/responses": (
        "Answer a conversation.",
        ResponsesRequest,
        {"text": {"input": "Hello", "max_output_tokens": 16}},
    ),
    "/v1/embeddings": (
        "Give a vector for each input.",
        EmbeddingsRequest,
        {
            "texts": {"input": ["a red circle", "a blue square"]},
            "image": {"messages": [{"role": "user", "content": _IMAGE}]},
        },
    ),
    "/v1/rerank": (
        "Order documents by how well they meet a query.",
        RerankRequest,
        {
            "texts": {"query": "a red shape", "documents": ["a red circle", "a blue square"], "top_n": 1},
            "image": {"query": "a red shape", "documents": [{"image": _RED}, {"content": _IMAGE}]},
        },
    ),
    "/v1/score": (
        "Tell how well each document meets a query.",
        ScoreRequest,
        {"texts": {"queries": "a red shape", "documents": ["a red circle", "a blue square"]}},
    ),
    "/tokenize": ("Give the tokens of a text or of a conversation.", TokenizeRequest, {"text": {"prompt": "Hello"}}),
    "/detokenize": ("Give the text of tokens.", DetokenizeRequest, {"tokens": {"tokens": [40, 41]}}),
    "/omni/inspect": (
        "Draw what the model sees of media.",
        InspectRequest,
        {"image": {"messages": [{"role": "user", "content": _IMAGE}]}},
    ),
}
_GETS = {
    "/v1/models": "List the one model there is.",
    "/health": "Tell that the process lives.",
    "/ready": "Tell whether requests can be served; 503 while not.",
    "/metrics": "Tell what was counted, for Prometheus.",
}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        **{name: {"type": "string"} for name in ("model", "language", "prompt")},
        "response_format": {"type": "string", "enum": list(FORMS)},
    },
}


async def openapi(request: Request) -> Response:
    """Answer with the document."""
    return json_response(document())


def document() -> dict[str, Any]:
    """The whole of it."""
    schemas: dict[str, Any] = {"Error": _error()}
    paths: dict[str, Any] = {}
    for path, (summary, kind, examples) in _POSTS.items():
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
        content = {
            "schema": {"$ref": f"#/components/schemas/{kind.__name__}"},
            "examples": {name: {"value": value} for name, value in examples.items()},
        }
        paths[path] = {"post": _operation(summary, {"application/json": content})}
    form = {"multipart/form-data": {"schema": _FORM}}
    paths["/v1/audio/transcriptions"] = {"post": _operation("Write down what is said.", form)}
    paths |= {path: {"get": _operation(summary)} for path, summary in _GETS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Omni", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}, {}],
    }


def _operation(summary: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    refused = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {"200": {"description": "the answer"}, "default": {"description": "a refusal", "content": refused}}
    body = {} if content is None else {"requestBody": {"required": True, "content": content}}
    return {"summary": summary, **body, "responses": answers}


def _error() -> dict[str, Any]:
    fields = {"message": {"type": "string"}, "type": {"type": "string"}, "code": {"type": "string"}}
    fields["param"] = {"type": ["string", "null"]}  # pyright: ignore[reportArgumentType]
    error = {"type": "object", "required": [*fields], "properties": fields}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
