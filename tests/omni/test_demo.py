"""The checkpoint that ships: every part of the architecture, small, and open about what it is."""

from pathlib import Path

import numpy as np
import pytest

import omni
from omni.config import read_json
from omni.loading import find_directory

SAMPLES = Path(__file__).parents[2] / "samples"
MEDIA = ("china.jpg", "flower.jpg", "speech.flac", "dashwood.flac", "bunny.mp4")


@pytest.fixture(scope="module")
def demo() -> omni.Model:
    return omni.load("demo")


def test_it_is_small():
    assert sum(path.stat().st_size for path in find_directory("demo").iterdir()) < 20_000_000


def test_it_says_whether_it_is_trained(demo):
    trained = read_json(find_directory("demo") / "config.json")["omni_demo"]["trained"]
    assert (demo.notice is None) == trained
    if not trained:
        with pytest.warns(UserWarning, match="untrained"):
            demo.generate([{"role": "user", "content": "Hello"}], max_new_tokens=2)


def test_it_reads_every_sample_and_tells_them_apart(demo):
    pooled = np.stack([e.pooled() for e in demo.encode([SAMPLES / name for name in MEDIA])])
    apart = np.linalg.norm(pooled[:, None] - pooled[None], axis=-1) / np.linalg.norm(pooled, axis=-1)
    assert np.isfinite(pooled).all() and (apart[~np.eye(len(MEDIA), dtype=bool)] > 0.02).all()


@pytest.mark.filterwarnings("ignore:the demo checkpoint is untrained")
def test_what_it_sees_and_hears_changes_what_it_says(demo):
    def reply(name: str) -> list[int]:
        return demo.chat(temperature=0).send("What is this?", SAMPLES / name, max_new_tokens=12).token_ids

    assert len({tuple(reply(name)) for name in MEDIA}) == len(MEDIA)
