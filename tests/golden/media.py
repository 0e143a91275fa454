"""Made-up pictures, clips and films, the same on every machine. NumPy only.

Shapes and noise come from integer arithmetic or a frozen random stream; sines are rounded to 16 bits or 8 bits before
use, so that the last digit of a platform's `sin` cannot reach a fixture.
"""

import zlib

import numpy as np

RATE = 16000

IMAGES = {
    "small": (64, 96),  # both sides whole blocks of 32: no resize
    "odd": (200, 150),
    "half": (80, 112),  # two and a half blocks, three and a half: rounding to even decides
    "wide": (32, 900),
    "tall": (1100, 45),
    "tiny": (9, 7),  # below the released minimum of 3136 pixels
    "large": (480, 640),
}
AUDIO = {
    "tenth": 0.1,
    "short": 0.73,
    "second": 1.0,
    "uneven": 1.2577,  # 20,123 samples: not a whole number of hops
    "window": 8.0,  # exactly one attention window
    "middle": 12.34,
    "half_minute": 31.0,
    "long": 95.0,
}
VIDEO = {
    "seven": (7, 64, 96, 2.0),  # frames, height, width, frames a second; an odd count
    "four": (4, 48, 80, 2.0),
    "crooked": (5, 70, 50, 3.0),  # no side is a multiple of the patch, an odd rate
    "whole": (6, 320, 416, 1.0),  # needs no resize
}


def _random(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def _scene(height: int, width: int, name: str, time: int = 0) -> np.ndarray:
    """A gradient with noise, and a disc and a bar that move with time."""
    y, x = np.mgrid[:height, :width]
    picture = np.empty((height, width, 3), np.int64)
    picture[..., 0] = 255 * x // max(width - 1, 1)
    picture[..., 1] = 255 * y // max(height - 1, 1)
    picture[..., 2] = 255 * ((x // 8 + y // 8) % 2)
    radius = max(min(height, width) // 4, 1)
    centre = (radius + 5 * time, radius + 9 * time)
    picture[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = (230, 40, 60)
    bar = (width * (3 + time) // 11) % width
    picture[:, bar : bar + max(width // 16, 1)] = (20, 200, 240)
    noise = _random(f"{name} {time}").randint(-20, 21, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def image(name: str) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return _scene(*IMAGES[name], name)


def _sound(seconds: float, name: str) -> np.ndarray:
    """A rising tone, then noise in bursts, then silence, again and again; every turn differs. 16-bit values.

    The tone is not clean: 80 dB below a clean one, the reference's float32 transform is off by more than our tolerance.
    """
    count = round(seconds * RATE)
    n = np.arange(count, dtype=np.int64)
    turn = min(count, 3 * RATE)
    at, lap = n % turn, n // turn
    hertz = 110.0 * (1 + lap % 7) + 700.0 * at / turn
    wave = 9000 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
    noise = _random(name).randint(-6000, 6001, count)
    part = 5 * at // turn
    loud = np.select([part < 2, part == 2, part == 3], [wave + noise // 4, noise, wave // 2 + noise // 4], 0)
    return np.round(loud).astype(np.int16)


def audio(name: str) -> np.ndarray:
    """Mono float32 at 16 kHz in [-1, 1), each value a whole number of 1/32768."""
    return _sound(AUDIO[name], name).astype(np.float32) / 32768


def video(name: str) -> tuple[np.ndarray, float]:
    """uint8 [frames, height, width, 3], and frames a second."""
    frames, height, width, fps = VIDEO[name]
    return np.stack([_scene(height, width, name, time) for time in range(frames)]), fps


def soundtrack(name: str) -> np.ndarray:
    """The sound of a video: mono float32 at 16 kHz, a little shorter than the film, as films are."""
    frames, _, _, fps = VIDEO[name]
    return _sound(frames / fps - 0.13, f"{name} soundtrack").astype(np.float32) / 32768
