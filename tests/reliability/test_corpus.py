"""Every input of the corpus ends as declared; there are enough of them, and of every kind."""

import pytest

from tests.reliability import bombs
from tests.reliability.corpus.table import warm
from tests.reliability.everything import names, tables

# A file that is left open, and what is said of a checkpoint that is loaded all the same, are no refusals.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("UserWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    warm()


@pytest.fixture(autouse=True)
def few_decoders_warnings(capfd):
    """Libraries of C write what they think of an input to the process's own stream."""
    yield
    capfd.readouterr()


@pytest.mark.parametrize(("kind", "name"), names(), ids=[name for _, name in names()])
def test_every_input_ends_as_declared(kind, name):
    verdict = tables((kind,))[kind].judge(name)
    # What the tests' own type checks refuse before the project sees it, `make check` tries without them.
    assert verdict.declared or verdict.why.startswith("TypeCheckError"), f"{verdict.how}: {verdict.why}"


@pytest.mark.parametrize("name", list(tables(("bombs",))["bombs"]))
def test_bombs_are_refused_before_memory_is_taken(name):
    blast = bombs.blast(name)
    assert blast.verdict.declared and blast.bytes < bombs.MOST_BYTES, blast.fault


def test_the_corpus_is_large():
    assert len(names()) >= 300
    assert len({name for _, name in names()}) == len(names())
