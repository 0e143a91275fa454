"""Small checkpoint directories made on the spot, and changes to them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ASSETS = Path(__file__).parents[2] / "omni" / "assets" / "demo"
WIDTH, VOCABULARY = 32, 64
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "dtype": "float32",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
    "use_cache": True,
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 1,
    "layer_types": ["full_attention"],
}
_LAYER = {
    "input_layernorm": (WIDTH,),
    "post_attention_layernorm": (WIDTH,),
    "self_attn.q_proj": (32, WIDTH),
    "self_attn.k_proj": (16, WIDTH),
    "self_attn.v_proj": (16, WIDTH),
    "self_attn.o_proj": (WIDTH, 32),
    "self_attn.q_norm": (16,),
    "self_attn.k_norm": (16,),
    "mlp.gate_proj": (48, WIDTH),
    "mlp.up_proj": (48, WIDTH),
    "mlp.down_proj": (WIDTH, 48),
}
SHAPES = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)} | {
    f"model.layers.0.{name}.weight": shape for name, shape in _LAYER.items()
}


def tensors() -> dict[str, np.ndarray]:
    """The weights of a text model of one layer."""
    chance = np.random.default_rng(0)
    drawn = {name: (0.1 * chance.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}
    return {name: 1 + array if "norm" in name else array for name, array in drawn.items()}


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A safetensors file, written by the package of that name."""
    from safetensors.numpy import save_file

    save_file(dict(arrays), str(path), metadata={"format": "pt"})


def text_model(
    config: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    files: Mapping[str, str | bytes | None] | None = None,
) -> Path:
    """A text model in the folder `checkpoint`, some of its files in another form or left out."""
    here = Path("checkpoint")
    here.mkdir()
    (here / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    write_tensors(here / "model.safetensors", tensors() if arrays is None else arrays)
    for name, content in (files or {}).items():
        (here / name).unlink(missing_ok=True)
        if content is not None:
            (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return here


def sharded(
    weight_map: Mapping[str, str] | None = None, shards: Mapping[str, Mapping[str, np.ndarray]] | None = None
) -> Path:
    """A text model in two shards with an index, either of which may be another."""
    here = text_model(files={"model.safetensors": None})
    names = list(SHAPES)
    if shards is None:
        all_ = tensors()
        shards = {
            "model-1.safetensors": {n: all_[n] for n in names[:5]},
            "model-2.safetensors": {n: all_[n] for n in names[5:]},
        }
    for shard, held in shards.items():
        write_tensors(here / shard, held)
    if weight_map is None:
        weight_map = {name: shard for shard, held in shards.items() for name in held}
    (here / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return here


def demo_copy(changes: Mapping[str, Any] | None = None, without: tuple[str, ...] = ()) -> Path:
    """The demo's directory; JSON files get the fields of `changes` by file name, text replaces a file."""
    here = Path("demo")
    here.mkdir()
    for path in ASSETS.iterdir():
        if path.name in without or path.suffix in (".md", ".zip"):
            continue
        (here / path.name).symlink_to(path)
    for name, change in (changes or {}).items():
        path = here / name
        content = change
        if isinstance(change, dict):
            before = json.loads(path.read_text()) if path.exists() else {}
            content = json.dumps({key: value for key, value in {**before, **change}.items() if value is not ...})
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return here


def demo_with_template(source: str) -> Path:
    """The demo's directory with another chat template."""
    return demo_copy({"chat_template.jinja": source}, without=("chat_template.json",))


def moved(here: Path, old: str, new: str) -> Path:
    """A directory in which a file has another name."""
    shutil.move(str(here / old), str(here / new))
    return here
