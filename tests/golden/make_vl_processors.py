"""Makes data/processors/vl.npz with the reference's video processor for Qwen3-VL: frames chosen, sizes, and times.

    python -m tests.golden.make_vl_processors

Needs the `reference` extra.
"""

from pathlib import Path

import numpy as np
from transformers import Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize
from transformers.video_utils import VideoMetadata

from tests.golden.processors_inputs import SAMPLINGS

OUT = Path(__file__).parent / "data" / "processors" / "vl.npz"


def samplings() -> dict[str, np.ndarray]:
    """The frames, and what is written before each pair of them; all cases joined, with their ends."""
    processor = Qwen3VLVideoProcessor()
    frames, times = [], []
    for total, rate, fps, count in SAMPLINGS:
        metadata = VideoMetadata(total_num_frames=total, fps=rate)
        chosen = processor.sample_frames(metadata, fps=fps, num_frames=count)
        seconds = Qwen3VLProcessor._calculate_timestamps(processor, chosen.tolist(), rate, 2)  # pyright: ignore
        frames.append(chosen.astype(np.int32))
        times.append(np.array([f"{second:.1f}" for second in seconds]))
    found = {}
    for name, arrays in (("frames", frames), ("times", times)):
        found |= {name: np.concatenate(arrays), f"{name}_ends": np.cumsum([len(array) for array in arrays])}
    return found


def sizes() -> np.ndarray:
    """Frames, height, width, least and greatest area of all together; then the size."""
    random = np.random.RandomState(0)
    rows = []
    while len(rows) < 600:
        frames = int(random.randint(2, 9) if len(rows) % 2 else np.exp(random.uniform(1, 6.6)))
        height, width = np.exp(random.uniform(1, 8, 2)).astype(int).tolist()
        low, high = ((4096, 25_165_824), (131_072, 786_432))[len(rows) % 4 // 2]
        try:
            size = smart_resize(frames, height, width, 2, 32, low, high)
        except ValueError:
            continue
        rows.append((frames, height, width, low, high, *size))
    return np.array(rows, np.int32)


if __name__ == "__main__":
    np.savez_compressed(OUT, sizes=sizes(), **samplings())
    print(f"{OUT.name}: {OUT.stat().st_size:,} bytes")
