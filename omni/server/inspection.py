"""`/omni/inspect`: what a model sees of media, as pictures; the page shows them."""

import threading
from base64 import b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from omni.prompt.messages import parse
from omni.server.errors import Refusal
from omni.server.http import Body, attended, json_response, read_body, service_of
from omni.server.service import Service
from omni.tools.inspect import inspect

_MOST_MEDIA = 4
# A style of matplotlib holds for the whole process.
_DRAWING = threading.Lock()


class InspectRequest(Body):
    """Messages with media."""

    messages: list[dict[str, Any]]


async def inspection(request: Request) -> Response:
    """Answer with pictures of the patches, mel frames and tokens that media become."""
    body = await read_body(request, InspectRequest)
    service = service_of(request)
    with service.place():
        return json_response(await attended(request, service.call(_pictures, service, body)))


def _pictures(service: Service, body: InspectRequest) -> dict[str, Any]:
    media = parse(body.messages).media
    if not 1 <= len(media) <= _MOST_MEDIA:
        raise Refusal("bad_field", f"give from 1 to {_MOST_MEDIA} media, got {len(media)}", "messages")
    with _DRAWING:
        drawn = [(title, picture.png()) for title, picture in inspect(service.model, media)]
    images = [{"title": title, "image": f"data:image/png;base64,{b64encode(png).decode()}"} for title, png in drawn]
    return {"object": "inspection", "pictures": images}
