"""`/tokenize` and `/detokenize`: texts and conversations as tokens, and back."""

from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from omni.server.errors import Refusal
from omni.server.http import Body, attended, json_response, read_body, salt_of, service_of
from omni.server.service import Service


class TokenizeRequest(Body):
    """A text, or a conversation with its media."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(("add_special_tokens",))

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int]


async def tokenize(request: Request) -> Response:
    """Answer with token ids."""
    body = await read_body(request, TokenizeRequest)
    service = service_of(request)
    with service.place():
        service.check_model(body.model)
        ids = await attended(request, _ids(service, body, salt_of(request)))
        tokenizer = _tokenizer(service)
    texts = [tokenizer.decode([i], skip_special=False) for i in ids] if body.return_token_strs else None
    longest = service.model.engine.max_tokens
    return json_response({"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": texts})


async def detokenize(request: Request) -> Response:
    """Answer with the text of token ids."""
    body = await read_body(request, DetokenizeRequest)
    service = service_of(request)
    with service.place():
        service.check_model(body.model)
        return json_response({"prompt": _tokenizer(service).decode(body.tokens, skip_special=False)})


async def _ids(service: Service, body: TokenizeRequest, salt: str) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise Refusal("bad_field", "give either prompt or messages", "prompt")
    if body.messages is not None:
        (inputs,) = await service.prepare([body.messages], salt, opening=body.add_generation_prompt)
        return inputs.token_ids.tolist()
    return await service.call(_tokenizer(service).encode, body.prompt)


def _tokenizer(service: Service) -> Any:
    if service.model.tokenizer is None:
        raise Refusal("no_tokenizer", "the checkpoint directory has no tokenizer")
    return service.model.tokenizer
