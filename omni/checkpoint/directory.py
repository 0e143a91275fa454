"""From a name to a directory that holds a checkpoint, and a plain word where it holds something else."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from omni.checkpoint.interruptible import call
from omni.checkpoint.json_file import foreign_format
from omni.checkpoint.training_run import unfinished_run
from omni.errors import CheckpointError

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "heldout.zip", "replay.zip"]
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Small files that a version control may have left as pointers to themselves.
_SETTINGS = """config.json generation_config.json preprocessor_config.json video_preprocessor_config.json
processor_config.json tokenizer.json tokenizer_config.json vocab.json merges.txt special_tokens_map.json
chat_template.jinja chat_template.json model.safetensors.index.json""".split()
# What lies there instead of a checkpoint: code, patterns of its files, and what to say.
_ELSE = (
    ("gguf", ("*.gguf",), "holds GGUF files of llama.cpp; load the safetensors checkpoint that they were made from"),
    (
        "pytorch_weights",
        ("pytorch_model*.bin", "*.pth", "*.pt", "*.ckpt", "*.bin"),
        "holds weights as pickles of PyTorch, which are not read; save the model again as safetensors "
        "(`save_pretrained` of transformers does)",
    ),
    ("onnx", ("*.onnx", "onnx/*.onnx"), "holds an ONNX model; load the safetensors checkpoint that it was made from"),
    (
        "other_framework",
        ("tf_model*.h5", "flax_model*.msgpack", "*.npz", "openvino_model.xml", "*.tflite", "*.mlpackage"),
        "holds weights for another framework; load the safetensors checkpoint that they were made from",
    ),
)
_INCOMPLETE = ("*.incomplete", ".cache/huggingface/download/**/*.incomplete", "*.part", "*.crdownload", "*.aria2")


def find_directory(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """The local directory of a checkpoint, downloaded and cached when it is a name on the hub.

    Args:
        name: "demo", a directory, or a name on the hub.
        revision: branch, tag or commit on the hub; its main branch when None.
        offline: take what the hub's cache holds, and use no network.
        check: called while a download runs; what it raises ends it.

    Raises:
        CheckpointError: there is no such directory, and the hub or its cache has no such checkpoint.
    """
    if not isinstance(offline, bool):
        raise CheckpointError(f"offline must be True or False, not a {type(offline).__name__}", code="bad_option")
    if revision is not None and (not isinstance(revision, str) or not revision or len(revision) > 200):
        raise CheckpointError("revision must be the name of a branch, a tag or a commit", code="bad_option")
    local = _local(name)
    if local is not None:
        if revision is not None:
            message = "revision is for names on the hub; a local directory has no revisions"
            raise CheckpointError(message, code="bad_option")
        return local
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        shown = os.fspath(name) if isinstance(name, str | os.PathLike) else f"a {type(name).__name__}"
        message = f"{str(shown)[:200]} is not a directory, and not a name on the hub such as Qwen/Qwen3-0.6B"
        raise CheckpointError(message, code="checkpoint_not_found")
    return _from_hub(name, revision, offline, check)


def _local(name: Any) -> Path | None:
    """A directory of this machine; None for what may be a name on the hub, or nothing."""
    if name == "demo":
        return Path(str(files("omni") / "assets" / "demo"))
    if not isinstance(name, str | os.PathLike):
        return None
    if os.path.isdir(name):  # unlike Path.is_dir, False for what cannot be a path at all
        return Path(os.fsdecode(name))
    if os.path.isfile(name):
        path = Path(os.fsdecode(name))
        try:
            with path.open("rb") as file:
                what = foreign_format(file.read(64))
        except OSError:
            what = None
        code, kind = what or ("not_a_directory", "a file; load the directory that it lies in")
        raise CheckpointError(f"{str(path)[:200]} is {kind}", code=code)
    return None


def _from_hub(name: str, revision: str | None, offline: bool, check: Callable[[], None]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import tqdm

    def download(interrupted: threading.Event) -> Path:
        class Bar(tqdm):
            """The hub's own, at which its threads also stop."""

            def update(self, n: float | None = 1) -> bool | None:
                if interrupted.is_set():
                    raise InterruptedError
                return super().update(n)

        options = {"tqdm_class": Bar, "allow_patterns": _HUB_FILES}
        return Path(snapshot_download(name, revision=revision, local_files_only=offline, **options))

    try:
        return call(download, check)
    except CheckpointError:
        raise
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        if offline and isinstance(error, LocalEntryNotFoundError):
            at = f" at revision {revision}" if revision else ""
            message = f"{name}{at} is not whole in the hub's cache, and offline=True leaves the network alone"
            raise CheckpointError(message, code="not_cached") from error
        # The text of an OSError holds a path of the cache; `strerror` is the sentence alone.
        text = (getattr(error, "strerror", None) or str(error)).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        message = f"{name} is not a directory here and could not be fetched from the hub: {reason}"
        raise CheckpointError(message, code="hub_failed") from error


def check_directory(directory: Path) -> None:
    """Says what a directory holds that is no checkpoint with weights in safetensors.

    Raises:
        CheckpointError: it is something else, empty, or not wholly there.
    """
    try:
        _check(directory)
    except OSError as error:
        message = f"the directory cannot be read: {error.strerror or type(error).__name__}"
        raise CheckpointError(message, code="file_unreadable") from error


def _check(directory: Path) -> None:
    for name in _SETTINGS:
        if (directory / name).is_file():
            with (directory / name).open("rb") as file:
                what = foreign_format(file.read(64))
            if what is not None:
                raise CheckpointError(f"{name} is {what[1]}", code=what[0])
    if (directory / "adapter_config.json").is_file():
        message = "the directory holds an adapter of PEFT (LoRA), not a whole model"
        raise CheckpointError(f"{message}; load its base model, with adapters= this directory", code="adapter")
    if (directory / "model_index.json").is_file() and not (directory / "config.json").is_file():
        message = "the directory holds a pipeline of diffusers (model_index.json), which makes pictures and is no chat"
        raise CheckpointError(f"{message} model; it is not supported", code="diffusers")
    if not any((directory / name).is_file() for name in _WEIGHTS):
        _explain(directory)
    elif not (directory / "config.json").is_file():
        raise CheckpointError("config.json is not in the checkpoint directory", code="file_missing")


def _explain(directory: Path) -> None:
    """Why a directory without weights has none."""
    unfinished = unfinished_run(directory)
    if unfinished is not None:
        raise CheckpointError(f"the directory holds a {unfinished}"[:500], code="unfinished_training")
    for code, patterns, what in _ELSE:
        if any(_matching(directory, patterns)):
            raise CheckpointError(f"the directory {what}", code=code)
    if is_incomplete(directory):
        message = "the directory is of a download that did not end; fetch the checkpoint again"
        raise CheckpointError(message, code="partial_download")
    names = sorted(path.name for path in directory.iterdir())
    if not [name for name in names if not name.startswith(".")]:
        raise CheckpointError("the directory is empty", code="empty_directory")
    below = sorted(path.parent.relative_to(directory).as_posix() for path in _below(directory))
    if below and not (directory / "config.json").is_file():
        listed = ", ".join(name[:100] for name in below[:3])
        message = f"the directory holds no checkpoint itself; load one of those below it: {listed}"
        raise CheckpointError(message, code="checkpoint_below", problems=below[3:] and below)
    if not (directory / "config.json").is_file():
        raise CheckpointError("config.json is not in the checkpoint directory", code="file_missing")
    others = [name for name in names if name.endswith(".safetensors")]
    message = f"no {_WEIGHTS[0]} and no {_WEIGHTS[1]} in the checkpoint directory"
    if others:
        message += f"; {others[0][:100]} is there, which nothing names as the model's weights"
    raise CheckpointError(message, code="no_weights")


def is_incomplete(directory: Path) -> bool:
    """Whether a download into the directory did not end."""
    return any(_matching(directory, _INCOMPLETE))


def _matching(directory: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from directory.glob(pattern)


def _below(directory: Path) -> Iterator[Path]:
    """Checkpoints of a run of training, or of a cache of the hub."""
    for pattern in ("*/config.json", "snapshots/*/config.json"):
        yield from directory.glob(pattern)
