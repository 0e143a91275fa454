"""Media are compared by the measure that serves, and the result says by which."""

import numpy as np
import pytest

import omni
from omni.media.embedding import Embedding


def embeddings(count, seed=0):
    random = np.random.default_rng(seed)
    common = 10 * np.ones(8, np.float32)
    return [Embedding("image", random.standard_normal((3, 8)).astype(np.float32) + common) for _ in range(count)]


def test_pooled_tokens_are_compared_without_what_they_share():
    items = embeddings(5)
    values, measure = omni.similarity(items)
    assert measure == "centred cosine" and values.shape == (5, 5) and values.dtype == np.float32
    np.testing.assert_allclose(np.diag(values), 1, atol=1e-6)
    plain = omni.similarity(items, measure="cosine")
    assert plain.measure == "cosine" and plain.values.min() > 0.9 > values.min()
    vectors = np.stack([item.pooled() for item in items])
    np.testing.assert_allclose(plain.values, cosines(vectors), atol=1e-5)
    np.testing.assert_allclose(values, cosines(vectors - vectors.mean(axis=0)), atol=1e-4)


def cosines(vectors):
    lengths = np.linalg.norm(vectors, axis=1)
    return vectors @ vectors.T / np.outer(lengths, lengths)


def test_vectors_and_pairs_are_compared_as_they_are():
    vectors = np.eye(4, 8, dtype=np.float32)
    assert omni.similarity(vectors).measure == "cosine"
    np.testing.assert_array_equal(omni.similarity(vectors).values, np.eye(4))
    assert omni.similarity(embeddings(1), embeddings(1, 1)).measure == "cosine"
    assert omni.similarity(embeddings(2), embeddings(3, 1)).values.shape == (2, 3)


def test_the_nearest_come_first():
    vectors = np.asarray([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    found = omni.similarity(vectors[:1], vectors)
    assert found.nearest(2).tolist() == [[0, 1]] and found.nearest(9).tolist() == [[0, 1, 2]]
    with pytest.raises(omni.InputError, match="count"):
        found.nearest(0)


@pytest.mark.parametrize(
    "items, others, measure, code",
    [
        ([], None, "auto", "bad_embedding"),
        (np.ones((2, 3)), np.ones((2, 4)), "auto", "bad_embedding"),
        (np.full((2, 3), np.nan), None, "auto", "bad_embedding"),
        (np.ones((2, 3)), None, "euclid", "bad_option"),
    ],
    ids=["nothing", "widths", "nan", "measure"],
)
def test_what_cannot_be_compared_is_refused(items, others, measure, code):
    with pytest.raises(omni.InputError) as refused:
        omni.similarity(items, others, measure=measure)
    assert refused.value.code == code
