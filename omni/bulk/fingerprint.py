"""Fingerprints of checkpoint directories and of media: whether what was made earlier was made of the same."""

import hashlib
import os
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from omni.model import Model

# Of a weight file the header is read, and blocks spread evenly over the rest: training changes weights everywhere, and
# whole files would take minutes.
_BLOCK, _BLOCKS = 1 << 16, 64
_SMALL_FILES = (".json", ".jinja", ".txt")


def checkpoint_fingerprint(directory: Path) -> str:
    """Return a digest of a checkpoint's settings, tokenizer and weights."""
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix in _SMALL_FILES and path.is_file():
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        elif path.suffix == ".safetensors" and path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as file:
                places = {0, *(i * size // _BLOCKS for i in range(_BLOCKS)), max(0, size - _BLOCK)}
                for place in sorted(places):
                    file.seek(place)
                    digest.update(place.to_bytes(8, "little") + file.read(_BLOCK))
    return digest.hexdigest()


def source_fingerprint(source: str) -> str:
    """Return a digest of what a source holds: of a local file its bytes, of a URL or data URI its text.

    A file that cannot be read gives the digest of its name.
    """
    try:
        if os.path.isfile(source):
            with open(source, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        pass
    return hashlib.sha256(os.fsencode(source)).hexdigest()


def model_fingerprint(model: Model) -> str:
    """Return a digest of the weights that a model has in memory, and of the adapters that are merged into them."""
    digest = weights_fingerprint(model.parts)
    merged = " ".join(adapter for _, adapter in model._origin.adapters)
    return hashlib.sha256(f"{digest} {merged}".encode()).hexdigest() if merged else digest


def weights_fingerprint(parts: nnx.Module) -> str:
    """Return a digest of the weights that a model has in memory: of each array its first row."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(parts)):
        row = np.asarray(leaf[(0,) * (leaf.ndim - 1)] if leaf.ndim > 1 else leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode() + row.tobytes())
    return digest.hexdigest()
