"""What every test runs under: shapes checked, a quiet CPU, fixed seeds, no network."""

import gc
import ipaddress
import math
import os
import random
import signal
import socket
import sys
from pathlib import Path

from tests.quick_compile import QUICK_COMPILE_FLAGS

ROOT = Path(__file__).parents[1]

# A shell ignores Ctrl-C for what it runs in the background, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests start some hundred processes, which would read this tree's source each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Read by JAX when it is first imported, and by the processes that tests start. What the user has set stands.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "2")  # XLA's threads on the CPU
os.environ.setdefault("XLA_FLAGS", QUICK_COMPILE_FLAGS)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# Where an operation was written is not noted in its program.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

# The same examples in every run, and no clock: neither chance nor a slow machine decides a test.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")

# Stays installed: modules are checked whenever a test imports them. An int may stand for a float, as for pyright.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["omni", "encoders", "processors"], CHECKER)

from tests.exhaustive import is_exhaustive
from tests.golden.load import golden as golden
from tests.golden.load import tiny_checkpoint as tiny_checkpoint


def pytest_make_parametrize_id(val, argname):
    # Files that are made hold the time of day, and workers must name a test alike.
    return argname if isinstance(val, bytes) and len(val) > 40 else None


def pytest_collection_modifyitems(items):
    for item in items:
        if is_exhaustive(item.nodeid):
            item.add_marker(pytest.mark.exhaustive)


def pytest_collection_finish():
    """Leaves what is imported by now out of every later search for garbage, and has few of them within a module."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def fixed_seeds():
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True, scope="module")
def programs_are_dropped():
    """Each compiled program holds dozens of memory maps, and a process may hold some 65,000 of those."""
    yield
    if "jax" in sys.modules and _memory_maps() > 20_000:
        sys.modules["jax"].clear_caches()
    gc.collect()


def _memory_maps() -> float:
    """How many this process has; infinitely many where it cannot be told."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return math.inf


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuses every address but this machine's own, where a test may run a server."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def local_connect(self, address):
        if isinstance(address, tuple) and not _is_local(address[0]):
            raise OSError(f"tests use no network, and one wanted {address[0]}")
        return connect(self, address)

    def local_resolve(host, *args, **kwargs):
        if not _is_local(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests use no network, and one wanted {host}")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_resolve)
