"""What the programs of a text decoder take beside weights and cache, by the compiler's own account.

    python -m benchmarks.temporaries

Four layers of each shape, a token of one row and of eight, and a chunk of 512 tokens. Nothing is run, and no weight is
made. A stack of layers that was converted or copied as a whole would show as more than one layer's weights.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from omni.decoder import HybridCache, TextConfig, TextDecoder

LAYERS = 4
SHAPES = {
    "Qwen3-0.6B": TextConfig(
        vocab_size=32000,
        num_hidden_layers=LAYERS,
        hidden_size=1024,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
        num_experts=0,
    ),
    "30B-A3B": TextConfig(
        vocab_size=32000,
        num_hidden_layers=LAYERS,
        hidden_size=2048,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
    ),
    "Qwen3-Next, 128 experts": TextConfig(
        vocab_size=32000,
        num_hidden_layers=LAYERS,
        hidden_size=2048,
        num_attention_heads=16,
        num_key_value_heads=2,
        head_dim=256,
        num_experts=128,
        num_experts_per_tok=10,
        moe_intermediate_size=512,
        shared_expert_intermediate_size=512,
        layer_types=("linear_attention",) * 3 + ("full_attention",),
        attn_output_gate=True,
        zero_centered_norms=True,
        partial_rotary_factor=0.25,
        mrope_section=(11, 11, 10),
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
    ),
}


def main() -> None:
    """Prints a table."""
    print(f"{'MiB':24} {'dtype':9} {'rows':>4} {'tokens':>6} {'temporaries':>11} {'a layer':>8}")
    for name, config in SHAPES.items():
        for dtype in (jnp.bfloat16, jnp.float32):
            decoder = nnx.eval_shape(lambda: TextDecoder(config, rngs=nnx.Rngs(0), dtype=dtype))  # noqa: B023
            graph, state = nnx.split(decoder)
            leaves = [leaf for path, leaf in nnx.to_flat_state(state) if path[0] == "layers"]
            layer = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / LAYERS
            for rows, tokens in ((1, 1), (8, 1), (1, 512)):

                def read(state, cache, x, positions, counts):
                    decoder = nnx.merge(graph, state)  # noqa: B023
                    hidden, cache = decoder(x, positions, cache, counts)
                    return decoder.logits(hidden[:, -1]), cache

                program = jax.jit(read, donate_argnums=1).lower(
                    state,
                    jax.eval_shape(lambda: HybridCache.create(config, rows, 1024, dtype)),  # noqa: B023
                    jax.ShapeDtypeStruct((rows, tokens, config.hidden_size), dtype),
                    jax.ShapeDtypeStruct((3, rows, tokens), jnp.float32),
                    jax.ShapeDtypeStruct((rows,), jnp.int32),
                )
                used = program.compile().memory_analysis().temp_size_in_bytes
                line = (
                    f"{name:24} {jnp.dtype(dtype).name:9} {rows:4} {tokens:6} {used / 2**20:11.1f} {layer / 2**20:8.1f}"
                )
                print(line, flush=True)


if __name__ == "__main__":
    main()
