"""Checkpoint directories with random weights of any sizes, in the names that checkpoints are published with."""

import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Our canonical prefix -> the files'; the longest that fits wins.
PLAIN: Mapping[str, str] = {"": ""}
OMNI = {"": "thinker."}
VL = {"visual.": "model.visual.", "model.": "model.language_model.", "": ""}
ASR = {
    "audio_tower.proj1.": "model.multi_modal_projector.linear_1.",
    "audio_tower.proj2.": "model.multi_modal_projector.linear_2.",
    "audio_tower.": "model.audio_tower.",
    "model.": "model.language_model.",
}
_DRAWN = 1 << 24
_MARK = "written"


def write(
    directory: Path,
    config: Mapping[str, Any],
    dtype: str,
    prefixes: Mapping[str, str] = PLAIN,
    parts: tuple[str, ...] = ("vision", "audio", "text"),
) -> None:
    """Write config.json and model.safetensors.

    Args:
        directory: which is there.
        config: config.json.
        dtype: of the weights, float32 or bfloat16.
        prefixes: see `OMNI`, `VL` and `ASR`.
        parts: whose weights are written.
    """
    import ml_dtypes

    (directory / "config.json").write_text(json.dumps({**config, "dtype": dtype, "torch_dtype": dtype}))
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(np.float32)
    shapes = {_renamed(name, prefixes): shape for name, shape in _shapes(directory, parts)}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = kind.itemsize * int(np.prod(shape))
        code = "BF16" if dtype == "bfloat16" else "F32"
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64 + 56)  # so that the data begin at a multiple of 64
    drawn = np.random.Generator(np.random.PCG64(0)).random(_DRAWN, np.float32) * 2 - 1
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            for values in _values(name, shape, drawn):
                file.write(values.astype(kind).tobytes())


def _shapes(directory: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Canonical names and shapes, by what our own model needs."""
    from omni.checkpoint.config_file import read_config
    from omni.checkpoint.load import parameter_shapes
    from omni.loading import abstract_parts
    from processors import ImageConfig

    family, whole = read_config(directory)
    absent: dict[str, Any] = {part: None for part in ("vision", "audio", "text") if part not in parts}
    config = dataclasses.replace(whole, **absent)
    sources = family.sources(config)
    for path, leaf in parameter_shapes(abstract_parts(config, ImageConfig())).items():
        for name, _, shape in sources[path].pieces(leaf.shape):
            yield name, shape


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    prefix = max((one for one in prefixes if name.startswith(one)), key=len)
    return prefixes[prefix] + name.removeprefix(prefix)


def _values(name: str, shape: tuple[int, ...], drawn: np.ndarray) -> Iterator[np.ndarray]:
    """Uniform, of variance 1 / inputs; around 1 for a norm. Pieces of one long draw, from where the name says."""
    at = zlib.crc32(name.encode()) % len(drawn)
    norm = "norm" in name or ".ln_" in name
    if name.endswith(("A_log", "dt_bias")):
        scale, shift = 2.0, -2.0
    elif norm:
        scale, shift = 0.2, 1.0 if name.endswith("weight") else 0.0
    else:
        scale, shift = (3 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1, 0.0
    left = int(np.prod(shape))
    while left:
        part = drawn[at : at + left]
        yield part * np.float32(scale) + np.float32(shift)
        left, at = left - len(part), 0
