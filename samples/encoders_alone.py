"""The encoders without a checkpoint and without `omni`: arrays in, arrays out, gradients through them.

python samples/encoders_alone.py
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import encoders
from encoders import AudioConfig, AudioEmbedder, AudioTower, VisionConfig, VisionEmbedder, VisionTower
from encoders.buckets import vision_calls

# Any sizes; the defaults are those of the released Qwen3-Omni checkpoints.
SEE = VisionConfig(
    depth=4, hidden_size=128, num_heads=4, intermediate_size=512, out_hidden_size=256, deepstack_visual_indexes=(1, 2)
)
HEAR = AudioConfig(
    encoder_layers=2,
    d_model=128,
    encoder_attention_heads=4,
    encoder_ffn_dim=512,
    downsample_hidden_size=32,
    output_dim=256,
)


def main() -> None:
    encoders.cache_programs("out/programs")  # what is compiled once is read from here by later runs
    random = np.random.default_rng(0)
    # Two pictures, of 4 x 6 and 8 x 8 patches of 16 x 16 pixels: 24 and 64 patches, in blocks of 2 x 2.
    grid_thw = np.array([[1, 4, 6], [1, 8, 8]], np.int32)
    pixels = random.integers(0, 256, (24 + 64, 3 * 16 * 16), np.uint8)
    for seen in VisionEmbedder(VisionTower(SEE, rngs=nnx.Rngs(0))).encode(pixels, grid_thw):
        print("vision tokens", seen.tokens.shape, "deepstack", seen.deepstack.shape)

    # Two sounds, of 0.73 s and 12.34 s: log-mel frames of 10 ms.
    mels = [random.normal(size=(128, frames)).astype(np.float32) for frames in (73, 1234)]
    for heard in AudioEmbedder(AudioTower(HEAR, rngs=nnx.Rngs(0))).encode(mels):
        print("audio tokens ", heard.shape)

    # The modules themselves take rows: one frame a row, padded, several in a call, as the host lays them out.
    encoder = encoders.VisionEncoder(SEE, rngs=nnx.Rngs(0))
    (call,) = vision_calls(np.tile(pixels, (2, 1)), np.tile(grid_thw, (2, 1)), SEE, patches_at_once=4 * 256)
    rows = jax.tree.map(jnp.asarray, call.rows)
    hidden = encoder(*rows)
    print("hidden states", hidden.last.shape, "of frames of", call.rows.lengths, "patches")

    loss, gradients = nnx.value_and_grad(lambda encoder: (encoder(*rows).last ** 2).mean())(encoder)
    norms = [float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(gradients)]
    print(f"loss {loss:.4f}, {len(norms)} gradients, the largest of norm {max(norms):.4f}")


if __name__ == "__main__":
    main()
