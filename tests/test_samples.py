"""The samples stay small, short and licensed."""

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
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
