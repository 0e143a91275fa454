"""One HTML page with every picture: it asks nothing of the network, and follows the reader's light or dark."""

from base64 import b64encode
from collections.abc import Iterable
from html import escape

from processors.drawing.picture import Picture

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #202124; --paper: #ffffff; --rule: #dadce0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8eaed; --paper: #202124; --rule: #5f6368; }} }}
body {{ color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 75rem; padding: 0 1rem; }}
h1, h2, figcaption {{ overflow-wrap: anywhere; }}
h2 {{ border-top: 1px solid var(--rule); padding-top: 1rem; font-size: 1.1rem; }}
figure {{ margin: 1rem 0 2rem; overflow-x: auto; }}
img {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""


def page(title: str, pictures: Iterable[Picture]) -> str:
    """Return a page of HTML with pictures in it, each in a light and a dark version.

    Args:
        title: of the page.
        pictures: in the order in which they are to stand.
    """
    parts = [_HEAD.format(title=escape(title))]
    for picture in pictures:
        light, dark = (
            f"data:image/png;base64,{b64encode(picture.png(dark, False)).decode()}" for dark in (False, True)
        )
        name, caption = escape(picture.title), escape(picture.caption)
        parts.append(
            f'<section>\n<h2>{name}</h2>\n<figure>\n<picture><source media="(prefers-color-scheme: dark)" '
            f'srcset="{dark}"><img src="{light}" alt="{name}"></picture>\n'
            f"<figcaption>{caption}</figcaption>\n</figure>\n</section>\n"
        )
    return "".join([*parts, "</body>\n</html>\n"])
