"""From the parameters of a model back to a checkpoint directory, in the form it was loaded from.

Each tensor gets the name and the shape that it had in the files, so whatever read the first directory reads the second.
Parts that loading skips, such as Qwen3-Omni's speech output, are not there to be written, and config.json then says so.
"""

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from tqdm import tqdm

from encoders.nn.context import as_weight, in_own_context
from encoders.nn.mesh import is_shared, on_host
from omni.checkpoint.quantize import refuse_quantized
from omni.checkpoint.rerankers import MARK, is_reranker
from omni.checkpoint.safetensors import write_tensors
from omni.errors import CheckpointError, InputError, shown
from omni.families import Family, Source

# Copied as they are; what else lies in a directory is not part of a checkpoint.
_COPIED = (
    "generation_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    # By these a directory tells sentence-transformers that it holds a model for embeddings, or a reranker.
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "1_LogitScore/config.json",
)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SILENT_BYTES = 1 << 30

Shard = dict[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True, eq=False)
class Origin:
    """What a model remembers of the directory it was loaded from.

    Attributes:
        directory: where its other files lie.
        family: the kind of checkpoint.
        config: the content of config.json.
        sources: parameter path -> where it lies, in canonical names.
        names: canonical tensor name -> name in the files.
        shapes: parameter path -> its shape in the files.
        absent: parts that were not loaded.
        float32: canonical names of tensors that files of bfloat16 hold, and that are kept, in float32.
        adapters: name and digest of each adapter that was merged into the weights.
    """

    directory: Path
    family: Family
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    names: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    absent: tuple[str, ...]
    float32: frozenset[str] = frozenset()
    adapters: tuple[tuple[str, str], ...] = ()


@in_own_context
def save(
    parts: nnx.Module, origin: Origin, directory: Path, *, max_shard_size: int | str = "5GB", overwrite: bool = False
) -> None:
    """Writes a checkpoint directory; see `Model.save`.

    Args:
        parts: the parameter tree.
        origin: where it was loaded from.
        directory: where to.
        max_shard_size: most bytes of weights in a file.
        overwrite: replace a checkpoint that is there.

    Raises:
        InputError: the model is not whole or has other parameters than the files, an option cannot be used, or the
            place is taken.
        CheckpointError: the directory that it was loaded from is gone.
    """
    if origin.absent:
        missing = " and ".join(origin.absent)
        raise InputError("part_not_loaded", f"a checkpoint is saved whole, and this model was loaded without {missing}")
    if directory.exists() and not directory.is_dir():
        raise InputError("not_a_directory", "the place to save to is a file")
    if not overwrite and holds_checkpoint(directory):
        raise InputError("checkpoint_exists", "the directory holds a checkpoint already; overwrite=True replaces it")
    if not origin.directory.is_dir():
        message = "the directory that the model was loaded from, and its tokenizer with it, is gone"
        raise CheckpointError(message, code="source_gone")
    refuse_quantized(parts, "saved")
    values = {".".join(map(str, path)): jax.numpy.asarray(leaf.get_value()) for path, leaf in _flat(parts)}
    parameters = {path: as_weight(value) for path, value in values.items()}
    _check_parameters(parameters, origin)
    dtype = _dtype(parameters, origin)
    shards = _shards(parameters, origin, _bytes(max_shard_size))
    if any(map(is_shared, parameters.values())):
        # Each process has a hand in what one of them writes, and goes on when that is done.
        if jax.process_index() == 0:
            _write(directory, shards, parameters, origin, dtype)
        else:
            for _ in _read(parameters, origin, tqdm(disable=True)):
                pass
        multihost_utils.sync_global_devices("omni.save")
        return
    _write(directory, shards, parameters, origin, dtype)


def _write(
    directory: Path, shards: list[Shard], parameters: Mapping[str, jax.Array], origin: Origin, dtype: str
) -> None:
    """Writes the directory's files beside it, and puts them in its place."""
    # What is half done lies beside or, where the directory stands already and may be a mount, hidden within.
    name = f".{directory.name}.saving-{secrets.token_hex(4)}"
    staging = directory / name if directory.is_dir() else directory.with_name(name)
    staging.mkdir(parents=True)
    try:
        _write_weights(staging, shards, parameters, origin)
        for file in _COPIED:
            if (origin.directory / file).is_file():
                (staging / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(origin.directory / file, staging / file)
        _write_json(staging / "config.json", _config(origin, dtype))
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _put_in_place(staging, directory)


def _flat(parts: nnx.Module) -> Any:
    return nnx.to_flat_state(nnx.state(parts))


def _check_parameters(parameters: Mapping[str, jax.Array], origin: Origin) -> None:
    """Refuses edits that a checkpoint of this form cannot hold: it would not be the model that was edited.

    Raises:
        InputError: `parameters_changed`, there are others than were loaded, or of other shapes.
    """
    shapes = {path: np.shape(value) for path, value in parameters.items()}
    wrong = [f"{path} is gone" for path in origin.shapes if path not in shapes]
    wrong += [f"{path} is new" for path in shapes if path not in origin.shapes]
    for path, shape in shapes.items():
        if path in origin.shapes and shape != origin.shapes[path]:
            wrong.append(f"{path} has the shape {list(shape)} in the place of {list(origin.shapes[path])}")
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        message = f"the files that the model was loaded from have no place for its parameters: {wrong[0][:300]}{more}"
        raise InputError("parameters_changed", message)


def _dtype(parameters: Mapping[str, jax.Array], origin: Origin) -> str:
    """That of all parameters but those which lay, and are kept, in float32.

    Raises:
        InputError: they are of several.
    """
    dtypes = sorted({leaf.dtype.name for path, leaf in parameters.items() if not _is_kept(path, leaf, origin)})
    if dtypes not in ([], ["float32"], ["bfloat16"]):
        raise InputError("bad_dtype", f"weights are saved all float32 or all bfloat16, not {' and '.join(dtypes)}")
    return dtypes[0] if dtypes else "float32"


def _is_kept(path: str, leaf: jax.Array, origin: Origin) -> bool:
    if leaf.dtype != np.float32 or not origin.float32:
        return False
    return any(name in origin.float32 for name, _, _ in origin.sources[path].pieces(leaf.shape))


def _pieces(path: str, value: jax.Array, origin: Origin) -> Iterator[tuple[str, Any, jax.ShapeDtypeStruct]]:
    """The tensors that a parameter is written as: canonical name, place, and shape and dtype in the file."""
    kept = _is_kept(path, value, origin)
    for name, place, shape in origin.sources[path].pieces(value.shape):
        narrow = kept and name not in origin.float32 and _is_bfloat16(value[place])
        dtype = jax.numpy.bfloat16 if narrow else value.dtype
        yield name, place, jax.ShapeDtypeStruct(shape, dtype)


def _is_bfloat16(value: Any) -> bool:
    """Whether bfloat16 holds the same numbers, as it does until an edit."""
    value = jax.numpy.asarray(value)
    return bool((value.astype(jax.numpy.bfloat16).astype(value.dtype) == value).all())


def _bytes(size: int | str) -> int:
    """Bytes from a number or from such as "5GB" and "512 MiB".

    Raises:
        InputError: it is neither.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT]?)(i?)B)?", str(size), re.IGNORECASE)
    if match:
        number, unit, binary = match.groups(default="")
        most = int(float(number) * (1024 if binary else 1000) ** _UNITS[unit.upper()])
        if most > 0:
            return most
    raise InputError("bad_shard_size", f"max_shard_size must be bytes, or such as '5GB' or '512MiB', got {shown(size)}")


def _shards(parameters: Mapping[str, jax.Array], origin: Origin, most: int) -> list[Shard]:
    """The tensors of each file, in the order in which they will be read from the device."""
    shards: list[Shard] = [{}]
    left = most
    for path, value in parameters.items():
        for canonical, _, leaf in _pieces(path, value, origin):
            size = leaf.size * leaf.dtype.itemsize
            if size > left and shards[-1]:
                shards.append({})
                left = most
            shards[-1][origin.names[canonical]] = leaf
            left -= size
    return shards


def _write_weights(directory: Path, shards: list[Shard], parameters: Mapping[str, jax.Array], origin: Origin) -> None:
    total = sum(leaf.size * leaf.dtype.itemsize for shard in shards for leaf in shard.values())
    silent = total < _SILENT_BYTES or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc="saving weights", disable=silent) as bar:
        arrays = _read(parameters, origin, bar)
        if len(shards) == 1:
            write_tensors(directory / "model.safetensors", shards[0], arrays, _notes(origin))
            return
        weight_map: dict[str, str] = {}
        for i, shard in enumerate(shards, start=1):
            file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
            write_tensors(directory / file, shard, islice(arrays, len(shard)), _notes(origin))
            weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(directory / "model.safetensors.index.json", index)


def _notes(origin: Origin) -> dict[str, str]:
    """What the files tell of the adapters in their weights: the last part of each name, and the digest."""
    merged = [f"{Path(name).name} sha256:{digest}" for name, digest in origin.adapters]
    return {"merged_adapters": ", ".join(merged)} if merged else {}


def _read(parameters: Mapping[str, jax.Array], origin: Origin, bar: Any) -> Iterator[np.ndarray]:
    """Every tensor in turn; of a stack of layers, one layer at a time comes to the host."""
    for path, value in parameters.items():
        source = origin.sources[path]
        depth = min(source.stacked, 1)
        at, host = None, np.empty(0)
        for _, place, leaf in _pieces(path, value, origin):
            if place[:depth] != at:
                at, host = place[:depth], on_host(value[place[:depth]])
            array = source.turned(host[place[depth:]]).astype(leaf.dtype, copy=False)
            yield array
            bar.update(array.nbytes)


def _config(origin: Origin, dtype: str) -> dict[str, Any]:
    """config.json with the dtype of what is written, wherever it names one."""

    def renamed(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: dtype if key in ("dtype", "torch_dtype") else renamed(inner) for key, inner in value.items()}

    config = renamed(origin.family.saved_config(origin.config))
    if origin.family.relevance is not None and is_reranker(origin.directory, origin.config):
        config = {**config, **MARK}  # the new directory may have another name
    return config if "dtype" in config or "torch_dtype" in config else config | {"dtype": dtype}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def holds_checkpoint(directory: Path) -> bool:
    """Whether a directory, which need not exist, has files that saving there would replace."""
    return any(_files_of_a_checkpoint(directory))


def _files_of_a_checkpoint(directory: Path) -> list[Path]:
    names = ("config.json", "model.safetensors.index.json")
    return [directory / name for name in names if (directory / name).exists()] + list(
        directory.glob("model*.safetensors")
    )


def _put_in_place(staging: Path, directory: Path) -> None:
    """Where the directory stands already, config.json goes first and comes last: nothing half done has one."""
    if not directory.exists():
        staging.rename(directory)
        return
    for path in _files_of_a_checkpoint(directory) + [directory / name for name in _COPIED]:
        path.unlink(missing_ok=True)
    files = [path for path in staging.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path == staging / "config.json"):
        target = directory / path.relative_to(staging)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    shutil.rmtree(staging)
