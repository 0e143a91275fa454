"""The gated delta rule beside MaxText's formulation and the reference: one prefill of 2048 tokens on the CPU.

    python -m benchmarks.gated_delta [--reference-python PYTHON] [--tokens 2048] [--repeats 9]

32 heads of 128 in float32, queries and keys scaled to unit length, two threads. XLA on the CPU gives a batch of small
products to one thread, so both JAX formulations are timed a second time with their heads spread over two CPU devices,
a thread each: with the inputs there already, as the projections of a model with a `mesh` leave them, and once with
sending the inputs there and fetching the outputs.

The forms take turns, so that what else the machine does falls on all; a turn is two calls, of which the second counts:
it finds memory that its own first left, as the reference does (torch, transformers), alone in a process that comes
after. Prints the fastest and the median run, how far the outputs are from our plain form's, and how long the products
alone would take at the speed of this machine's largest product.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HEADS, WIDTH, CHUNK = 32, 128, 64


def inputs(tokens: int) -> list[np.ndarray]:
    """q, k, v, log gates and betas; gates from 0.001 to 1."""
    rng = np.random.RandomState(0)
    q, k, v = rng.normal(0, 1, (3, 1, tokens, HEADS, WIDTH))
    g = np.log(rng.uniform(1e-3, 1, (1, tokens, HEADS)))
    return [a.astype(np.float32) for a in (q, k, v, g, rng.uniform(0, 1, g.shape))]


def in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, each after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return times


def maxtext(q: Any, k: Any, v: Any, g: Any, beta: Any) -> Any:
    """The order of work of MaxText's `jax_chunk_gated_delta_rule`: every chunk's system first, then a scan.

    The inverse is made row after row, over whole masked matrices of all chunks and heads; the scan reads the values and
    keys that it transforms, and makes the scores of its chunk.
    """
    import jax
    import jax.numpy as jnp

    tokens = q.shape[1]
    highest = jax.lax.Precision.HIGHEST
    at = jnp.arange(CHUNK)

    def chunks(a: Any) -> Any:
        return jnp.moveaxis(a, 2, 1).reshape(1, HEADS, tokens // CHUNK, CHUNK, *a.shape[3:])

    def unit(a: Any) -> Any:
        return a * jax.lax.rsqrt((a * a).sum(-1, keepdims=True) + 1e-6)

    def matmul(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b, precision=highest)

    q, k, v, g, beta = chunks(unit(q) * WIDTH**-0.5), chunks(unit(k)), chunks(v), chunks(g), chunks(beta)[..., None]
    total = jnp.cumsum(g, -1)
    decays = jnp.exp(jnp.tril(total[..., :, None] - total[..., None, :]))
    system = jnp.where(at[:, None] > at, -matmul(k * beta, k.swapaxes(-1, -2)) * decays, 0)

    def substitute(i: Any, done: Any) -> Any:
        before = at < i
        row = done[..., i, :]
        settled = done * (before[:, None] & before)
        more = row + ((row * before)[..., None] * settled).sum(-2)
        return done.at[..., i, :].set(jnp.where(before, more, row))

    inverse = jax.lax.fori_loop(1, CHUNK, substitute, system) + jnp.eye(CHUNK)
    values = matmul(inverse, v * beta)
    keys = matmul(inverse, k * beta * jnp.exp(total)[..., None])

    def step(state: Any, chunk: Any) -> Any:
        q, k, values, keys, total, decays = chunk
        scores = jnp.where(at[:, None] >= at, matmul(q, k.swapaxes(-1, -2)) * decays, 0)
        new = values - matmul(keys, state)
        out = matmul(q * jnp.exp(total)[..., None], state) + matmul(scores, new)
        last = total[..., -1:]
        late = k * jnp.exp(last - total)[..., None]
        return state * jnp.exp(last)[..., None] + matmul(late.swapaxes(-1, -2), new), out

    parts = tuple(jnp.moveaxis(a, 2, 0) for a in (q, k, values, keys, total, decays))
    state, out = jax.lax.scan(step, jnp.zeros((1, HEADS, WIDTH, WIDTH)), parts)
    return jnp.transpose(out, (1, 0, 3, 2, 4)).reshape(1, tokens, HEADS, WIDTH), state


def run_jax(tokens: int, repeats: int) -> dict[str, tuple[list[float], np.ndarray]]:
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from omni.decoder.ops.gated_delta.chunked import chunked
    from omni.decoder.ops.gated_delta.chunked_fast import chunked_fast
    from omni.decoder.ops.gated_delta.recurrent import recurrent

    x = [jnp.asarray(a) for a in inputs(tokens)]
    over_heads = NamedSharding(Mesh(np.array(jax.devices()), ("heads",)), PartitionSpec(None, None, "heads"))
    spread = jax.device_put(x, over_heads)
    fast, other, plain, slow = (jax.jit(form) for form in (chunked_fast, maxtext, chunked, recurrent))

    def sent_and_fetched() -> Any:
        return jax.device_put(fast(*jax.device_put(x, over_heads)), jax.devices()[0])

    calls = {
        "chunked_fast": lambda: fast(*x),
        "chunked": lambda: plain(*x),
        "MaxText's": lambda: other(*x),
        "chunked_fast, two devices": lambda: fast(*spread),
        "the same, sent and fetched": sent_and_fetched,
        "MaxText's, two devices": lambda: other(*spread),
        "recurrent": lambda: slow(*x),
    }
    outs = {name: np.asarray(call()[0]) for name, call in calls.items()}
    calls = {name: lambda call=call: jax.block_until_ready(call()) for name, call in calls.items()}
    last = {"recurrent": calls.pop("recurrent")}
    times = in_turns(calls, repeats) | in_turns(last, 2)
    return {name: (times[name], outs[name]) for name in times}


def products(tokens: int, chunk: int) -> float:
    """Floating point operations of the products of `chunked_fast`; with chunks of 1, of the rule as it is written."""
    if chunk == 1:
        return tokens * HEADS * 3 * 2 * WIDTH * WIDTH
    with_state = 3 * 2 * WIDTH * WIDTH  # keys and queries read it, changes are written
    within = 2 * (2 * chunk * WIDTH) + 2 * chunk * chunk + 2 * (2 * chunk * WIDTH)  # scores, outputs, solving
    return tokens * HEADS * (with_state + within)


def peak(size: int = 2048) -> float:
    """Floating point operations a second in a product of two large matrices."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((size, size))
    multiply = jax.jit(jnp.matmul)
    return 2 * size**3 / min(in_turns({"": lambda: jax.block_until_ready(multiply(a, a))}, 20)[""])


def run_reference(tokens: int, repeats: int, out: Path) -> None:
    import torch
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule as rule

    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    x = [torch.from_numpy(a) for a in inputs(tokens)]

    def call() -> Any:
        return rule(*x, chunk_size=CHUNK, output_final_state=True, use_qk_l2norm_in_kernel=True)

    np.save(out, call()[0].numpy())
    print(json.dumps(in_turns({"": call}, repeats)[""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference-python", default=None, help="interpreter with torch and transformers")
    parser.add_argument("--tokens", type=int, default=2048, help=f"a multiple of {CHUNK}")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokens < CHUNK or options.tokens % CHUNK:
        parser.error(f"--tokens={options.tokens} is not a multiple of {CHUNK}")
    if options.out:
        run_reference(options.tokens, options.repeats, options.out)
        return
    os.environ.setdefault("NPROC", "2")
    import jax

    jax.config.update("jax_num_cpu_devices", 2)
    fastest = peak()
    found = run_jax(options.tokens, options.repeats)
    if options.reference_python:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.npy"
            command = [options.reference_python, "-P", __file__, f"--out={out}"]
            command += [f"--tokens={options.tokens}", f"--repeats={options.repeats}"]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found["reference"] = json.loads(result.stdout.splitlines()[-1]), np.load(out)
    plain, ours = found["chunked"][1], min(found["chunked_fast"][0])
    print(f"B1 S{options.tokens} H{HEADS} d{WIDTH} float32   fastest   median   times ours   relative L2")
    for name, (times, out) in found.items():
        error = np.linalg.norm(out - plain) / np.linalg.norm(plain)
        print(f"{name:26} {min(times):8.3f} {statistics.median(times):8.3f} {min(times) / ours:12.1f} {error:13.1e}")
    print(f"\nlargest product of this machine: {fastest / 1e9:.0f} GFLOP/s")
    for chunk in (1, 32, 64):
        count = products(options.tokens, chunk)
        print(f"products alone, chunks of {chunk:2}: {count / 1e9:4.1f} GFLOP, {count / fastest:.3f} s at that speed")


if __name__ == "__main__":
    sys.exit(main())
