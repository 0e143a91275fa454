"""`/v1/rerank` and `/v1/score`: how well documents meet a query."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from omni.server.chat import metrics_of
from omni.server.errors import Refusal
from omni.server.http import Body, attended, json_response, note, read_body, salt_of, service_of
from omni.tasks.rerank import Part, as_content, check_top_n, ranked

_MOST_PAIRS = 2048
Content = str | dict[str, Any]
"""A text; Jina's `{"text", "image", "video"}`; vLLM's `{"content": [...]}`; or one part of a message."""
Contents = Content | list[Content]


class _Scored(Body):
    """What requests for scores share."""

    HARMLESS: ClassVar[frozenset[str]] = frozenset(("user", "priority", "request_id"))
    REFUSED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("truncate_prompt_tokens", "max_tokens_per_doc", "max_chunks_per_doc", "truncation"),
            "nothing is cut here; send what is to be read",
        ),
        **dict.fromkeys(("use_activation", "activation", "softmax"), "scores are probabilities, from 0 to 1"),
        "rank_fields": "send what is to be read as text",
        "mm_processor_kwargs": "set min_pixels and max_pixels of a part",
    }

    model: str | None = None
    instruction: str | None = None
    cache_salt: str | None = None


class RerankRequest(_Scored):
    """Fields of Jina and Cohere, and those that vLLM has beside them."""

    query: Content
    documents: list[Content]
    top_n: int | None = None
    return_documents: bool = True


class ScoreRequest(_Scored):
    """vLLM's fields: one query for all documents, or one for each; by any of their names."""

    queries: Contents | None = None
    documents: Contents | None = None
    text_1: Contents | None = None
    text_2: Contents | None = None
    data_1: Contents | None = None
    data_2: Contents | None = None

    def pairs(self) -> list[tuple[Content, Content]]:
        """Each query with its document.

        Raises:
            Refusal: `missing_field`; `bad_field`, more than one name, or numbers that do not fit.
        """
        queries = self._given("queries", "text_1", "data_1")
        documents = self._given("documents", "text_2", "data_2")
        if len(queries) not in (1, len(documents)):
            raise Refusal("bad_field", f"{len(queries)} queries for {len(documents)} documents: give one, or as many")
        return list(zip(queries * len(documents) if len(queries) == 1 else queries, documents, strict=True))

    def _given(self, *names: str) -> list[Content]:
        given = [name for name in names if getattr(self, name) is not None]
        if not given:
            raise Refusal("missing_field", f"the field {names[0]!r} is missing", names[0])
        if len(given) > 1:
            raise Refusal("bad_field", f"{' and '.join(given)} are the same: give one", given[1])
        value = getattr(self, given[0])
        return value if isinstance(value, list) else [value]


async def rerank(request: Request) -> Response:
    """Answer with documents by their scores, the best first."""
    body = await read_body(request, RerankRequest)
    check_top_n(body.top_n)
    scores, tokens = await _scores(request, body, [(body.query, one) for one in body.documents])
    results = []
    for one in ranked(scores, body.documents, body.top_n):
        result: dict[str, Any] = {"index": one.index, "relevance_score": one.score}
        if body.return_documents:
            result["document"] = {"text": one.document} if isinstance(one.document, str) else one.document
        results.append(result)
    head = {"id": f"rerank-{request.scope['omni.request_id']}", "object": "list", "model": service_of(request).name}
    return json_response({**head, "results": results, "usage": _usage(tokens)})


async def score(request: Request) -> Response:
    """Answer with one score for each pair, in their order."""
    body = await read_body(request, ScoreRequest)
    scores, tokens = await _scores(request, body, body.pairs())
    data = [{"index": index, "object": "score", "score": float(one)} for index, one in enumerate(scores)]
    head = {"id": f"score-{request.scope['omni.request_id']}", "object": "list", "created": int(time.time())}
    return json_response({**head, "model": service_of(request).name, "data": data, "usage": _usage(tokens)})


async def _scores(request: Request, body: _Scored, pairs: Sequence[tuple[Content, Content]]) -> tuple[Any, int]:
    """A score for each pair, and how many tokens were read."""
    service = service_of(request)
    with service.place():
        service.check_model(body.model)
        if not 0 < len(pairs) <= _MOST_PAIRS:
            raise Refusal("bad_documents", f"give 1 to {_MOST_PAIRS} documents, not {len(pairs)}", "documents")
        contents = [(_content(query), _content(document)) for query, document in pairs]
        salt = salt_of(request, body.cache_salt)
        scores, tokens = await attended(request, service.score(contents, body.instruction, salt))
    metrics_of(request).count(tokens, 0, 0)
    note(request, prompt_tokens=tokens, inputs=len(pairs))
    return scores, tokens


def _content(given: Content) -> list[Part]:
    """What is to be read, as parts of a message; a text is a text, whatever it looks like."""
    if isinstance(given, str):
        return as_content({"text": given})
    parts = given.get("content")
    if parts is None:
        return as_content(given)
    if isinstance(parts, str) and len(given) == 1:
        return as_content({"text": parts})
    if len(given) > 1 or not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Refusal("bad_field", "content must be a text or a list of a message's parts, and stand alone", "content")
    return parts


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
