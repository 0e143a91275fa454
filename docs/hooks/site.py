"""What mkdocs.yml leaves to code: the navigation, the generated pages, drawings, links, and a complete reference."""

import zlib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.hooks import diagram, reference
from docs.hooks.pages import generated, navigation, relink


def on_config(config: Any) -> Any:
    """Lay out the navigation."""
    config.nav = navigation(Path(config.docs_dir))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for place, markdown in generated(Path(config.docs_dir)).items():
        if (file := files.get_file_from_path(place)) is not None:
            files.remove(file)
        files.append(File.generated(config, place, content=markdown))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Put drawings at their marks, and mend links."""
    for name, draw in diagram.DRAWINGS.items():
        markdown = markdown.replace(f"<!-- drawing: {name} -->", draw()) if f"drawing: {name}" in markdown else markdown
    pages = {file.src_uri for file in files}
    return relink(markdown, page.file.src_uri, pages, config.repo_url)


def on_post_build(config: Any) -> None:
    """Refuse a site whose reference lacks a public name."""
    inventory = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    shown = {line.split(" ")[0] for line in zlib.decompress(inventory).decode("utf-8").splitlines()}
    if missing := [name for name in reference.documented() if name not in shown]:
        raise PluginError(f"the API reference lacks {', '.join(missing)}")
