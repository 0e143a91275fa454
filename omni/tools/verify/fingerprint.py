"""What a record tells of the model and of the machine that it was made with."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

import omni
from omni.model import Model

# Files up to so many bytes are hashed whole, larger ones at so many places.
_WHOLE, _PLACES, _BLOCK = 1 << 28, 64, 1 << 16
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "soxr", "av", "tokenizers", "jinja2")


def describe(model: Model, directory: Path, dtype: str) -> dict[str, Any]:
    """The model, its files, settings, dtype, device and the versions at work; no times and no places.

    Args:
        model: what is recorded.
        directory: where its files lie.
        dtype: of its weights.
    """
    device = jax.devices()[0]
    media = model.media
    used = {"image": media.image, "video": media.video} if "vision" in media.parts else {}
    used |= {"audio": media.audio} if "audio" in media.parts else {}
    return {
        "name": Path(model.name).name,
        "config_sha256": _sha256((directory / "config.json").read_bytes()),
        "weights_sha256": hash_weights(directory),
        "dtype": dtype,
        "platform": device.platform,
        "device": device.device_kind,
        "processors": {name: asdict(processor.config) for name, processor in used.items()},
        "versions": {"omni": omni.__version__, "python": platform.python_version(), **dict(_versions(_PACKAGES))},
    }


def hash_weights(directory: Path) -> str:
    """sha256 over the weights of a directory: over all of a file or, of large ones, its header and 64 blocks of it."""
    state = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        size = path.stat().st_size
        state.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                while block := file.read(1 << 20):
                    state.update(block)
                continue
            header = 8 + min(int.from_bytes(file.read(8), "little"), size - 8)
            file.seek(0)
            state.update(file.read(header))
            for place in range(_PLACES):
                file.seek(header + (size - header - _BLOCK) * place // (_PLACES - 1))
                state.update(file.read(_BLOCK))
    return state.hexdigest()


def changes(recorded: Mapping[str, Any], ours: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """What two descriptions differ in, a line each; what one of them leaves out is no difference."""
    for key in recorded:
        name = f"{before}{key}"
        if isinstance(recorded[key], Mapping) and isinstance(ours.get(key), Mapping):
            yield from changes(recorded[key], ours[key], f"{name} ")
        elif key in ours and json.loads(json.dumps(ours[key])) != recorded[key] and key != "name":
            told = "differs" if key.endswith("sha256") else f"{recorded[key]} in the record, {ours[key]} here"
            yield f"{name}: {told}"


def _versions(packages: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for package in packages:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
