"""The samples stay small, short and licensed."""

import json
import re
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
NOTEBOOKS = sorted(SAMPLES.glob("notebooks/*.ipynb"))
SCRIPTS = sorted(SAMPLES.glob("*.py"))
MEDIA = sorted(path for path in SAMPLES.iterdir() if path.suffix in {".jpg", ".png", ".flac", ".wav", ".mp4", ".webm"})


def test_media_are_small():
    assert MEDIA and sum(path.stat().st_size for path in MEDIA) < 1_500_000


@pytest.mark.parametrize("path", MEDIA, ids=lambda path: path.name)
def test_every_medium_has_a_licence(path):
    assert f"`{path.name}`" in (SAMPLES / "LICENSES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_read_at_a_glance(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_from_the_top_and_is_small(path):
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs and not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    # In base64, four letters stand for three bytes.
    assert all(len(picture) <= 100_000 * 4 / 3 + 4 for picture in pictures) and len(text) < 1_000_000
    for picture in pictures:
        text = text.replace(picture.strip(), "")
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
