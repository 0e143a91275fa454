"""Media are encoded once by content, within a budget."""

import numpy as np
import pytest

from omni.media.cache import MediaCache, content
from omni.media.embedding import Embedding
from processors import ImageProcessor
from tests.golden import media


@pytest.fixture
def encoded(model, monkeypatch):
    """How many images each call of the tower was given."""
    model.media_cache.clear()
    counts, kind = [], type(model.media.vision)
    encode = kind.encode
    monkeypatch.setattr(
        kind, "encode", lambda own, pixels, grids: counts.append(len(grids)) or encode(own, pixels, grids)
    )
    return counts


def ask(image):
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What?"}]}]


def test_the_same_image_in_ten_requests_is_encoded_once(model, encoded):
    image = media.image("small")
    replies = [model.generate(ask(image.copy()), max_new_tokens=2, temperature=0) for _ in range(5)]
    replies += model.generate([ask(image)] * 5, max_new_tokens=2, temperature=0)
    assert encoded == [1] and len({tuple(reply.token_ids) for reply in replies}) == 1
    model.generate([ask(image[::-1].copy()), ask(image), ask(image[::-1].copy())], max_new_tokens=2)
    assert encoded == [1, 1]


def test_callers_of_different_salts_share_nothing(model, encoded):
    image = media.image("small")
    rows = [model.prepare_all([ask(image)], True, salt=salt)[0].media[0] for salt in ("a", "b", "a", "")]
    assert encoded == [1, 1, 1] and rows[2] is rows[0]
    assert all(np.array_equal(one.tokens, rows[0].tokens) for one in rows)
    prompts = [model.prepare_all([ask(image)], True, salt=salt)[0].to_prompt() for salt in ("a", "b")]
    assert prompts[0].shared_prefix(prompts[1]) == 0
    assert prompts[0].shared_prefix(prompts[0].followed_by([1])) == len(prompts[0])


def test_what_differs_in_anything_is_another_content():
    image = media.image("small")
    features = ImageProcessor()(image)
    assert content(features) == content(ImageProcessor()(image.copy()))
    changed = image.copy()
    changed[0, 0, 0] ^= 255
    others = [ImageProcessor()(changed), ImageProcessor()(image.transpose(1, 0, 2).copy())]
    assert len({content(one) for one in (features, *others)}) == 3


def test_the_least_recently_used_is_forgotten_first():
    cache = MediaCache(budget=3 * 800)
    made = {key: Embedding("audio", np.zeros((10, 20), np.float32)) for key in (b"a", b"b", b"c", b"d")}
    for key in (b"a", b"b", b"c"):
        cache.put(key, made[key])
    assert cache.get(b"a") is made[b"a"]
    cache.put(b"d", made[b"d"])
    assert cache.get(b"b") is None
    assert all(cache.get(key) is made[key] for key in (b"a", b"c", b"d"))
    cache.put(b"e", Embedding("audio", np.zeros((31, 20), np.float32)))  # more than all
    assert cache.get(b"e") is None and cache.get(b"a") is not None
    cache.clear()
    assert cache.get(b"a") is None
