"""Makes tests/golden/data/processors/*.npz with the reference: transformers' processors for Qwen3-Omni.

    pip install "omni-jax[reference]"
    python -m tests.golden.make_processors

Patches are kept as the 256 grey levels they came from; that this loses nothing is asserted here against the float
table, which is kept too.
"""

from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import WhisperFeatureExtractor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

from tests.golden.processors_inputs import IMAGES, SAMPLINGS, SECONDS, VIDEOS, clip, kept_frames, picture, speech

OUT = Path(__file__).parent / "data" / "processors"
SETTINGS = {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
UNEVEN = {"patch_size": 16, "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.268, 0.261, 0.275]}


def level_table(settings: dict) -> np.ndarray:
    """What each grey level becomes in each channel, float32 [3, 256]."""
    ramp = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16), (4, 4))[:64, :64]
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 1, "longest_edge": 1 << 20}, **settings)
    return processor(np.stack([ramp] * 3, -1))["pixel_values"][0].reshape(3, 2, 256)[:, 0]


def to_levels(values: np.ndarray, table: np.ndarray, tolerance: float) -> np.ndarray:
    values = values.reshape(len(values), 3, 2, 256)
    levels = np.rint((values * 0.5 + 0.5) * 255).astype(np.uint8)
    assert np.abs(table[np.arange(3)[:, None, None], levels] - values).max() <= tolerance
    return levels


def images(table: np.ndarray) -> dict[str, np.ndarray]:
    out = {}
    for name, (height, width, low, high) in IMAGES.items():
        image = picture(name, height, width)
        size = {"shortest_edge": low, "longest_edge": high}
        pil = Qwen2VLImageProcessorPil(size=size, **SETTINGS)(image, input_data_format="channels_last")
        planes = torch.from_numpy(image).permute(2, 0, 1)
        vision = Qwen2VLImageProcessor(size=size, **SETTINGS)(planes, input_data_format="channels_first")
        levels = to_levels(np.asarray(pil["pixel_values"]), table, 0)
        assert (levels[:, :, 0] == levels[:, :, 1]).all()
        other = to_levels(vision["pixel_values"].numpy(), table, 1e-6)
        stride = max(1, len(levels) // 100)
        out[f"{name}/grid_thw"] = np.asarray(pil["image_grid_thw"], np.int32)
        assert (vision["image_grid_thw"].numpy() == out[f"{name}/grid_thw"]).all()
        out[f"{name}/pixels"] = levels[::stride, :, 0]
        out[f"{name}/torchvision_difference"] = (other.astype(int) - levels).astype(np.int8)[:, :, 0]
    return out


def videos(table: np.ndarray) -> dict[str, np.ndarray]:
    processor = Qwen2VLVideoProcessor(size={"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32}, **SETTINGS)
    out = {}
    for name, shape in VIDEOS.items():
        frames = torch.from_numpy(clip(name, *shape)).permute(0, 3, 1, 2)
        made = processor([frames], do_sample_frames=False, return_tensors="pt")
        levels = to_levels(made["pixel_values_videos"].numpy(), table, 1e-6)
        out[f"{name}/grid_thw"] = made["video_grid_thw"].numpy().astype(np.int32)
        out[f"{name}/pixels"] = levels[:: max(1, len(levels) // 60)]
    for place, (total, rate, fps, count) in enumerate(SAMPLINGS):
        metadata = VideoMetadata(total_num_frames=total, fps=rate)
        chosen = processor.sample_frames(metadata, fps=fps, num_frames=count)
        out[f"sampling/{place}"] = chosen.numpy().astype(np.int32)
    return out


def mels() -> dict[str, np.ndarray]:
    extractor = WhisperFeatureExtractor(feature_size=128)
    out = {}
    for seconds in SECONDS:
        made = extractor(speech(seconds), sampling_rate=16_000, padding=True, truncation=False, return_tensors="np")
        mel = made["input_features"][0]
        out[f"{seconds}/frames"] = np.int32(mel.shape[1])
        out[f"{seconds}/kept"] = mel[:, kept_frames(mel.shape[1])]
        out[f"{seconds}/band_means"] = mel.astype(np.float64).mean(axis=1)
    out["filters"] = extractor.mel_filters.T.astype(np.float32)
    return out


def sizes() -> np.ndarray:
    random = np.random.RandomState(0)
    rows = []
    while len(rows) < 600:
        height, width = np.exp(random.uniform(0, 9, 2)).astype(int)
        low, high = ((3136, 12_845_056), (131_072, 786_432), (1024, 1024))[len(rows) % 3]
        if max(height, width) <= 200 * min(height, width):
            rows.append((height, width, low, high, *smart_resize(height, width, 32, low, high)))
    rows += [
        (16 + 32 * k, 48 + 32 * k, 1, 1 << 24, *smart_resize(16 + 32 * k, 48 + 32 * k, 32, 1, 1 << 24))
        for k in range(20)
    ]
    return np.array(rows, np.int32)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    about = np.array(f"transformers {transformers.__version__}, torch {torch.__version__}")
    table = level_table(SETTINGS)
    shared = {"levels": table, "uneven_levels": level_table(UNEVEN), "sizes": sizes(), "about": about}
    np.savez_compressed(OUT / "images.npz", **images(table), **shared)
    np.savez_compressed(OUT / "videos.npz", **videos(table), about=about)
    np.savez_compressed(OUT / "mels.npz", **mels(), about=about)
    for path in sorted(OUT.glob("*.npz")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
