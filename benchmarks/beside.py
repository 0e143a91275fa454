"""Text decoding of this tree beside that of another, such as a worktree of an earlier commit.

    python -m benchmarks.beside OTHER [--rounds 10] [--only "dense|hybrid"]

Each tree has a process of its own, which loads the same random checkpoints and reads the same prompts through
`omni.load` and `model.generate`; the two take turns. Prints the median seconds of each, and the median over rounds of
their ratio with its 95 % interval: above 1, this tree is the faster. Medians, since now and then a round compiles: the
pool of slots has grown.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SMALL_VOCABULARY = 32000
DENSE = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 151936,
    "hidden_size": 1024,
    "num_hidden_layers": 14,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 40960,
    "attention_bias": False,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
SPARSE = DENSE | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "vocab_size": SMALL_VOCABULARY,
    "hidden_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
HYBRID = DENSE | {
    "model_type": "qwen3_5_text",
    "architectures": ["Qwen3_5ForCausalLM"],
    "vocab_size": SMALL_VOCABULARY,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "intermediate_size": 3584,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 3,
}


@dataclass(frozen=True)
class Workload:
    """What is timed.

    Attributes:
        config: of the checkpoint.
        dtype: of its weights.
        prompt: tokens that are read.
        new: tokens that are then decoded; the prompt alone is timed when 1.
        batch: rows.
    """

    config: str
    dtype: str
    prompt: int
    new: int = 1
    batch: int = 1


CONFIGS = {"dense": DENSE, "sparse": SPARSE, "hybrid": HYBRID}
WORKLOADS = {
    "dense, prefill 512": Workload("dense", "bfloat16", 512),
    "dense, decode after 32": Workload("dense", "bfloat16", 32, 64),
    "long dense, decode after 4,096": Workload("dense", "bfloat16", 4096, 64),
    "dense, decode after 32, batch 8": Workload("dense", "bfloat16", 32, 32, 8),
    "dense float32, prefill 512": Workload("dense", "float32", 512),
    "dense float32, decode after 32": Workload("dense", "float32", 32, 32),
    "sparse, prefill 512": Workload("sparse", "bfloat16", 512),
    "sparse, decode after 32": Workload("sparse", "bfloat16", 32, 64),
    "hybrid float32, prefill 2,048": Workload("hybrid", "float32", 2048),
    "hybrid float32, decode after 64": Workload("hybrid", "float32", 64, 32),
}


def tensors(config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Random weights, large enough that tokens differ."""
    width, head = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    hybrid = "layer_types" in config

    def draw(name: str, *shape: int) -> tuple[str, np.ndarray]:
        dice = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith(("norm.weight", "layernorm.weight")):
            return name, np.full(shape, 0.0 if hybrid and "linear_attn" not in name else 1.0, np.float32)
        if name.endswith(("A_log", "dt_bias")):
            return name, dice.uniform(-4, 0, shape).astype(np.float32)
        return name, (dice.random(shape, np.float32) - 0.5) * np.float32((12 / shape[-1]) ** 0.5)

    yield draw("model.embed_tokens.weight", config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield draw(at + "input_layernorm.weight", width)
        yield draw(at + "post_attention_layernorm.weight", width)
        if hybrid and config["layer_types"][layer] == "linear_attention":
            keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
            values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
            yield draw(at + "linear_attn.in_proj_qkv.weight", 2 * keys + values, width)
            yield draw(at + "linear_attn.in_proj_z.weight", values, width)
            yield draw(at + "linear_attn.in_proj_a.weight", config["linear_num_value_heads"], width)
            yield draw(at + "linear_attn.in_proj_b.weight", config["linear_num_value_heads"], width)
            yield draw(at + "linear_attn.conv1d.weight", 2 * keys + values, 1, config["linear_conv_kernel_dim"])
            yield draw(at + "linear_attn.A_log", config["linear_num_value_heads"])
            yield draw(at + "linear_attn.dt_bias", config["linear_num_value_heads"])
            yield draw(at + "linear_attn.norm.weight", config["linear_value_head_dim"])
            yield draw(at + "linear_attn.out_proj.weight", width, values)
        else:
            yield draw(at + "self_attn.q_proj.weight", heads * head * (2 if hybrid else 1), width)
            yield draw(at + "self_attn.k_proj.weight", kv_heads * head, width)
            yield draw(at + "self_attn.v_proj.weight", kv_heads * head, width)
            yield draw(at + "self_attn.o_proj.weight", width, heads * head)
            yield draw(at + "self_attn.q_norm.weight", head)
            yield draw(at + "self_attn.k_norm.weight", head)
        if "num_experts" in config:
            hidden = config["moe_intermediate_size"]
            yield draw(at + "mlp.gate.weight", config["num_experts"], width)
            for expert in range(config["num_experts"]):
                yield draw(at + f"mlp.experts.{expert}.gate_proj.weight", hidden, width)
                yield draw(at + f"mlp.experts.{expert}.up_proj.weight", hidden, width)
                yield draw(at + f"mlp.experts.{expert}.down_proj.weight", width, hidden)
        else:
            hidden = config["intermediate_size"]
            yield draw(at + "mlp.gate_proj.weight", hidden, width)
            yield draw(at + "mlp.up_proj.weight", hidden, width)
            yield draw(at + "mlp.down_proj.weight", width, hidden)
    yield draw("model.norm.weight", width)


def write(folder: Path, config: dict[str, Any]) -> None:
    """A checkpoint directory in bfloat16, without a tokenizer."""
    import ml_dtypes
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))
    save_file({name: array.astype(ml_dtypes.bfloat16) for name, array in tensors(config)}, folder / "model.safetensors")


def work(folder: Path) -> None:
    """One tree's process: a line of input for each run, a line of output with its seconds."""
    import omni

    models: dict[tuple[str, str, str | None], Any] = {}

    def model_of(load: Workload, quantize: str | None) -> Any:
        key = load.config, load.dtype, quantize
        if key not in models:
            models.clear()
            more: dict[str, Any] = {"quantize": quantize} if quantize else {}
            models[key] = omni.load(str(folder / load.config), dtype=load.dtype, **more)
        return models[key]

    def seconds(model: Any, load: Workload, seed: int, new: int) -> tuple[float, list[int]]:
        dice = np.random.default_rng(seed)
        prompts = dice.integers(0, SMALL_VOCABULARY, (load.batch, load.prompt)).tolist()
        start = time.perf_counter()
        replies = model.generate(prompts if load.batch > 1 else prompts[0], max_new_tokens=new, temperature=0)
        took = time.perf_counter() - start
        return took, [token for reply in (replies if load.batch > 1 else [replies]) for token in reply.token_ids]

    for line in sys.stdin:
        name, quantize, seed = json.loads(line)
        load = WORKLOADS[name]
        model = model_of(load, quantize)
        took, tokens = seconds(model, load, seed, load.new)
        if load.new > 1:
            # Another prompt, since this one is held now; what it takes alone is not decoding.
            took = (took - seconds(model, load, seed + 1, 1)[0]) / (load.new - 1)
        print(json.dumps([took, tokens]), flush=True)


class Tree:
    """A process that works in a tree, with weights as integers where `quantize` says so."""

    def __init__(self, tree: Path, folder: Path, quantize: str | None = None):
        self._quantize = quantize
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", str(folder)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, seed: int) -> tuple[float, list[int]]:
        """Seconds, and the tokens."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, self._quantize, seed]) + "\n")
        self._process.stdin.flush()
        return tuple(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """95 % of the median, by drawing the rounds anew."""
    dice = np.random.default_rng(0)
    medians = np.median(ratios[dice.integers(0, len(ratios), (4000, len(ratios)))], axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="the other tree")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="beginnings of names of workloads, with | between")
    parser.add_argument("--quantize", help="how this tree keeps its weights; the other keeps them as they are")
    options = parser.parse_args()
    here, begin = Path(__file__).parents[1], tuple(options.only.split("|"))
    chosen = [name for name in WORKLOADS if name.startswith(begin)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in {WORKLOADS[one].config for one in chosen}:
            write(folder / name, CONFIGS[name])
        ours, other = Tree(here, folder, options.quantize), Tree(options.other.resolve(), folder)
        print(f"{'':34} {'here':>9} {'there':>9}   there / here")
        for name in chosen:
            times, same = [], True
            for round in range(options.rounds + 1):
                order = (ours, other) if round % 2 else (other, ours)
                ran = {tree: tree.run(name, 2 * round) for tree in order}
                same = same and ran[ours][1] == ran[other][1]
                if round:  # the first compiles
                    times.append((ran[ours][0], ran[other][0]))
            here_s, there_s = np.array(times).T
            low, high = interval(there_s / here_s)
            print(
                f"{name:34} {np.median(here_s):8.4f}s {np.median(there_s):8.4f}s   "
                f"{np.median(there_s / here_s):.2f} ({low:.2f} to {high:.2f})   "
                f"tokens {'equal' if same else 'differ'}",
                flush=True,
            )
        ours.close(), other.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        sys.path.insert(0, str(Path.cwd()))
        work(Path(sys.argv[2]))
    else:
        main()
