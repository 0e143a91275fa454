"""Regions never overlap, and what is given back can be taken again whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omni.generation.regions import GRANULE, Regions, rounded


def test_sizes_are_multiples_of_a_granule():
    assert [rounded(n) for n in (0, 1, GRANULE, GRANULE + 1)] == [0, GRANULE, GRANULE, 2 * GRANULE]


@given(st.data())
def test_regions_never_overlap(data):
    regions, taken, owner = Regions(1024), {}, np.zeros(1024, int)
    for number in range(1, data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["take", "give", "extend", "grow"]))
        if action == "take":
            size = GRANULE * data.draw(st.integers(1, 3))
            start = regions.take(size)
            if start is None:
                runs = "".join("x" if used else "." for used in owner[::GRANULE]).split("x")
                assert max(map(len, runs)) * GRANULE < size
            else:
                assert not owner[start : start + size].any()
                owner[start : start + size], taken[number] = number, (start, size)
        elif action == "grow":
            regions.grow(regions.slots + GRANULE)
            owner = np.append(owner, np.zeros(GRANULE, int))
        elif taken:
            who = data.draw(st.sampled_from(sorted(taken)))
            start, size = taken[who]
            if action == "give":
                regions.give_back(start, size)
                owner[start : start + size] = 0
                del taken[who]
            else:
                after = owner[start + size : start + size + GRANULE]
                could = len(after) == GRANULE and not after.any()
                assert regions.extend(start + size, GRANULE) == could
                if could:
                    owner[start + size : start + size + GRANULE], taken[who] = who, (start, size + GRANULE)
        assert regions.free == (owner == 0).sum()
    for start, size in taken.values():
        regions.give_back(start, size)
    assert regions.take(regions.slots) == 0
