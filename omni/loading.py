"""`omni.load`: from a name to a model."""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType, Mesh

from encoders.towers import AudioTower, VisionTower
from omni.checkpoint import canonical_names, check_tensors, load_parameters, parameter_shapes, without_copies
from omni.config import GenerationConfig, ModelConfig, read_json
from omni.decoder.model import TextDecoder
from omni.encoding import MediaEncoder
from omni.errors import CheckpointError, is_number, is_whole, shown
from omni.families import Family, family_of
from omni.model import Model
from omni.safetensors_file import StoredTensor, open_tensors
from omni.saving import Origin
from omni.template import ChatTemplate
from omni.tokenizer import Tokenizer
from processors import AudioConfig as MelConfig
from processors import AudioProcessor, ImageConfig, ImageProcessor, VideoConfig, VideoProcessor

PARTS = ("vision", "audio", "text")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What is gone through one by one, under the names of all configs; their product counts tensors.
_COUNTED = ("num_hidden_layers", "encoder_layers", "depth", "num_experts")
_MOST_COUNTED = 1_000_000
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "heldout.zip"]


class Parts(nnx.Module):
    """The parameter tree of a whole model: the parts that were asked for."""

    def __init__(self, config: ModelConfig, images: ImageConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        if config.vision is not None:
            # The tower divides grey levels by 255; a file's own factor goes into the mean and deviation.
            unit = 255 * images.rescale_factor
            mean, std = ((r / unit, g / unit, b / unit) for r, g, b in (images.image_mean, images.image_std))
            self.vision = VisionTower(config.vision, rngs=rngs, dtype=dtype, image_mean=mean, image_std=std)
        if config.audio is not None:
            self.audio = AudioTower(config.audio, rngs=rngs, dtype=dtype)
        if config.text is not None:
            self.text = TextDecoder(config.text, rngs=rngs, dtype=dtype)


def load(
    name: str | os.PathLike[str],
    *,
    parts: Sequence[str] = PARTS,
    dtype: Any = None,
    mesh: Mesh | None = None,
    progress: bool | None = None,
) -> Model:
    """Loads a checkpoint.

    Args:
        name: "demo", a directory as the hub holds it, or a name on the hub such as
            "Qwen/Qwen3-Omni-30B-A3B-Instruct".
        parts: which of "vision", "audio" and "text" to load, one or several; the weights of the others are never read.
        dtype: of the weights and activations, "float32" or "bfloat16"; the files' own when None (float32 for
            float16 files).
        mesh: devices to spread the weights over, along the mesh's last axis.
        progress: show a bar; when None, only for long loads on a terminal.

    Raises:
        CheckpointError: the directory cannot be loaded, with everything that is wrong with its tensors at once.
    """
    parts = (parts,) if isinstance(parts, str) else parts
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise CheckpointError(f"parts must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}")
    enable_compilation_cache()
    directory = find_directory(name)
    family, whole = read_config(directory)
    config = dataclasses.replace(
        whole,
        vision=whole.vision if "vision" in parts else None,
        audio=whole.audio if "audio" in parts else None,
        text=whole.text if "text" in parts else None,
    )
    if config.vision is config.audio is config.text is None:
        raise CheckpointError(f"a {family.name} checkpoint has none of the parts {', '.join(parts)}")
    stored = without_copies(canonical_names(open_tensors(directory), family), _tied(family, whole))
    config = without_absent_head(directory, family, config, stored)
    chosen = _dtype(dtype if dtype is not None else _file_dtype(whole, stored))
    images = _settings(ImageConfig, directory, needed=config.vision is not None)
    videos = _settings(VideoConfig, directory, needed=config.vision is not None)
    sounds = _settings(MelConfig, directory, needed=config.audio is not None)
    model = abstract_parts(config, images, chosen)
    shapes = parameter_shapes(model)
    sources = {path: source.as_stored(shapes[path].shape, stored) for path, source in family.sources(config).items()}
    elsewhere = _names(family, whole, images, stored) - _names(family, config, images, stored)
    check_tensors(shapes, sources, stored, elsewhere)
    if mesh is not None:
        # The compiler is to place what is computed, also on a mesh whose axes were made to be placed by hand.
        mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    load_parameters(model, sources, stored, dtype=chosen, mesh=mesh, progress=progress)
    raw = read_json(directory / "config.json")
    trained = raw.get("omni_demo", {}).get("trained", True)
    return Model(
        os.fspath(name),
        config,
        parts=model,
        origin=Origin(
            directory,
            family,
            raw,
            sources,
            names={canonical: tensor.name for canonical, tensor in stored.items()},
            absent=tuple(part for part in PARTS if getattr(whole, part) is not None and part not in parts),
        ),
        media=MediaEncoder(
            ImageProcessor(images),
            VideoProcessor(videos),
            AudioProcessor(sounds),
            parts=tuple(part for part in PARTS if getattr(whole, part) is not None),
        ).with_towers(model),
        tokenizer=Tokenizer.from_directory(directory) if Tokenizer.exists(directory) else None,
        template=ChatTemplate.from_directory(directory, default=family.template),
        generation=GenerationConfig.from_dict(read_json(directory / "generation_config.json", required=False)),
        notice=None if trained else "the demo checkpoint is untrained: what it answers is noise",
    )


def find_directory(name: str | os.PathLike[str]) -> Path:
    """The local directory of a checkpoint, downloaded and cached when it is a name on the hub."""
    if name == "demo":
        return Path(str(files("omni") / "assets" / "demo"))
    if os.path.isdir(name):  # unlike Path.is_dir, False for what cannot be a path at all
        return Path(name)
    if not isinstance(name, str) or not _HUB_NAME.fullmatch(name):
        raise CheckpointError(
            f"{os.fspath(name)} is not a directory, and not a name on the hub such as Qwen/Qwen3-0.6B"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        # The text of an OSError holds a path of the cache; `strerror` is the sentence alone.
        text = (getattr(error, "strerror", None) or str(error)).strip()
        reason = text.splitlines()[0][:200] if text else type(error).__name__
        raise CheckpointError(
            f"{name} is not a directory here and could not be fetched from the hub: {reason}"
        ) from error


def read_config(directory: Path) -> tuple[Family, ModelConfig]:
    """The family of a checkpoint directory, and its configuration."""
    raw = read_json(directory / "config.json")
    model_type = raw.get("model_type")
    family = family_of(model_type if isinstance(model_type, str) else None)
    _check_counts(raw)
    try:
        config = family.read(raw)
        _check_types(config)
        return family, config
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: {error}") from error


def _check_counts(raw: Mapping[str, Any]) -> None:
    """Refuses more layers and experts than any model has, before anything goes through them one by one."""
    counts = {name: raw[name] for name in _COUNTED if is_whole(raw.get(name)) and raw[name] > 0}
    if math.prod(counts.values()) > _MOST_COUNTED:
        named = ", ".join(f"{name}={shown(count)}" for name, count in counts.items())
        raise CheckpointError(f"config.json: {named}: no model has so many")
    for value in raw.values():
        if isinstance(value, Mapping):
            _check_counts(value)


def _check_types(config: ModelConfig) -> None:
    """Refuses fields that are not of the type that the configs declare: JSON can hold anything."""
    for part in (config.vision, config.audio, config.text):
        for field in () if part is None else dataclasses.fields(part):
            value = getattr(part, field.name)
            # Dense models have no experts; all other sizes are those of something.
            least = 0 if "expert" in field.name else 1
            fits = {
                int: is_whole(value) and least <= value < 1 << 31,
                float: is_number(value),
                bool: isinstance(value, bool),
            }
            if not fits.get(field.type, True):
                raise ValueError(f"{field.name} cannot be {shown(value)}")


def abstract_parts(config: ModelConfig, images: ImageConfig, dtype: Any = jnp.float32) -> Parts:
    """The parameter tree with shapes and no weights."""
    return nnx.eval_shape(lambda: Parts(config, images, rngs=nnx.Rngs(0), dtype=dtype))


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, unless the user has chosen a place for them already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "omni-jax" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


C = TypeVar("C", ImageConfig, VideoConfig, MelConfig)


def _settings(kind: type[C], directory: Path, *, needed: bool) -> C:
    """A processor's settings; the defaults where no part needs them."""
    if not needed:
        return kind()
    try:
        return kind.from_pretrained(directory)
    except FileNotFoundError as error:
        raise CheckpointError("no preprocessor_config.json in the checkpoint directory") from error
    except ValueError as error:
        raise CheckpointError(f"the processor settings cannot be used: {error}") from error


def _tied(family: Family, config: ModelConfig) -> dict[str, str]:
    """The output head's tensor -> the embedding's, where the two are one parameter."""
    if config.text is None or not config.text.tie_word_embeddings:
        return {}
    untied = dataclasses.replace(config, text=dataclasses.replace(config.text, tie_word_embeddings=False))
    sources = family.sources(untied)
    return {sources["text.lm_head.weight"].pattern: sources["text.embed_tokens.weight"].pattern}


def without_absent_head(directory: Path, family: Family, config: ModelConfig, stored: Mapping[str, Any]) -> ModelConfig:
    """The config without an output head, where a directory holds a model for embeddings, and its files none.

    Such a directory says so by the files of sentence-transformers, or names a class without a head.
    """
    head = family.sources(config).get("text.lm_head.weight")
    if config.text is None or head is None or head.pattern in stored:
        return config
    named = read_json(directory / "config.json").get("architectures")
    classes = list(map(str, named)) if isinstance(named, list) else []
    headless = bool(classes) and not any(re.search("For(?!Embedding)", name) for name in classes)
    if not headless and not (directory / "modules.json").is_file():
        return config
    return dataclasses.replace(config, text=dataclasses.replace(config.text, output_head=False))


def _names(family: Family, config: ModelConfig, images: ImageConfig, stored: Mapping[str, StoredTensor]) -> set[str]:
    shapes, sources = parameter_shapes(abstract_parts(config, images)), family.sources(config)
    found = ((sources[path].as_stored(leaf.shape, stored), leaf.shape) for path, leaf in shapes.items())
    return {name for source, shape in found for name, _, _ in source.pieces(shape)}


def _file_dtype(config: ModelConfig, stored: Mapping[str, StoredTensor]) -> str:
    # config.json may be silent, or older than the files: what lies on disk decides. Some files of bfloat16 hold a few
    # small tensors of float32.
    sizes: dict[str, int] = {}
    for tensor in stored.values():
        name = tensor.dtype.name
        sizes[name] = sizes.get(name, 0) + math.prod(tensor.shape)
    most = max(sizes, key=lambda name: sizes[name], default=config.dtype or "float32")
    return "float32" if most == "float16" else most


def _dtype(value: Any) -> jnp.dtype:
    for dtype in (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)):
        with contextlib.suppress(TypeError):
            if jnp.dtype(value) == dtype:
                return dtype
    raise CheckpointError(f"dtype must be float32 or bfloat16, got {value}")
