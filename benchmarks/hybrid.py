"""A hybrid text decoder beside the reference: prefill and decode of one checkpoint of Qwen3.5's kind on the CPU.

    python -m benchmarks.hybrid --reference-python PYTHON [--tokens 2048] [--new 64] [--repeats 4]

The reference (torch, transformers, in an interpreter of its own) saves a checkpoint with random weights, 282 million in
float32: twelve layers 1024 wide, nine of them linear with 16 heads of 128. Both load it, one after the other, with two
threads. Prints the fastest run of each, and whether the greedy tokens are equal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY, PROMPT = 32000, 64
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "tie_word_embeddings": True,
}


def timed(options: argparse.Namespace, prefill: Callable[[], Any], decode: Callable[[], list[int]]) -> dict[str, Any]:
    """Seconds of the fastest prefill and decode, each after one that is not counted, and the decoded tokens."""
    tokens = decode()
    prefill()
    seconds = {}
    for name, call in (("prefill", prefill), ("decode", decode)):
        times = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return seconds | {"tokens": tokens}


def run_ours(options: argparse.Namespace, ids: list[int], checkpoint: Path) -> dict[str, Any]:
    import omni

    model = omni.load(str(checkpoint))

    def generate(prompt: list[int], count: int) -> list[int]:
        return list(model.generate(prompt, max_new_tokens=count, temperature=0).token_ids)

    return timed(options, lambda: generate(ids, 1), lambda: generate(ids[:PROMPT], options.new))


def run_reference(options: argparse.Namespace, ids: list[int], checkpoint: Path) -> dict[str, Any]:
    import torch
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**CONFIG)).eval()
    model.save_pretrained(checkpoint)
    prompt = torch.tensor([ids])

    def decode() -> list[int]:
        found = model.generate(
            prompt[:, :PROMPT], max_new_tokens=options.new, min_new_tokens=options.new, do_sample=False
        )
        return found[0, PROMPT:].tolist()

    return timed(options, lambda: model(prompt, logits_to_keep=1, use_cache=True), decode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", required=True, help="interpreter with torch and transformers")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--new", type=int, default=64, help="tokens to decode after a prompt of 64")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    ids = np.random.RandomState(0).randint(0, VOCABULARY, options.tokens).tolist()
    if options.checkpoint:
        print(json.dumps(run_reference(options, ids, options.checkpoint)))
        return
    os.environ.setdefault("NPROC", "2")
    with tempfile.TemporaryDirectory() as folder:
        command = [options.reference_python, "-P", __file__, f"--checkpoint={folder}", "--reference-python="]
        command += [f"--tokens={options.tokens}", f"--new={options.new}", f"--repeats={options.repeats}"]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        theirs = json.loads(result.stdout.splitlines()[-1])
        ours = run_ours(options, ids, Path(folder))
    print("float32, two threads          ours   reference   times as fast")
    for name in ("prefill", "decode"):
        print(f"{name:24} {ours[name]:7.2f} s {theirs[name]:9.2f} s {theirs[name] / ours[name]:15.2f}")
    print(f"{options.new} greedy tokens {'equal' if ours['tokens'] == theirs['tokens'] else 'DIFFER'}")


if __name__ == "__main__":
    sys.exit(main())
