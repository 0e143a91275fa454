"""Shapes of programs: few pads, few chunks, and no more lengths than there are."""

import pytest

from omni.generation.buckets import Buckets


@pytest.mark.parametrize(
    "buckets", [Buckets.of(False), Buckets.of(True), Buckets.served(8)], ids=["large", "small", "served"]
)
def test_a_prompt_is_read_with_few_pads_in_few_chunks(buckets):
    least = buckets.lengths[0]
    for tokens in range(1, 3000):
        left, lengths = tokens, []
        while left > 0:
            lengths.append(buckets.length(left))
            left -= lengths[-1]
        assert set(lengths) <= set(buckets.lengths)
        assert sum(lengths) - tokens <= max(least, 64, tokens // 3), (tokens, lengths)
        most = -(-tokens // buckets.lengths[-1]) + (8 if least == 128 else len(buckets.lengths))
        assert len(lengths) <= most, (tokens, lengths)


def test_what_fills_most_of_a_chunk_is_read_at_once():
    buckets = Buckets.of(False)
    assert [buckets.length(n) for n in (1, 16, 17, 64, 100, 200, 400, 513, 800, 5000)] == [
        16, 16, 32, 64, 128, 256, 512, 512, 1024, 1024
    ]  # fmt: skip
    assert buckets.chunk(800, 256) == (256, 1) and buckets.chunk(130, 1024) == (128, 8)
