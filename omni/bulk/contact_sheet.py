"""Contact sheets: what a search has found, as one HTML page that needs nothing beside it."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from omni.bulk.contents import Contents, fetched
from omni.bulk.items import Item
from omni.bulk.manifest import find_items
from omni.bulk.search import Hit
from omni.errors import InputError, printable
from processors import Access, load_video
from processors.decode.image.decoder import open_image
from processors.io.access import DEFAULT_ACCESS

_SIDE, _MOST_TEXT = 256, 400
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({side}px, 1fr)); gap: 1.5rem }}
figure {{ margin: 0 }} img, .none {{ width: {side}px; height: {side}px; object-fit: contain; background: #f2f2f2 }}
.none {{ display: flex; align-items: center; justify-content: center; overflow: auto; white-space: pre-wrap }}
figcaption {{ overflow-wrap: anywhere; width: {side}px }}
</style></head><body><h1>{title}</h1><main>
{figures}
</main></body></html>
"""


def contact_sheet(title: str, hits: Sequence[Hit], where: Path, access: Access = DEFAULT_ACCESS) -> str:
    """Return a page with a picture of each hit, its score and its path.

    Images and the first frame of videos are embedded, small; texts stand as they are; what cannot be read any more, and
    audio, is a field with its kind.

    Args:
        title: what was looked for.
        hits: of `search`.
        where: the job's folder, whose manifest says where each hit lies.
        access: limits and source policy.
    """
    items = find_items(where, [hit.id for hit in hits])
    contents = Contents()
    figures = [_figure(hit, _shown(hit, items.get(hit.id), contents, access)) for hit in hits]
    return _PAGE.format(title=html.escape(printable(title)), side=_SIDE, figures="\n".join(figures))


def _figure(hit: Hit, picture: str) -> str:
    source = html.escape(printable(hit.source))
    return f"<figure>{picture}<figcaption><b>{hit.score:.3f}</b> {hit.kind}<br>{source}</figcaption></figure>"


def _shown(hit: Hit, item: Item | None, contents: Contents, access: Access) -> str:
    try:
        if item is not None and hit.kind != "audio":
            content = contents.of(item)
            if hit.kind == "text":
                text = printable(str(content))
                return _field(text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + " ...")
            source = fetched(content, item, access)
            if hit.kind == "video":
                image = Image.fromarray(load_video(source, num_frames=1, access=access)[0])
            else:
                image = open_image(source, access).copy()
            return f'<img alt="" src="data:image/jpeg;base64,{_thumbnail(image)}">'
    except InputError:
        pass  # it may have gone since
    return _field(hit.kind)


def _field(text: str) -> str:
    return f'<div class="none">{html.escape(text)}</div>'


def _thumbnail(image: Image.Image) -> str:
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()
