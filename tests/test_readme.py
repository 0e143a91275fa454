"""What the README shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_what_it_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    code, wanted = re.findall(r"```(?:python|text)\n(.*?)```", README, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == wanted


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_and_paths_exist(document):
    text = document.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in target]
    for target in targets:
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:omni|encoders|processors|tests|samples|benchmarks|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
