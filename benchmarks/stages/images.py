"""JPEG bytes to patches: decoded, resized once and cut."""

import io
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stages.stage import Call, Stage

# Width, height and how many.
SIZES = {
    "640 x 480": (640, 480, 1),
    "1080p": (1920, 1080, 1),
    "12 MP": (4000, 3000, 1),
    "64 of 640 x 480": (640, 480, 64),
}
QUICK = {"64 x 48": (64, 48, 1), "2 of 64 x 48": (64, 48, 2)}
MIN_PIXELS, MAX_PIXELS = 3136, 12845056


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """A picture with smooth and with fine parts, so that it compresses about as a photo does."""
    from PIL import Image

    rng = np.random.RandomState(seed)
    layers = np.zeros((height, width, 3), np.float32)
    for cell, weight in ((64, 120), (8, 40), (1, 8)):
        small = rng.randint(0, 256, (height // cell + 2, width // cell + 2, 3)).astype(np.uint8)
        layers += weight / 255 * np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
    return np.clip(layers + 40, 0, 255).astype(np.uint8)


def _files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]


def _prepare(width: int, height: int, count: int, folder: Path) -> None:
    from PIL import Image

    for i in range(count):
        Image.fromarray(picture(width, height, i)).save(folder / f"{i:03}.jpg", quality=90)


def _ours(folder: Path) -> Call:
    from PIL import Image

    from processors import ImageConfig, ImageProcessor

    files, processor = _files(folder), ImageProcessor(ImageConfig(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS))

    def decode() -> None:
        for data in files:
            Image.open(io.BytesIO(data)).load()

    return Call(lambda _: processor(files), lambda result: result.pixel_values, decode)


def _reference(folder: Path) -> Call:
    torch: Any = import_module("torch")
    read: Any = import_module("torchvision.io")
    kind: Any = import_module("transformers.models.qwen2_vl.image_processing_qwen2_vl").Qwen2VLImageProcessor
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    processor = kind(size=size, patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    files = _files(folder)

    def run(_: int) -> Any:
        pictures = [read.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)) for data in files]
        return processor(pictures, return_tensors="pt")

    return Call(run, lambda result: result["pixel_values"].numpy())


def stages(quick: bool) -> list[Stage]:
    """One stage a size."""
    return [
        Stage(
            f"images, {name}",
            "images",
            "uint8",
            {"ours": _ours, "reference": _reference},
            f"images-{width}x{height}x{count}",
            partial(_prepare, width, height, count),
            items=count,
            unit="images",
            programs=False,
            rounds=(1, 2) if quick else (5, 30),
            seconds=15,
            note="from JPEG bytes; the floor is the bare decoding by Pillow",
        )
        for name, (width, height, count) in (QUICK if quick else SIZES).items()
    ]
