"""One tiny model for all tests of `omni`: it does not change."""

import pytest

import omni


@pytest.fixture(scope="session")
def model(tiny_checkpoint) -> omni.Model:
    return omni.load(tiny_checkpoint)
