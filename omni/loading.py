"""`omni.load`: from a name to a model."""

import contextlib
import dataclasses
import functools
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from encoders.nn.context import in_own_context
from encoders.nn.kernels import api as kernels
from encoders.towers import AudioTower, VisionTower
from omni.call_options import DType, PartName, Quantization
from omni.checkpoint.adapters import open_adapters, with_adapters
from omni.checkpoint.config_file import check_token_ids, read_config
from omni.checkpoint.directory import check_directory, find_directory
from omni.checkpoint.interruptible import interrupts_as_such
from omni.checkpoint.json_file import read_json
from omni.checkpoint.load import (
    check_tensors,
    load_parameters,
    open_weights,
    parameter_shapes,
    without_copies,
)
from omni.checkpoint.parameter import Tensor
from omni.checkpoint.plan import check_fit, planned_weights
from omni.checkpoint.processor_settings import read_processor_settings
from omni.checkpoint.quantize import check_form
from omni.checkpoint.quantized import PackedTensor, without_quantization
from omni.checkpoint.save import Origin
from omni.config import GenerationConfig, ModelConfig, token_ids
from omni.decoder.model import TextDecoder
from omni.errors import CheckpointError, InputError, is_whole, shown
from omni.families import Family
from omni.media.encoder import MediaEncoder
from omni.model import Model
from omni.program_cache import enable_compilation_cache as enable_compilation_cache
from omni.prompt.template import ChatTemplate
from omni.prompt.tokenizer import Tokenizer
from omni.prompt.tokenizer_files import end_of_text
from processors import (
    Access,
    AudioProcessor,
    Deadline,
    ImageConfig,
    ImageProcessor,
    Limits,
    Sources,
    VideoProcessor,
)

kernels.enabled = os.environ.get("OMNI_KERNELS") != "0"  # encoders know nothing of the environment

PARTS: tuple[PartName, ...] = ("vision", "audio", "text")


class Parts(nnx.Module):
    """The parameter tree of a whole model: the parts that were asked for."""

    def __init__(self, config: ModelConfig, images: ImageConfig, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        if config.vision is not None:
            # The tower divides grey levels by 255; a file's own factor goes into the mean and deviation.
            unit = 255 * images.rescale_factor
            mean, std = ((r / unit, g / unit, b / unit) for r, g, b in (images.image_mean, images.image_std))
            self.vision: VisionTower = VisionTower(
                config.vision, rngs=rngs, dtype=dtype, image_mean=mean, image_std=std
            )
        if config.audio is not None:
            self.audio: AudioTower = AudioTower(config.audio, rngs=rngs, dtype=dtype)
        if config.text is not None:
            self.text: TextDecoder = TextDecoder(config.text, rngs=rngs, dtype=dtype)


@interrupts_as_such()
@in_own_context
def load(
    name: str | os.PathLike[str],
    *,
    parts: PartName | Sequence[PartName] = PARTS,
    dtype: DType | None = None,
    quantize: Quantization | None = None,
    adapters: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    mesh: Mesh | None = None,
    progress: bool | None = None,
    revision: str | None = None,
    offline: bool = False,
    limits: Limits | None = None,
    sources: Sources | None = None,
    check_finite: bool = True,
    deadline: float | None = None,
    cache_bytes: int | None = None,
    media_cache_bytes: int = 128 << 20,
) -> Model:
    """Loads a checkpoint.

    Args:
        name: "demo", a directory as the hub holds it, or a name on the hub such as
            "Qwen/Qwen3-Omni-30B-A3B-Instruct".
        parts: which of "vision", "audio" and "text" to load, one or several; the weights of the others are never read.
        dtype: of the weights and activations, "float32" or "bfloat16"; the files' own when None (float32 for
            float16 files, bfloat16 for quantised ones that do not say float32). Tensors that files of bfloat16 hold in
            float32 then stay in float32.
        quantize: "int8" keeps the matrices of all parts as integers of 8 bits with a scale a row, in about half
            the memory of bfloat16; activations stay in `dtype`. Those that files hold so are kept as they are, with
            None too; "off" keeps none. A model of integers can be neither saved nor trained.
        adapters: directories of LoRA adapters as PEFT writes them, or names on the hub; the sum of several. They are
            merged into the weights, before these are quantised, and `save` writes the merged weights.
        mesh: devices to spread the model over, taken as it is: the names of its axes say how. Along "tensor" (or
            "model") heads and hidden units are cut, along "expert" experts, along "fsdp" the width of the weights, and
            along "data" and "fsdp" rows of batches. Of a mesh without these the last axis is "tensor". What an axis
            does not divide evenly lies whole on each of its devices; `omni info --mesh` says what. On the default
            device when None, also where `jax.set_mesh` has set a mesh.
        progress: show a bar; when None, only for long loads on a terminal.
        revision: branch, tag or commit of a name on the hub; its main branch when None.
        offline: read what the hub's cache holds, and use no network.
        limits: how much any medium may take that the model reads; the defaults of `Limits` when None.
        sources: where media may come from; the defaults of `Sources` when None.
        check_finite: refuse weights that are NaN or infinite, which takes some 0.15 s a GB of bfloat16.
        deadline: seconds that loading may take, a download included.
        cache_bytes: most bytes that keys, values and states of conversations may take; a quarter of the
            machine's memory when None.
        media_cache_bytes: most bytes of embeddings that are kept of media in conversations; 0 keeps none.

    Raises:
        CheckpointError: the directory cannot be loaded, with everything that is wrong with its tensors at once;
            `too_large`, the devices cannot hold the weights, told before any is read.
    """
    check = _deadline_check(deadline)
    parts = _chosen(parts)
    for option, kind in ((limits, Limits), (sources, Sources)):
        if not isinstance(option, kind | None):
            message = f"{kind.__name__.lower()} must be an omni.{kind.__name__}, not {shown(option)}"
            raise CheckpointError(message, code="bad_option")
    for size in (cache_bytes, media_cache_bytes):
        if size is not None and (not is_whole(size) or size < 0):
            raise CheckpointError(f"a cache is so many bytes large, not {shown(size)}", code="bad_option")
    check_form(quantize)
    access = Access(limits or Limits(), sources or Sources())
    enable_compilation_cache()
    directory = find_directory(name, revision=revision, offline=offline, check=check)
    check_directory(directory)
    opened_adapters = open_adapters(adapters, offline, check)
    family, whole = read_config(directory)
    config = dataclasses.replace(
        whole,
        vision=whole.vision if "vision" in parts else None,
        audio=whole.audio if "audio" in parts else None,
        text=whole.text if "text" in parts else None,
    )
    if config.vision is config.audio is config.text is None:
        message = f"a {family.name} checkpoint has none of the parts {', '.join(parts)}"
        raise CheckpointError(message, code="part_not_there")
    opened, method = open_weights(directory, family, whole.dtype)
    stored = without_copies(opened, _tied(family, whole))
    config = without_absent_head(directory, family, config, stored)
    chosen = _dtype(dtype if dtype is not None else _file_dtype(whole, stored))
    images, videos, mel = read_processor_settings(directory, config)
    raw = read_json(directory / "config.json")
    tokenizer = _tokenizer(directory, whole)
    generation = _generation(directory, raw, whole, tokenizer)
    template = _template(directory, family)
    model = abstract_parts(config, images, chosen)
    shapes = parameter_shapes(model)
    places = {path: source.as_stored(shapes[path].shape, stored) for path, source in family.sources(config).items()}
    elsewhere = set()
    if config != whole:
        elsewhere = _names(family, whole, images, stored) - _names(family, config, images, stored)
    check_tensors(shapes, places, stored, elsewhere)
    readable = stored
    if opened_adapters:
        every = shapes if config == whole else {**parameter_shapes(abstract_parts(whole, images)), **shapes}
        tied = _tied(family, whole)
        readable = with_adapters(stored, opened_adapters, family, family.sources(whole), every, places, tied)
    kept = dtype is None and chosen == jnp.bfloat16
    check_fit(planned_weights(shapes, places, stored, chosen, kept, quantize), mesh)
    load_parameters(
        model,
        places,
        readable,
        dtype=chosen,
        keep_float32=kept,
        check_finite=check_finite,
        quantize=quantize,
        mesh=mesh,
        progress=progress,
        check=check,
    )
    demo = raw.get("omni_demo")
    trained = not isinstance(demo, Mapping) or demo.get("trained", True)
    return Model(
        os.fspath(name),
        config,
        parts=model,
        origin=Origin(
            directory,
            family,
            raw if method is None else without_quantization(raw),
            places,
            names={canonical: tensor.name for canonical, tensor in stored.items()},
            float32=frozenset(name for name, tensor in stored.items() if kept and tensor.dtype == np.float32),
            shapes={path: tuple(leaf.shape) for path, leaf in shapes.items()},
            absent=tuple(part for part in PARTS if getattr(whole, part) is not None and part not in parts),
            adapters=tuple((adapter.name, adapter.digest) for adapter in opened_adapters),
        ),
        media=MediaEncoder(
            ImageProcessor(images, access=access),
            VideoProcessor(videos, access=access),
            AudioProcessor(mel, access=access),
            parts=tuple(part for part in PARTS if getattr(whole, part) is not None),
            access=access,
        ).with_towers(model),
        tokenizer=tokenizer,
        template=template,
        generation=generation,
        notice=None if trained else "the demo checkpoint is untrained: what it answers is noise",
        cache_bytes=cache_bytes,
        media_cache_bytes=media_cache_bytes,
    )


def abstract_parts(config: ModelConfig, images: ImageConfig, dtype: Any = jnp.float32) -> Parts:
    """The parameter tree with shapes and no weights."""
    # How transcripts are written and relevance is asked changes no parameter, and tables of languages have no hash.
    graph, state = _abstract(dataclasses.replace(config, transcript=None, relevance=None), images, jnp.dtype(dtype))
    return nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))  # with parameters of its own


@functools.lru_cache(maxsize=16)
def _abstract(config: ModelConfig, images: ImageConfig, dtype: Any) -> tuple[Any, Any]:
    # To trace every initializer takes longer than to read the weights of a small model.
    return nnx.split(nnx.eval_shape(lambda: Parts(config, images, rngs=nnx.Rngs(0), dtype=dtype)))


def _deadline_check(seconds: float | None) -> Callable[[], None]:
    """What raises once the time of a load is up."""
    try:
        end = Deadline(seconds)
    except InputError as error:
        raise CheckpointError(str(error), code=error.code) from None

    def check() -> None:
        try:
            end.check()
        except InputError as error:
            raise CheckpointError(f"loading was {error}", code=error.code) from None

    return check


def _chosen(parts: Any) -> tuple[PartName, ...]:
    several: tuple[Any, ...] = (
        (parts,) if isinstance(parts, str) else tuple(parts) if isinstance(parts, Sequence) else (parts,)
    )
    unknown = [shown(part) for part in several if part not in PARTS]
    if unknown or not several:
        message = f"parts must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}"
        raise CheckpointError(message, code="bad_option")
    return several


def _tokenizer(directory: Path, config: ModelConfig) -> Tokenizer | None:
    if not Tokenizer.exists(directory):
        return None
    tokenizer = Tokenizer.from_directory(directory)
    if config.text is not None:
        check_token_ids({"the largest id of the tokenizer": tokenizer.size - 1 or None}, config.text.vocab_size)
    return tokenizer


def _template(directory: Path, family: Family) -> ChatTemplate:
    try:
        return ChatTemplate.from_directory(directory, default=family.template)
    except (RecursionError, SyntaxError) as error:
        # What the template's compiler hands on to Python's.
        message = f"the chat template cannot be compiled: {type(error).__name__}"
        raise CheckpointError(message, code="bad_template") from error


def _generation(
    directory: Path, raw: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer | None
) -> GenerationConfig:
    """Sampling defaults and end tokens: where generation_config.json names no end, the other files' together."""
    settings = read_json(directory / "generation_config.json", required=False)
    ends: list[int] = []
    level: Any = raw
    for name in ("thinker_config", "text_config", ""):
        ends += token_ids(level.get("eos_token_id"), "config.json: eos_token_id")
        level = inner if isinstance(inner := level.get(name), Mapping) else level
    text = end_of_text(directory) if tokenizer is not None else None
    if text is not None and tokenizer is not None:
        end = tokenizer.id_of(text)
        if end is None:
            warnings.warn(f"the tokenizer has no token {text[:60]!r}, which its files name as the end", stacklevel=3)
        else:
            ends.append(end)
    generation = GenerationConfig.from_dict(settings, otherwise=tuple(dict.fromkeys(ends)))
    if config.text is not None:
        check_token_ids([("an end token", i) for i in generation.eos_token_ids], config.text.vocab_size)
    return generation


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


def _names(family: Family, config: ModelConfig, images: ImageConfig, stored: Mapping[str, Tensor]) -> set[str]:
    shapes, sources = parameter_shapes(abstract_parts(config, images)), family.sources(config)
    found = ((sources[path].as_stored(leaf.shape, stored), leaf.shape) for path, leaf in shapes.items())
    return {name for source, shape in found for name, _, _ in source.pieces(shape)}


def _file_dtype(config: ModelConfig, stored: Mapping[str, Tensor]) -> str:
    packed = next((tensor for tensor in stored.values() if isinstance(tensor, PackedTensor)), None)
    if packed is not None:
        return packed.dtype.name
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
    raise CheckpointError(f"dtype must be float32 or bfloat16, got {shown(value)}", code="bad_option")
