"""Makes the media that the demo is asked about, by other means than what it was trained on.

    python -m samples.demo_recipe.make_demo_media

Needs the `demo-data` extra and flite, whose voice `rms` the demo never heard in training.
"""

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

HERE = Path(__file__).parents[1]


def shapes(path: Path) -> None:
    """A red circle left of a blue square, as a drawing program makes them."""
    picture = Image.new("RGB", (800, 600), (250, 250, 245))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((60, 210, 250, 400), fill=(220, 20, 30))
    pen.rectangle((560, 215, 735, 390), fill=(20, 60, 220))
    picture.save(path)


def digit(path: Path, index: int) -> None:
    """A digit by one of the writers that are kept for testing."""
    levels = np.pad(load_digits().images[index] / 16, 2)
    ink = Image.fromarray((levels * 255).astype(np.uint8)).resize((480, 480), Image.Resampling.BICUBIC)
    paper = np.full((480, 480, 3), (244, 236, 214), np.float32)
    weight = np.clip(np.asarray(ink, np.float32)[..., None] / 240, 0, 1)
    Image.fromarray((paper * (1 - weight) + weight * (35, 40, 90)).astype(np.uint8)).save(path, quality=85)


def spoken(path: Path, word: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", "rms", "-t", word, "-o", file.name], check=True)
        soundfile.write(path, *soundfile.read(file.name, dtype="int16"))


def moving(path: Path) -> None:
    """A yellow star that crosses a grey ground from left to right in three seconds."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(12), options={"crf": "22", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(36):
            picture = Image.new("RGB", (320, 240), (70, 75, 85))
            angles = np.radians(np.arange(10) * 36)
            radii = np.where(np.arange(10) % 2, 18, 44)
            x, y = 50 + 220 * i / 35, 120
            corners = np.stack([x + radii * np.sin(angles), y - radii * np.cos(angles)], axis=1)
            ImageDraw.Draw(picture).polygon([tuple(c) for c in corners], fill=(245, 215, 40))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


if __name__ == "__main__":
    shapes(HERE / "shapes.png")
    digit(HERE / "digit.jpg", index=1710)
    spoken(HERE / "seven.flac", "seven")
    moving(HERE / "star.mp4")
