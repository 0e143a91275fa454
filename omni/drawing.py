"""What the model sees, as pictures: patches, mel frames, the token layout of a conversation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

INK, PAPER, RULE = (32, 33, 36), (255, 255, 255), (218, 220, 224)
# Okabe and Ito's palette: told apart by the colour-blind as well.
COLOURS = {"text": (153, 153, 153), "image": (0, 114, 178), "audio": (0, 158, 115), "video": (213, 94, 0)}
# Viridis at nine points (Smith and van der Walt, 2015), interpolated linearly.
_VIRIDIS = np.array(
    [
        [68, 1, 84],
        [71, 44, 122],
        [59, 81, 139],
        [44, 113, 142],
        [33, 144, 141],
        [39, 173, 129],
        [92, 200, 99],
        [170, 220, 50],
        [253, 231, 37],
    ],
    np.float32,
)
_MARGIN = 24


def draw_patches(
    frames: Sequence[UInt8[np.ndarray, "height width 3"]], patch_size: int, merge_size: int, caption: str
) -> PilImage.Image:
    """Resized frames in a row, each with its patches (thin) and the blocks that become one token (thick)."""
    scale = max(1, 480 // max(max(frame.shape[:2]) for frame in frames))
    pictures = []
    for frame in frames:
        picture = PilImage.fromarray(frame)
        picture = picture.resize((picture.width * scale, picture.height * scale), PilImage.Resampling.NEAREST)
        lines = PilImage.new("RGBA", picture.size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(lines)
        for step, colour in ((patch_size, (255, 255, 255, 90)), (patch_size * merge_size, (255, 255, 255, 220))):
            for x in range(0, picture.width + 1, step * scale):
                draw.line([(x, 0), (x, picture.height)], fill=colour)
            for y in range(0, picture.height + 1, step * scale):
                draw.line([(0, y), (picture.width, y)], fill=colour)
        pictures.append(PilImage.alpha_composite(picture.convert("RGBA"), lines).convert("RGB"))
    width = sum(picture.width + 8 for picture in pictures) - 8
    sheet, draw = _sheet(width, max(picture.height for picture in pictures), caption)
    x = _MARGIN
    for picture in pictures:
        sheet.paste(picture, (x, 2 * _MARGIN))
        x += picture.width + 8
    return sheet


def draw_mel(
    mel: Float[np.ndarray, "bins frames"], frame_seconds: float, window_frames: int, caption: str
) -> PilImage.Image:
    """A log-mel spectrogram, low notes below, with seconds marked and attention windows divided by white lines."""
    low, high = float(mel.min()), float(mel.max())
    level = (mel[::-1] - low) / max(high - low, 1e-6) * (len(_VIRIDIS) - 1)
    at = np.minimum(level.astype(int), len(_VIRIDIS) - 2)
    part = (level - at)[..., None]
    colours = _VIRIDIS[at] * (1 - part) + _VIRIDIS[at + 1] * part
    picture = PilImage.fromarray(colours.astype(np.uint8))
    width = min(max(picture.width, 480), 1600)
    across = width / picture.width
    picture = picture.resize((width, 256), PilImage.Resampling.BILINEAR)
    sheet, draw = _sheet(width, 256 + _MARGIN, caption)
    sheet.paste(picture, (_MARGIN, 2 * _MARGIN))
    for frame in range(window_frames, mel.shape[1], window_frames):
        x = _MARGIN + frame * across
        draw.line([(x, 2 * _MARGIN), (x, 2 * _MARGIN + 256)], fill=PAPER, width=2)
    seconds = mel.shape[1] * frame_seconds
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600) if seconds / s <= 14), 3600)
    for i in range(int(seconds / step) + 1):
        x = _MARGIN + i * step / frame_seconds * across
        draw.line([(x, 2 * _MARGIN + 256), (x, 2 * _MARGIN + 261)], fill=INK)
        draw.text((x, 2 * _MARGIN + 264), f"{i * step:g} s", fill=INK, font=_font(11), anchor="ma")
    return sheet


def draw_layout(kinds: Sequence[str], caption: str) -> PilImage.Image:
    """The tokens of a conversation in reading order, a cell each, coloured by what they carry."""
    columns, cell = 64, 14
    rows = -(-len(kinds) // columns)
    sheet, draw = _sheet(columns * cell, rows * cell + 2 * _MARGIN, caption)
    for i, kind in enumerate(kinds):
        x, y = _MARGIN + i % columns * cell, 2 * _MARGIN + i // columns * cell
        draw.rectangle([x, y, x + cell - 2, y + cell - 2], fill=COLOURS[kind])
    x, y = _MARGIN, 2 * _MARGIN + rows * cell + 12
    for kind, colour in COLOURS.items():
        count = sum(k == kind for k in kinds)
        if count:
            draw.rectangle([x, y, x + 11, y + 11], fill=colour)
            label = f"{kind} {count}"
            draw.text((x + 17, y + 6), label, fill=INK, font=_font(12), anchor="lm")
            x += 40 + int(draw.textlength(label, font=_font(12)))
    return sheet


def _sheet(width: int, height: int, caption: str) -> tuple[PilImage.Image, ImageDraw.ImageDraw]:
    # A caption longer than its picture makes the sheet wider, not the caption shorter.
    width = max(width, int(_font(14).getlength(caption)))
    sheet = PilImage.new("RGB", (width + 2 * _MARGIN, height + 3 * _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), caption, fill=INK, font=_font(14), anchor="lm")
    draw.line([(_MARGIN, _MARGIN + 12), (width + _MARGIN, _MARGIN + 12)], fill=RULE)
    return sheet, draw


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
