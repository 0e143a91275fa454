"""Rerankers told from the models that chat: their directories name the same classes, and say it elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = {"classifier_from_token": ["no", "yes"], "is_original_qwen3_reranker": True}
"""Fields of config.json that say so; vLLM reads the same."""


def is_reranker(directory: Path, raw: Mapping[str, Any]) -> bool:
    """Whether a checkpoint directory holds a reranker.

    Its config.json says so as vLLM has it, or the files of sentence-transformers do, or its name: that of the
    directory, or of the repository in the hub's cache.

    Args:
        directory: of the checkpoint.
        raw: its config.json.
    """
    if raw.get("is_original_qwen3_reranker") is True or raw.get("classifier_from_token") == ["no", "yes"]:
        return True
    if (directory / "1_LogitScore" / "config.json").is_file():
        return True
    # The hub's cache: models--OWNER--NAME/snapshots/COMMIT.
    path = directory.resolve()
    names = [path.name, path.parents[1].name if path.parent.name == "snapshots" else ""]
    return any("reranker" in name.casefold() for name in names)
