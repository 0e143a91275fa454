"""What README and the guides show is what happens: code, commands, and names."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

import omni
from docs.hooks import commands, diagram, imports, pages, reference

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"])
# The comment before a block that is compiled and not run, and the reason that it must give.
NOT_RUN = re.compile(r"<!-- not run: (.*?) -->\s*\Z", re.DOTALL)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:    |\$ )(omni .*)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[tuple[str, str | None, str | None]]:
    """Python code, the reason why it is not run, and the output that stands below it."""
    fences = list(FENCE.finditer(text))
    found = []
    for i, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        reason = NOT_RUN.search(text[: fence.start()])
        after = fences[i + 1] if i + 1 < len(fences) else None
        told = after is not None and after[1] == "text" and text[fence.end() : after.start()].strip() in ("", "prints")
        found.append((fence[2], reason and reason[1], after[2] if after is not None and told else None))
    return found


# The README's is run by test_readme.py.
WITH_CODE = [path for path in DOCUMENTS if path.name != "README.md" and blocks(path.read_text("utf-8"))]


@pytest.fixture(scope="module")
def demo():
    return omni.load("demo")


@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_code_runs_and_prints_what_stands_below_it(path, demo, tmp_path, monkeypatch):
    """All blocks of a document, one after another, in a folder of their own beside the samples."""
    load = omni.load
    monkeypatch.setattr(omni, "load", lambda name, **options: load(name, **options) if options else demo_or(name))

    def demo_or(name):
        return demo if name == "demo" else load(name)

    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code, reason, wanted in blocks(path.read_text("utf-8")):
        program = compile(code, name_of(path), "exec")
        if reason is not None:
            assert reason.strip()
            continue
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(program, namespace)
        assert wanted in (None, printed.getvalue())


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_have_the_options_that_are_shown(path):
    known = commands.commands()
    for line in COMMAND.findall(path.read_text("utf-8")):
        _, name, *words = shlex.split(line, comments=True)
        if name.startswith("-") or name.isupper():
            continue
        assert name in known, line
        options = commands.options_of(known[name])
        for word in words:
            if word.startswith("-") and not word.lstrip("-").isdigit():
                assert word.split("=")[0] in options, line


@pytest.mark.parametrize("module", reference.MODULES)
def test_public_names_are_documented(module):
    """Each, and each public method of a class that is defined here."""
    missing = []
    for name in reference.public_names(module):
        value = reference.resolve(name)
        if not reference.docstring(value):
            missing.append(name)
        for method, function in vars(value).items() if isinstance(value, type) else ():
            written = isinstance(function, property) or getattr(function, "__module__", None) == value.__module__
            if not method.startswith("_") and written and not reference.docstring(function):
                missing.append(f"{name}.{method}")
    assert missing == []


def test_the_graph_of_packages_holds_every_part_in_one_row():
    graph = imports.package_graph()
    rows = imports.levels(graph)
    height = {name: level for level, row in enumerate(rows) for name in row}
    assert sorted(height) == sorted(graph) and sum(map(len, rows)) == len(graph)
    assert all(height[other] < height[name] for name, others in graph.items() for other in others)
    assert {"encoders", "processors"} <= set(rows[0])


@pytest.mark.parametrize("kind", diagram.WAYS)
def test_what_a_drawing_names_exists_and_says_what_it_does(kind):
    assert all(reference.docstring(reference.resolve(name)) for name in diagram.WAYS[kind])


def leaves(section):
    if isinstance(section, str):
        return [section]
    return [page for part in (section.values() if isinstance(section, dict) else section) for page in leaves(part)]


def test_every_page_stands_once_in_the_navigation():
    docs = ROOT / "docs"
    listed = leaves(pages.navigation(docs))
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | set(pages.generated(docs))
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize(
    ("source", "link", "wanted"),
    [
        ("index.md", "[a](docs/shapes.md#decoder)", "[a](shapes.md#decoder)"),
        ("index.md", "![a](docs/images/omni.svg)", "![a](images/omni.svg)"),
        ("index.md", "[`LICENSE`](LICENSE)", "`LICENSE`"),
        ("shapes.md", "[card](../omni/assets/demo/README.md)", "card (`omni/assets/demo/README.md`)"),
        ("tutorials/chat.md", "[home](../../README.md)", "[home](../index.md)"),
        ("shapes.md", "[a](https://example.org/docs/shapes.md)", "[a](https://example.org/docs/shapes.md)"),
        ("shapes.md", "    x[0](1)", "    x[0](1)"),
    ],
)
def test_links_lead_to_pages(source, link, wanted):
    known = {"index.md", "shapes.md", "images/omni.svg"}
    assert pages.relink(link, source, known, None) == wanted
    named = wanted if wanted == link or "](" in wanted else f"{link.split('(')[0]}(https://example.org/r/blob/main/"
    assert pages.relink(link, source, known, "https://example.org/r").startswith(named)
