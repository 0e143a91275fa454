"""Pages of the site: where each stands in the navigation, those that are generated, and links that lead out of docs/.

Pages need not be listed: one that lies in docs/ and is in no section below becomes a guide.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from docs.hooks import commands, reference

ROOT = Path(__file__).parents[2]
# The home page and two others are files that people look for in the root of a repository.
FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# In the order in which one reads them; files of these folders that are not named follow by name.
TUTORIALS = ("first-ten-minutes", "search-a-folder", "chat", "transcribe", "fine-tune", "devices", "verify")
GUIDES = ("generation.md", "verify.md", "safety.md", "families.md", "errors.md")
CONCEPTS = ("architecture.md", "shapes.md", "parity.md", "limits.md", "glossary.md")
PROJECT = ("contributing.md", "adding-a-family.md", "changelog.md")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```|    .*?$)", re.MULTILINE | re.DOTALL)


def folder(docs: Path, name: str, first: tuple[str, ...] = ()) -> list[str]:
    """Pages of a folder, those that are named first."""
    pages = {path.stem for path in (docs / name).glob("*.md")}
    ordered = [page for page in first if page in pages] + sorted(pages - set(first))
    return [f"{name}/{page}.md" for page in ordered]


def navigation(docs: Path) -> list[Any]:
    """Every page, in its section."""
    named = {*GUIDES, *CONCEPTS, *PROJECT}
    others = sorted(path.name for path in docs.glob("*.md") if path.name not in named)
    return [
        {"Home": "index.md"},
        {"Tutorials": folder(docs, "tutorials", TUTORIALS)},
        {"Guides": [*GUIDES[:-1], *others, GUIDES[-1]]},
        {"Commands": ["commands/index.md", *(f"commands/{name}.md" for name in commands.commands())]},
        {"Concepts": list(CONCEPTS)},
        {"Coming from": folder(docs, "migration")},
        {"API": list(reference.pages())},
        {"Project": list(PROJECT)},
    ]


def generated(docs: Path) -> dict[str, str]:
    """Pages that no file in docs/ holds whole: place -> Markdown."""
    made = reference.pages() | {"commands/index.md": commands.overview()}
    for name, command in commands.commands().items():
        written = docs / "commands" / f"{name}.md"
        head = written.read_text("utf-8") if written.exists() else f"# omni {name}\n"
        made[f"commands/{name}.md"] = head + "\n" + commands.reference(name, command)
    return made | {page: (ROOT / source).read_text("utf-8") for page, source in FROM_ROOT.items()}


def relink(markdown: str, source: str, pages: set[str], repository: str | None) -> str:
    """Make the links of a file of the repository those of a page: what no page shows is linked there, or named."""
    place = posixpath.dirname(FROM_ROOT.get(source, f"docs/{source}"))
    as_page = {path: page for page, path in FROM_ROOT.items()}

    def link(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(place, target))
        page = as_page.get(path, path.removeprefix("docs/"))
        if page in pages:
            start = posixpath.dirname(source) or "."
            return f"{image}[{text}]({posixpath.relpath(page, start)}{anchor})"
        if repository:
            return f"{image}[{text}]({repository.rstrip('/')}/blob/main/{path}{anchor})"
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    # Code is left as it is.
    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(_FENCE.split(markdown)))
