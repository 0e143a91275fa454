"""`/v1/embeddings`: vectors of texts, of tokens, and of messages with media."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from omni.errors import is_whole
from omni.runtime import Runtime
from omni.server.chat import metrics_of
from omni.server.errors import Refusal
from omni.server.http import Body, attended, json_response, note, read_body, salt_of, service_of
from omni.server.service import Service
from omni.tasks.embed import as_conversation

_MOST_INPUTS = 2048
# Qwen's embedding models were trained to be cut to any length from here on.
_LEAST_DIMENSIONS = 32


class EmbeddingsRequest(Body):
    """OpenAI's fields; `messages` in place of `input` as vLLM has them; and an `instruction`."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(("user", "priority", "request_id"))
    REFUSED: ClassVar[Mapping[str, str]] = {"truncate_prompt_tokens": "nothing is cut here; send what is to be read"}

    model: str | None = None
    input: Any = None
    messages: list[dict[str, Any]] | None = None
    instruction: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    cache_salt: str | None = None


async def embeddings(request: Request) -> Response:
    """Answer with one vector for each input."""
    body = await read_body(request, EmbeddingsRequest)
    service = service_of(request)
    with service.place():
        service.check_model(body.model)
        dimensions = _dimensions(body.dimensions, service)
        conversations = [as_conversation(one, body.instruction) for one in _inputs(body)]

        async def embed() -> tuple[np.ndarray, list[int]]:
            inputs = await service.prepare(conversations, salt_of(request, body.cache_salt))
            return await service.embed(inputs), [len(one.token_ids) for one in inputs]

        vectors, tokens = await attended(request, embed())
    if dimensions is not None:
        vectors = vectors[:, :dimensions]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    total = sum(tokens)
    metrics_of(request).count(total, 0, 0)
    note(request, prompt_tokens=total, inputs=len(tokens))
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": total, "total_tokens": total}
    return json_response({"object": "list", "data": data, "model": service.name, "usage": usage})


def _inputs(body: EmbeddingsRequest) -> list[Any]:
    """What is to be embedded: messages, or token ids."""
    if (body.input is None) == (body.messages is None):
        raise Refusal("bad_field", "give either input or messages", "input")
    if body.messages is not None:
        return [body.messages]
    given: Any = body.input
    if isinstance(given, str) or (isinstance(given, list) and given and all(map(is_whole, given))):
        given = [given]
    if not isinstance(given, list) or not given or len(given) > _MOST_INPUTS:
        raise Refusal("bad_input", f"input must be a text, token ids, or a list of 1 to {_MOST_INPUTS} such", "input")
    return [_input(one) for one in given]


def _input(one: Any) -> Any:
    if isinstance(one, str) and one:
        # As a message, so that no text is taken for the name of a file.
        return [{"role": "user", "content": one}]
    if isinstance(one, list) and one and all(map(is_whole, one)):
        return one
    raise Refusal("bad_input", "each input must be a text of a character or more, or a list of token ids", "input")


def _dimensions(wanted: int | None, service: Service) -> int | None:
    """The length to cut vectors to; refuses what the model was not trained for."""
    if wanted is None:
        return None
    trained = trained_dimensions(service.model) or tuple(service.settings.trained_dimensions)
    if not trained:
        raise Refusal("dimensions_not_trained", "this model's vectors mean nothing when they are cut", "dimensions")
    if wanted not in trained:
        named = f"{trained[0]} to {trained[-1]}" if isinstance(trained, range) else ", ".join(map(str, trained))
        raise Refusal("dimensions_not_trained", f"vectors of this model can be cut to {named}", "dimensions")
    return wanted


def trained_dimensions(model: Runtime) -> Sequence[int]:
    """Lengths that a model's vectors may be cut to, as its config.json says; none where it says nothing.

    Qwen's own embedding models say nothing, and allow any: they are those without an output head.
    """
    raw, text = model.raw_config, model.config.text
    if text is None:
        return ()
    listed = raw.get("matryoshka_dimensions")
    if isinstance(listed, list) and listed and all(map(is_whole, listed)):
        return tuple(sorted(listed))
    if raw.get("is_matryoshka") is True or not text.output_head:
        return range(_LEAST_DIMENSIONS, text.hidden_size + 1)
    return ()


def _encoded(vector: np.ndarray, form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return np.asarray(vector, np.float32).tolist()
