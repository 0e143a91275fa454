"""How much of a conversation that was read before is read again.

    python -m benchmarks.prefix_reuse

A prompt of 1,000 tokens, then the same with 20 more; and ten questions about one image. Small checkpoints with random
weights, dense and hybrid; the demo for the image.
"""

import tempfile
from pathlib import Path

import numpy as np

import omni
from tests.golden.text_families import write_checkpoint

IMAGE = Path(__file__).parents[1] / "samples" / "shapes.png"


def main() -> None:
    """Prints a table."""
    dice = np.random.default_rng(0)
    first, more = (dice.integers(3, 90, count).tolist() for count in (1000, 20))
    for name in ("qwen3", "qwen3_moe", "qwen3_next", "qwen3_5_text"):
        with tempfile.TemporaryDirectory() as folder:
            model = omni.load(write_checkpoint(Path(folder) / name, name))
            model.generate(first, max_new_tokens=4, temperature=0)
            usage = model.generate([*first, *more], max_new_tokens=4, temperature=0).usage
        print(f"{name:14} {usage.prompt_tokens} tokens, {usage.prompt_tokens - usage.cached_tokens} of them read")
    model = omni.load("demo")
    calls, vision = 0, type(model.media.vision)
    encode = vision.encode

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        return encode(*args, **options)

    vision.encode = counted
    for number in range(10):
        content = [
            {"type": "image", "image": str(IMAGE)},
            {"type": "text", "text": f"Question {number}: what is this?"},
        ]
        model.generate([{"role": "user", "content": content}], max_new_tokens=2, temperature=0)
    print(f"one image in 10 requests: encoded {calls} times")


if __name__ == "__main__":
    main()
