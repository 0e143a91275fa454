"""The audio tower of Qwen3-Omni: mel frames to embeddings."""

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import BYTES, Call, Cost, Product, Stage
from benchmarks.stages.vision import prepare, reference_tower, tower_config


def spectrogram(seconds: int) -> np.ndarray:
    """A mel spectrogram of noise."""
    return np.random.RandomState(0).normal(0, 0.5, (128, 100 * seconds)).astype(np.float32)


def cost(seconds: int, audio: dict[str, Any], dtype: str) -> Cost:
    """Products of the tower for audio of whole seconds, and the arrays between them.

    A chunk of a second becomes 13 tokens by three convolutions of stride 2; tokens of 8 chunks attend to each other.
    """
    depth, width, hidden = audio["encoder_layers"], audio["d_model"], audio["encoder_ffn_dim"]
    heads, channels, out = audio["encoder_attention_heads"], audio["downsample_hidden_size"], audio["output_dim"]
    rows, size = 13 * seconds, BYTES[dtype]
    products = [
        Product(64 * 50, 9, channels, count=seconds),
        Product(32 * 25, 9 * channels, channels, count=seconds),
        Product(16 * 13, 9 * channels, channels, count=seconds),
        Product(rows, 16 * channels, width),
        Product(rows, width, width, count=4 * depth),
        Product(rows, width, hidden, count=depth),
        Product(rows, hidden, width, count=depth),
        Product(rows, width, width),
        Product(rows, width, out),
    ]
    windows, last = divmod(seconds, 8)
    for count, tokens in ((windows, 104), (1, 13 * last)):
        if count and tokens:
            products += [
                Product(tokens, width // heads, tokens, heads, count * depth),
                Product(tokens, tokens, width // heads, heads, count * depth),
            ]
    # Norms and sums read and write rows; activations read and write hidden ones and what a convolution gave.
    moved = depth * rows * (9 * width + 2 * hidden) * size
    moved += seconds * 2 * channels * (64 * 50 + 32 * 25 + 16 * 13) * size
    return Cost(tuple(products), moved)


def _ours(seconds: int, dtype: str, folder: Path) -> Call:
    import omni

    tower = omni.load(folder, parts=("audio",), dtype=dtype).media.audio_tower
    assert tower is not None
    mel = spectrogram(seconds)
    return Call(lambda _: tower.encode([mel])[0])


def _reference(seconds: int, dtype: str, folder: Path) -> Call:
    torch: Any = import_module("torch")
    tower = reference_tower("audio", folder, dtype)
    mel = torch.from_numpy(spectrogram(seconds)).to(getattr(torch, dtype))
    length = torch.tensor([mel.shape[1]])
    return Call(
        lambda _: tower(mel, feature_lens=length).last_hidden_state,
        lambda found: found.float().numpy(),
    )


def stage(duration: int, dtype: str, quick: bool, **more: Any) -> Stage:
    """The stage of one length."""
    audio = tower_config(quick)["thinker_config"]["audio_config"]
    length = f"{duration} s" if duration < 120 else f"{duration // 60} min"
    return Stage(
        f"audio tower, {length}, {dtype}",
        "audio",
        dtype,
        {"ours": partial(_ours, duration, dtype), "reference": partial(_reference, duration, dtype)},
        f"audio-{dtype}",
        partial(prepare, "audio", dtype, quick),
        cost(duration, audio, dtype),
        items=duration,
        unit="seconds of audio",
        **more,
    )


def stages(quick: bool) -> list[Stage]:
    """Three lengths in bfloat16, two of them in float32."""
    if quick:
        return [stage(1, "float32", True, rounds=(1, 1))]
    return [
        stage(10, "float32", False),
        stage(10, "bfloat16", False),
        stage(30, "float32", False),
        stage(30, "bfloat16", False),
        # A cold call would take a minute more.
        stage(600, "bfloat16", False, rounds=(1, 2), seconds=30, programs=False),
    ]
