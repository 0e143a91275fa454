"""Settings in files of a checkpoint: bounded JSON, and a plain word for files that are something else."""

from pathlib import Path
from typing import Any

from omni.errors import CheckpointError
from processors.io.bounded_json import SMALL, JSONError, JSONLimits, parse

# A tokenizer of a few hundred thousand tokens and merges; an index of a few hundred thousand tensors.
LARGE = JSONLimits(bytes=128 << 20, depth=64, values=8_000_000)

# First bytes -> code, and what such a file is and what to do about it.
_FOREIGN = {
    b"version https://git-lfs": (
        "lfs_pointer",
        "a pointer of Git LFS, not the file itself; fetch the files with `git lfs pull` or from the hub",
    ),
    b"GGUF": ("gguf", "a GGUF file of llama.cpp; load the safetensors checkpoint that it was made from"),
    b"PK\x03\x04": ("pytorch_weights", "a PyTorch archive; save the weights as safetensors"),
    b"\x80\x02\x8a\n": ("pytorch_weights", "a pickle of PyTorch; save the weights as safetensors"),
    b"\x1f\x8b": ("compressed_file", "a gzip archive; unpack it"),
    b"<!DOCTYPE": ("web_page", "a web page, as a failed download leaves it; download the file again"),
    b"<!doctype": ("web_page", "a web page, as a failed download leaves it; download the file again"),
    b"<html": ("web_page", "a web page, as a failed download leaves it; download the file again"),
}


def foreign_format(first: bytes) -> tuple[str, str] | None:
    """Code and description of a file that is known to be something else, by its first bytes."""
    return next((what for magic, what in _FOREIGN.items() if first.startswith(magic)), None)


def read_json(path: Path, *, required: bool = True, limits: JSONLimits = SMALL) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; {} when an optional file is absent.

    Raises:
        CheckpointError: a required file is absent, or a file is not a JSON object within the limits.
    """
    if not path.is_file():
        if required:
            raise CheckpointError(f"{path.name} is not in the checkpoint directory", code="file_missing")
        return {}
    raw = read_bytes(path, limits.bytes)
    try:
        content = parse(raw, limits)
    except JSONError as error:
        raise CheckpointError(f"{path.name} is not valid JSON that can be used: {error}", code="bad_json") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}, not an object", code="bad_json")
    return content


def read_text(path: Path, most: int = SMALL.bytes) -> str:
    """A text file of a checkpoint.

    Raises:
        CheckpointError: it is not UTF-8, or too long.
    """
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path.name} is not UTF-8 text: byte {error.start} is not of any character"
        raise CheckpointError(message, code="bad_text") from error


def read_bytes(path: Path, most: int) -> bytes:
    """A file of a checkpoint, at most so long.

    Raises:
        CheckpointError: it is longer, is something else, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(most + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read: {reason}", code="file_unreadable") from error
    if format_ := foreign_format(raw):
        raise CheckpointError(f"{path.name} is {format_[1]}", code=format_[0])
    if len(raw) > most:
        raise CheckpointError(f"{path.name} is longer than {most:,} bytes, as no such file is", code="file_too_long")
    return raw
