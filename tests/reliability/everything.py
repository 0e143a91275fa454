"""All tables of the corpus together."""

import importlib

from tests.reliability.corpus.table import Table

KINDS = (
    "images",
    "arrays",
    "audio_files",
    "videos",
    "sources",
    "messages",
    "templates",
    "checkpoints",
    "embeddings",
    "bombs",
)


def tables(kinds: tuple[str, ...] = KINDS) -> dict[str, Table]:
    """The tables by the names of their modules."""
    return {kind: importlib.import_module(f"tests.reliability.corpus.{kind}").CASES for kind in kinds}


def names() -> list[tuple[str, str]]:
    """Every input as the name of its module and its own, in order; bombs are tried apart, for their memory."""
    return [(kind, name) for kind, table in tables().items() if kind != "bombs" for name in table]
