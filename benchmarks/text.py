"""The text decoder beside the reference: prefill and decode of the 30B-A3B shape, cut to a few layers.

    python benchmarks/text.py [--reference-python PYTHON] [--dtype float32] [--layers 4]

Both sides build the same weights from the same seeds, each in a process of its own and one after the other, since the
weights take some 12 GB in float32. Prints the best time of a few runs, decoding speed at batch 1, and how far the
logits are apart. The reference (torch, transformers) may live in another interpreter; without one, only ours is run.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEADS, KV_HEADS, HEAD, EXPERTS, CHOSEN, HIDDEN, VOCABULARY = 2048, 32, 4, 128, 128, 8, 768, 152064
SECTION, THETA = (24, 20, 20), 1e6
COMPARED = 16  # last positions of the prompt whose logits are compared
ALIGNMENT = 64  # what lets JAX take a NumPy array as it is


def parameters(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, `layers.` ones with the layer axis in front."""
    yield "embed_tokens.weight", (VOCABULARY, WIDTH)
    for name, shape in {
        "input_layernorm.weight": (WIDTH,),
        "post_attention_layernorm.weight": (WIDTH,),
        "self_attn.q_proj.weight": (HEADS * HEAD, WIDTH),
        "self_attn.k_proj.weight": (KV_HEADS * HEAD, WIDTH),
        "self_attn.v_proj.weight": (KV_HEADS * HEAD, WIDTH),
        "self_attn.o_proj.weight": (WIDTH, HEADS * HEAD),
        "self_attn.q_norm.weight": (HEAD,),
        "self_attn.k_norm.weight": (HEAD,),
        "mlp.gate.weight": (EXPERTS, WIDTH),
        "mlp.experts.gate_up_proj": (EXPERTS, 2 * HIDDEN, WIDTH),
        "mlp.experts.down_proj": (EXPERTS, WIDTH, HIDDEN),
    }.items():
        yield f"layers.{name}", (layers, *shape)
    yield "norm.weight", (WIDTH,)
    yield "lm_head.weight", (VOCABULARY, WIDTH)


def fill(name: str, out: np.ndarray) -> None:
    """Writes the weights of that name: uniform, of variance 1 / inputs; around 1 for a norm."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    rows = out.reshape(-1, out.shape[-1])
    scale = 0.2 if "norm" in name else (12 / out.shape[-1]) ** 0.5
    for start in range(0, len(rows), 4096):
        part = rng.random((len(rows[start : start + 4096]), out.shape[-1]), np.float32)
        rows[start : start + 4096] = (part - 0.5) * scale + (1.0 if "norm" in name else 0.0)


def prompt(tokens: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, VOCABULARY, tokens)


def best(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


# --- Ours -------------------------------------------------------------------------------------------------------


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from omni.decoder import KVCache, TextConfig, TextDecoder

    config = TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=options.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        moe_intermediate_size=HIDDEN,
        mrope_section=SECTION,
        rope_theta=THETA,
    )
    dtype = jnp.dtype(options.dtype)
    graph, state = nnx.split(nnx.eval_shape(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=dtype)))
    paths = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    for name, shape in parameters(options.layers):
        paths[name].set_value(jnp.asarray(generate(name, shape, dtype)))

    def positions(start: Any, tokens: int):
        return jnp.broadcast_to(start + jnp.arange(tokens, dtype=jnp.float32), (3, 1, tokens))

    def read(state, cache, ids):
        decoder = nnx.merge(graph, state)
        where = positions(cache.lengths[0].astype(jnp.float32), ids.shape[1])
        return decoder, *decoder(decoder.embed(ids), where, cache, jnp.full(1, ids.shape[1], jnp.int32))

    @jax.jit
    def compared(state, cache, ids):
        decoder, hidden, _ = read(state, cache, ids)
        return decoder.logits(hidden[:, -COMPARED:])

    @jax.jit(donate_argnums=1)
    def advance(state, cache, ids):
        decoder, hidden, cache = read(state, cache, ids)
        return cache, decoder.logits(hidden[:, -1]).argmax(-1).astype(jnp.int32)[:, None]

    ids = jnp.asarray(prompt(options.tokens)[None], jnp.int32)

    def empty():
        return KVCache.create(config, 1, 2 * options.tokens, dtype)

    def prefill():
        return jax.block_until_ready(advance(state, empty(), ids))

    start = time.perf_counter()
    cache, token = prefill()
    chosen, times = [int(token[0, 0])], []
    cache, token = advance(state, cache, token)
    chosen.append(int(token[0, 0]))
    first_s = time.perf_counter() - start
    for _ in range(options.new_tokens):
        start = time.perf_counter()
        cache, token = advance(state, cache, token)
        chosen.append(int(token[0, 0]))
        times.append(time.perf_counter() - start)
    return {
        "first_s": first_s,
        "prefill_s": best(prefill, options.repeats),
        "decode_per_s": 1 / float(np.median(times)),
        "tokens": chosen,
        "logits": np.asarray(compared(state, empty(), ids))[0],
    }


def generate(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Weights at an address that JAX takes without a copy."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    out = raw[offset : offset + size].view(dtype).reshape(shape)
    if not name.startswith("layers."):
        fill(name, out)
    for layer in range(shape[0] if name.startswith("layers.") else 0):
        fill(f"{layer}.{name}", out[layer])
    return out


# --- The reference ----------------------------------------------------------------------------------------------


def run_reference(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import DynamicCache
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as reference
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeTextConfig

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_grad_enabled(False)
    config = Qwen3OmniMoeTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=options.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        num_experts=EXPERTS,
        num_experts_per_tok=CHOSEN,
        moe_intermediate_size=HIDDEN,
        rope_parameters={"rope_type": "default", "rope_theta": THETA, "mrope_section": list(SECTION)},
    )
    dtype = getattr(torch, options.dtype)
    with torch.device("meta"):
        model = reference.Qwen3OmniMoeThinkerTextModel(config).to(dtype).eval()
        head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=dtype)
    model.to_empty(device="cpu")
    head.to_empty(device="cpu")
    model.rotary_emb = reference.Qwen3OmniMoeThinkerTextRotaryEmbedding(config)
    tensors = {**dict(model.named_parameters()), "lm_head.weight": head.weight}
    for name, shape in parameters(options.layers):
        if not name.startswith("layers."):
            fill_tensor(name, tensors[name])
        for layer in range(shape[0] if name.startswith("layers.") else 0):
            fill_tensor(f"{layer}.{name}", tensors[name.replace("layers.", f"layers.{layer}.")])
    ids = torch.tensor(prompt(options.tokens)[None])

    def advance(ids: Any, cache: Any, keep: int = 1) -> Any:
        hidden = model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return head(hidden[:, -keep:])

    default, found = model.config._experts_implementation, {}
    for experts in ("eager", "grouped_mm", "batched_mm"):
        model.set_experts_implementation(experts)
        # Batched experts copy the matrices of every pair of token and expert: hopeless for a prompt.
        prefill_s = None if experts == "batched_mm" else best(lambda: advance(ids, DynamicCache()), options.repeats)
        if experts == "batched_mm":
            model.set_experts_implementation(default)
        cache = DynamicCache()
        token = advance(ids, cache).argmax(-1)
        model.set_experts_implementation(experts)
        chosen, times = [int(token)], []
        for _ in range(options.new_tokens + 1):
            start = time.perf_counter()
            token = advance(token, cache).argmax(-1)
            chosen.append(int(token))
            times.append(time.perf_counter() - start)
        found[experts] = {"prefill_s": prefill_s, "decode_per_s": 1 / float(np.median(times[1:])), "tokens": chosen}
    model.set_experts_implementation(default)
    logits = advance(ids, DynamicCache(), COMPARED)[0].float().numpy()
    return {"default": default, "experts": found, "logits": logits}


def fill_tensor(name: str, tensor: Any) -> None:
    import torch

    out = np.empty(tuple(tensor.shape), np.float32)
    fill(name, out)
    tensor.copy_(torch.from_numpy(out))


# --- Side by side -----------------------------------------------------------------------------------------------


def in_process(python: str, side: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs one side in a process of its own, which gives its memory back when it ends."""
    names = ("dtype", "layers", "tokens", "new_tokens", "repeats")
    arguments = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    command = [python, "-P", __file__, f"--side={side}", f"--out={folder / side}", *arguments]
    subprocess.run(command, check=True)
    found = json.loads((folder / f"{side}.json").read_text())
    return {**found, "logits": np.load(folder / f"{side}.npy")}


def has_reference(python: str) -> bool:
    with contextlib.suppress(OSError):
        return not subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with torch and transformers")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512, help="length of the prompt")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        found = run_ours(options) if options.side == "ours" else run_reference(options)
        np.save(f"{options.out}.npy", found.pop("logits"))
        Path(f"{options.out}.json").write_text(json.dumps(found))
        return
    print(f"{options.layers} layers of 30B-A3B, {options.dtype}: prompt of {options.tokens} tokens, then batch 1")
    with tempfile.TemporaryDirectory() as name:
        ours = in_process(sys.executable, "ours", options, Path(name))
        print(f"{'ours':26} {ours['prefill_s']:7.3f} s {ours['decode_per_s']:7.1f} tok/s", end="")
        print(f"   (first prefill and step, compiling: {ours['first_s']:.1f} s)")
        if not has_reference(options.reference_python):
            print("no reference: torch and transformers are not in", options.reference_python)
            return
        theirs = in_process(options.reference_python, "reference", options, Path(name))
    for experts, run in theirs["experts"].items():
        label = f"reference, {experts}" + (" *" if experts == theirs["default"] else "")
        prefill = "      -  " if run["prefill_s"] is None else f"{run['prefill_s']:7.3f} s"
        print(f"{label:26} {prefill} {run['decode_per_s']:7.1f} tok/s")
    print("* what the reference takes by itself")
    error = np.linalg.norm(ours["logits"] - theirs["logits"]) / np.linalg.norm(theirs["logits"])
    same = ours["tokens"] == theirs["experts"][theirs["default"]]["tokens"]
    print(f"logits: relative L2 {error:.1e}; {len(ours['tokens'])} greedy tokens {'equal' if same else 'differ'}")


if __name__ == "__main__":
    main()
