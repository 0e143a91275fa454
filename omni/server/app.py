"""The application: what answers at which address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from omni.model import Model
from omni.server.chat import chat, metrics_of
from omni.server.embeddings import embeddings, trained_dimensions
from omni.server.errors import Refusal, error_response
from omni.server.gate import App, Gate, Receive, Scope, Send
from omni.server.http import json_response, service_of
from omni.server.inspection import inspection
from omni.server.metrics import Metrics
from omni.server.openapi import openapi
from omni.server.rerank import rerank, score
from omni.server.responses import responses
from omni.server.service import Service
from omni.server.settings import ServerSettings
from omni.server.tokens import detokenize, tokenize
from omni.server.transcriptions import transcriptions

_PAGE = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
# The page asks nobody but this server, and runs no script but its own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def health(request: Request) -> Response:
    """Answer that the process lives."""
    return json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """Answer whether requests can be served."""
    service = service_of(request)
    return json_response({"status": service.status}, 200 if service.status == "ready" else 503)


async def metrics(request: Request) -> Response:
    """Answer with what was counted."""
    return Response(metrics_of(request).text(), media_type="text/plain; version=0.0.4")


async def models(request: Request) -> Response:
    """Answer with the one model there is."""
    return json_response({"object": "list", "data": [_described(service_of(request))]})


async def model(request: Request) -> Response:
    """Answer with the model of a name."""
    service = service_of(request)
    service.check_model(request.path_params["name"])
    return json_response(_described(service))


async def page(request: Request) -> Response:
    """Answer with a file of the page."""
    name = _PAGE[request.url.path]
    data = resources.files("omni.server").joinpath("static", name).read_bytes()
    headers = {"content-security-policy": _POLICY, "cache-control": "no-cache"}
    return Response(data, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)


def _described(service: Service) -> dict[str, Any]:
    """A model in OpenAI's form, and what it reads and does beside."""
    loaded = service.model
    config = loaded.config
    reads = [] if config.tokens is None else [k for k in ("image", "audio", "video") if _reads(loaded, k)]
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "omni",
        "max_model_len": None if config.text is None else config.text.max_position_embeddings,
        "media": reads,
        "chat": config.text is not None and config.text.output_head and config.transcript is config.relevance is None,
        "transcribes": config.transcript is not None,
        "reranks": config.relevance is not None,
        "dimensions": list(trained_dimensions(loaded))[:1] and _range(trained_dimensions(loaded)),
    }


def _reads(loaded: Model, kind: Any) -> bool:
    assert loaded.config.tokens is not None
    part = loaded.config.audio if kind == "audio" else loaded.config.vision
    return part is not None and loaded.config.tokens.placeholder(kind) is not None


def _range(trained: Any) -> list[int]:
    return [trained[0], trained[-1]] if isinstance(trained, range) else list(trained)


ROUTES = (
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/v1/responses", responses, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/v1/rerank", rerank, methods=["POST"]),
    Route("/v1/score", score, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
    Route("/openapi.json", openapi, methods=["GET"]),
    Route("/omni/inspect", inspection, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name:path}", model, methods=["GET"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/health", health, methods=["GET"]),
    Route("/ready", ready, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    *(Route(path, page, methods=["GET"]) for path in _PAGE),
)
_OPEN_PATHS = frozenset(("/health", "/ready", "/openapi.json", *_PAGE))


def build_app(
    load: Callable[[], Model],
    settings: ServerSettings,
    failed: Callable[[], None],
    started: Callable[[Service], Awaitable[None]] | None = None,
) -> tuple[App, Service]:
    """The ASGI application of one model, and the service behind it.

    Args:
        load: makes the model; called in a thread once the application has started.
        settings: of the operator.
        failed: called where the model cannot be loaded.
        started: awaited before connections are taken, while the model is loaded.
    """
    service = Service(load, settings)
    counted = Metrics(lambda: service.waiting, lambda: service.running)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        service.start(failed)
        if started is not None:
            await started(service)
        telling = asyncio.ensure_future(counted.keep_telling())
        yield
        telling.cancel()
        service.close()

    router = Router(ROUTES, redirect_slashes=False, default=_nothing, lifespan=lifespan)

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        # A method that a route does not take is then an exception, which the gate answers in our shape.
        scope["app"] = router
        scope["omni.service"], scope["omni.metrics"] = service, counted
        await router(scope, receive, send)  # pyright: ignore[reportArgumentType]

    return Gate(routed, settings, counted, _OPEN_PATHS, endpoint_of), service


def endpoint_of(path: str) -> str:
    """The name of what answers at a path: a few, whatever is asked for."""
    if path.startswith("/v1/models/"):
        return "/v1/models"
    return path if any(path == route.path for route in ROUTES) else "other"


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await error_response(Refusal("not_found", "there is nothing at this address"))(scope, receive, send)
