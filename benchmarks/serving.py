"""Many callers of one decoder: a scheduler beside one request after another, and beside the best static batch.

`python -m benchmarks.serving [--layers 28] [--requests 64]` draws weights of the shape of Qwen3-0.6B in bfloat16, and
requests of mixed lengths, which all wait at once, or arrive as Poisson at twice the rate of one after another: then the
last of them arrives when half of that time has gone, and no scheduler can be twice as fast. It prints throughput in new
tokens a second, how long rows that run wait while a prompt of 4,096 tokens is read, and what was compiled.
"""

import argparse
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni.decoder import TextConfig, TextDecoder
from omni.generation.buckets import Buckets
from omni.generation.engine import Engine
from omni.generation.memory import MemoryBudget
from omni.generation.programs import compiled
from omni.generation.scheduler import Scheduler, Task
from omni.generation.serving import warm_up
from omni.options import Sampling
from omni.prompt.sequence import Prompt

LONG_PROMPT = 4096


def make_decoder(layers: int, hybrid: bool) -> TextDecoder:
    """Random weights, large enough that tokens differ."""
    config = TextConfig(
        vocab_size=151936,
        hidden_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
        num_experts=0,
        tie_word_embeddings=True,
        layer_types=("linear_attention",) * 3 * (layers // 4) + ("full_attention",) * (layers // 4) if hybrid else (),
        linear_num_value_heads=16,
        linear_num_key_heads=16,
    )
    decoder = nnx.eval_shape(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=jnp.bfloat16))
    dice = np.random.default_rng(0)

    def draw(path: tuple[Any, ...], leaf: Any) -> Any:
        if "norm" in str(path[-2]):
            return leaf.replace(jnp.ones(leaf.shape, leaf.dtype))
        values = dice.standard_normal(leaf.shape, np.float32) * leaf.shape[-1] ** -0.5
        return leaf.replace(jnp.asarray(values, leaf.dtype))

    nnx.update(decoder, nnx.map_state(draw, nnx.state(decoder)))
    return decoder


def draw_requests(count: int, vocabulary: int) -> list[tuple[Prompt, int]]:
    """Prompts of 16 to 1024 tokens and replies of 16 to 128, evenly on a logarithmic scale."""
    dice = np.random.default_rng(0)
    requests = []
    for _ in range(count):
        length, new = (int(2 ** dice.uniform(*limits)) for limits in ((4, 10), (4, 7)))
        ids = dice.integers(0, vocabulary, length).astype(np.int32)
        positions = np.broadcast_to(np.arange(length, dtype=np.float32), (3, length))
        requests.append((Prompt(ids, positions, float(length)), new))
    return requests


def run(engine: Engine, requests: list[tuple[Prompt, int]], arrivals: np.ndarray, batch: int) -> tuple[float, list]:
    """Seconds from the first arrival to the last token, and the replies."""
    scheduler, tasks, waiting = Scheduler(engine, batch), [], list(zip(arrivals, requests, strict=True))
    start = time.perf_counter()
    while waiting or len(scheduler):
        now = time.perf_counter() - start
        while waiting and waiting[0][0] <= now:
            _, (prompt, new) = waiting.pop(0)
            tasks.append(Task(prompt, Sampling(), new))
            scheduler.add(tasks[-1])
        if not len(scheduler):
            time.sleep(max(0.0, waiting[0][0] - (time.perf_counter() - start)))
            continue
        scheduler.step()
    return time.perf_counter() - start, [task.reply for task in tasks]


def static(engine: Engine, requests: list[tuple[Prompt, int]], batch: int) -> float:
    """Seconds of closed batches, each decoded until its last row has ended."""
    start = time.perf_counter()
    for first in range(0, len(requests), batch):
        run(engine, requests[first : first + batch], np.zeros(len(requests[first : first + batch])), batch)
    return time.perf_counter() - start


def gaps(engine: Engine) -> dict[str, float]:
    """How long rows that run wait between tokens, alone and while a long prompt is read; in seconds."""
    long = draw_requests(1, 151936)[0][0]
    ids = np.resize(long.token_ids, LONG_PROMPT)
    positions = np.broadcast_to(np.arange(LONG_PROMPT, dtype=np.float32), (3, LONG_PROMPT))
    stamps: list[float] = []

    def stamp(_: int) -> bool:
        stamps.append(time.perf_counter())
        return False

    scheduler = Scheduler(engine, 2)
    row = Task(draw_requests(2, 151936)[1][0], Sampling(), 60, on_token=stamp)
    scheduler.add(row)
    while len(row.reply) < 20:
        scheduler.step()
    alone = np.diff(stamps)
    stamps.clear()
    scheduler.add(Task(Prompt(ids, positions, float(LONG_PROMPT)), Sampling(), 1))
    chunks = []
    while not row.done:
        began = time.perf_counter()
        reads = scheduler.reading
        scheduler.step()
        if reads and len(stamps) > 1:
            chunks.append(time.perf_counter() - began)
    while scheduler.step():
        pass
    beside = np.diff(stamps)[: len(chunks)]
    return {
        "one step": float(np.median(alone)),
        "one chunk and one step, median": float(np.median(chunks)),
        "p99 of a gap while a long prompt is read": float(np.quantile(beside, 0.99)),
    }


def main() -> None:
    """Prints a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--layers", type=int, default=28)
    options.add_argument("--requests", type=int, default=64)
    options.add_argument("--batches", type=int, nargs="+", default=[4, 8])
    options.add_argument("--hybrid", action="store_true")
    given = options.parse_args()
    decoder = make_decoder(given.layers, given.hybrid)
    requests = draw_requests(given.requests, 151936)
    new = sum(count for _, count in requests)
    for batch in given.batches:
        engine = Engine(
            decoder,
            budget=MemoryBudget(6 << 30, 6 << 30),
            buckets=Buckets.served(batch),
            slots=batch * 1280 + LONG_PROMPT + 256,
            places=batch,
        )
        began = time.perf_counter()
        count = warm_up(engine)
        print(f"batch {batch}: {count} programs in {time.perf_counter() - began:.1f} s", flush=True)
        before = compiled()
        alone, wanted = run(engine, requests, np.zeros(len(requests)), 1)
        engine.memory.reset()
        closed = static(engine, requests, batch)
        engine.memory.reset()
        at_once, found_at_once = run(engine, requests, np.zeros(len(requests)), batch)
        engine.memory.reset()
        rate = 2 * len(requests) / alone
        arrivals = np.cumsum(np.random.default_rng(1).exponential(1 / rate, len(requests)))
        together, found = run(engine, requests, arrivals - arrivals[0], batch)
        after = compiled()
        equal = [sum(a == b for a, b in zip(wanted, one, strict=True)) for one in (found_at_once, found)]
        print(f"  one after another {new / alone:.1f} tok/s, closed batches {new / closed:.1f} tok/s")
        for how, seconds, same in (("all at once", at_once, equal[0]), ("at twice the rate", together, equal[1])):
            print(f"  scheduler, requests {how}: {new / seconds:.1f} tok/s, {alone / seconds:.2f}x, "
                  f"{closed / seconds:.2f}x the closed batches; {same} of {len(requests)} replies equal")  # fmt: skip
        print(f"  compiled after warming up: {after - before}")
        for name, seconds in gaps(engine).items():
            print(f"  {name}: {seconds:.3f} s", flush=True)


if __name__ == "__main__":
    main()
