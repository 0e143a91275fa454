"""Memory that full-size models take of each of eight devices, by the plan and by the programs' own analysis.

    python -m benchmarks.plan [--lower] [--compile] [--context 32768] [--batch 8]

No weight is made: the parameter tree is abstract. With `--lower` the programs that read prompts and that write a token
are lowered for eight CPU devices that hold nothing; with `--compile` they are compiled too, and activations are what
XLA's analysis of them says, in place of a formula.
"""

import argparse
import os
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

MESHES = ("data=1,expert=8", "expert=4,tensor=2", "fsdp=8", "expert=2,tensor=4")
MODELS = ("Qwen3-Omni-30B-A3B", "Qwen3-Next-80B-A3B")


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--lower", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--meshes", nargs="*", default=MESHES)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 8)

    from omni.checkpoint.load import parameter_shapes
    from omni.checkpoint.plan import (
        CHIPS,
        CHUNK_TOKENS,
        USABLE,
        PlannedMesh,
        activation_bytes,
        cache_bytes,
        weight_bytes,
    )
    from omni.families import family_of
    from omni.loading import abstract_parts
    from omni.tools import compiled_plan
    from processors import ImageConfig
    from tests.golden.parameters import published

    dtype, configs = jax.numpy.dtype("bfloat16"), published()
    for name in options.models:
        raw = configs[name]
        config = family_of(raw["model_type"]).read(raw)
        assert config.text is not None
        shapes = parameter_shapes(abstract_parts(config, ImageConfig(), dtype))
        total = weight_bytes(shapes, lambda path: dtype.itemsize, None)
        print(f"\n{name}: {total / 2**30:.1f} GiB of bfloat16, {options.batch} x {options.context:,} tokens\n")
        print("| Mesh | Weights | Cache | Activations | Together | Smallest chip | Lowered | Compiled |")
        print("|---|---|---|---|---|---|---|---|")
        for text in options.meshes:
            mesh = PlannedMesh.of(text)
            lowered = compiled = "-"
            programs = []
            if options.lower or options.compile:
                start = time.perf_counter()
                programs = compiled_plan.lower(config, mesh, dtype, options.context, options.batch)
                lowered = f"{time.perf_counter() - start:.0f} s"
            running = activation_bytes(config.text, options.batch, CHUNK_TOKENS, dtype, mesh)
            if options.compile:
                start = time.perf_counter()
                analyses = [program.compile().memory_analysis() for program in programs]
                running = max(analysis.temp_size_in_bytes for analysis in analyses)
                compiled = f"{time.perf_counter() - start:.0f} s"
            weights = weight_bytes(shapes, lambda path: dtype.itemsize, mesh)
            cache = cache_bytes(config.text, options.batch, options.context, dtype, mesh)
            together = weights + cache + running
            smallest = next((chip.name for chip in CHIPS if together <= USABLE * chip.bytes), "none listed")
            figures = " | ".join(f"{count / 2**30:.2f} GiB" for count in (weights, cache, running, together))
            print(f"| {mesh} | {figures} | {smallest} | {lowered} | {compiled} |", flush=True)


if __name__ == "__main__":
    main()
