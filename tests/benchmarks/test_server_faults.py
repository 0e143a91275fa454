"""The faults that a server is put to, a few of each."""

import asyncio

import pytest

from benchmarks import server_faults
from benchmarks.server_faults import Server


@pytest.fixture(scope="module")
def server():
    one = Server("demo", workers=1)
    one.start()
    yield one
    one.kill()


@pytest.mark.parametrize(
    "fault",
    [
        lambda server: server_faults.kills(server, times=1, clients=2, between=3),
        lambda server: server_faults.gone(server, clients=2),
        lambda server: server_faults.end(server, clients=2),
    ],
    ids=["killed", "left", "ended"],
)
def test_no_answer_is_lost(server, fault):
    row = asyncio.run(fault(server))
    assert row.is_good, row
