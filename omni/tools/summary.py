"""What `omni info` says of a checkpoint, from its config and its file headers alone."""

import math
import os

import jax
import jax.numpy as jnp

from omni.checkpoint.config_file import read_config
from omni.checkpoint.directory import check_directory, find_directory
from omni.checkpoint.load import open_weights, parameter_shapes
from omni.checkpoint.quantized import PackedTensor
from omni.checkpoint.training_run import STATE_FOLDER, unfinished_run
from omni.config import ModelConfig
from omni.decoder.cache import HybridCache
from omni.loading import abstract_parts, without_absent_head
from processors import ImageConfig


def summary(name: str | os.PathLike[str]) -> str:
    """A few lines: family, parts with their sizes and parameter counts, and the memory that weights and cache need.

    Of the folder of a training run that has not ended: how far it is, and how it goes on.

    Raises:
        CheckpointError: the directory is not a checkpoint.
    """
    directory = find_directory(name)
    if unfinished := unfinished_run(directory):
        from omni.training.state import saved_step

        done = saved_step(directory / STATE_FOLDER) or 0
        return f"{os.fspath(name)}: a {unfinished}\n{done} of {unfinished.steps} steps are saved, and no checkpoint yet"
    check_directory(directory)
    family, config = read_config(directory)
    stored, method = open_weights(directory, family, config.dtype)
    config = without_absent_head(directory, family, config, stored)
    counts: dict[str, int] = {}
    for path, leaf in parameter_shapes(abstract_parts(config, ImageConfig())).items():
        part = path.split(".")[0]
        counts[part] = counts.get(part, 0) + math.prod(leaf.shape)
    total = sum(counts.values())
    dtypes = sorted({tensor.dtype.name for tensor in stored.values()})
    kind = f"{family.name}{', a reranker' if config.relevance is not None else ''}"
    lines = [f"{os.fspath(name)}: {kind}, {len(stored)} tensors in {', '.join(dtypes)}"]
    if method is not None:
        packed = sum(isinstance(tensor, PackedTensor) for tensor in stored.values())
        lines.append(f"{packed} of them quantised: {method.name}")
    lines.append("")
    for part, description in _describe(config).items():
        lines.append(f"{part:8} {_count(counts[part]):>8}  {description}")
    lines.append(f"{'total':8} {_count(total):>8}")
    lines.append("")
    for dtype in ("float32", "bfloat16"):
        lines.append(f"weights in {dtype}: {_bytes(total * jnp.dtype(dtype).itemsize)}")
    if config.text is not None:
        text = config.text
        cache = jax.eval_shape(lambda: HybridCache.create(text, 1, 1000, jnp.bfloat16))
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
        lines.append(f"cache of 1,000 tokens in bfloat16: {_bytes(size)}")
    return "\n".join(lines)


def _describe(config: ModelConfig) -> dict[str, str]:
    found = {}
    if (vision := config.vision) is not None:
        found["vision"] = (
            f"{vision.depth} layers of {vision.hidden_size}, {vision.num_heads} heads, patches of {vision.patch_size}, "
            f"deepstack after layers {', '.join(map(str, vision.deepstack_visual_indexes)) or 'none'}"
        )
    if (audio := config.audio) is not None:
        found["audio"] = (
            f"{audio.encoder_layers} layers of {audio.d_model}, {audio.encoder_attention_heads} heads, "
            f"windows of {audio.n_window_infer} mel frames"
        )
    if (text := config.text) is not None:
        experts = f"{text.num_experts} experts of which {text.num_experts_per_tok} a token"
        experts = experts if text.is_sparse else f"dense layers of {text.intermediate_size}"
        linear = text.layers_with("linear_attention")
        layers = f"{text.num_hidden_layers} layers{f', {linear} of them linear,' if linear else ''}"
        found["text"] = (
            f"{layers} of {text.hidden_size}, {text.num_attention_heads} heads on "
            f"{text.num_key_value_heads} key-value heads, {experts}, vocabulary {text.vocab_size:,}"
        )
    return found


def _count(n: int) -> str:
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.2f} M"


def _bytes(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"
