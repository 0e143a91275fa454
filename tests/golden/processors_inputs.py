"""The inputs of the processors' golden fixtures, made from seeds by the script and by the tests alike."""

import numpy as np

IMAGES = {  # name: height, width, min_pixels, max_pixels
    "photo": (240, 320, 3136, 12_845_056),
    "odd": (333, 501, 3136, 12_845_056),
    "tiny": (10, 12, 3136, 12_845_056),
    "dot": (1, 1, 3136, 12_845_056),
    "wide": (16, 1600, 3136, 12_845_056),
    "tall": (1700, 9, 3136, 12_845_056),
    "exact": (96, 160, 3136, 12_845_056),
    "half": (112, 176, 3136, 12_845_056),
    "shrunk": (700, 900, 3136, 128 * 32 * 32),
    "grown": (60, 90, 64 * 32 * 32, 12_845_056),
}
SECONDS = (0.1, 0.73, 1.0, 8.0, 12.34, 31.0, 95.0)
VIDEOS = {"five": (5, 120, 200), "four": (4, 90, 90), "one": (1, 333, 251), "three_wide": (3, 20, 900)}
# total frames, their fps, then what is asked for: fps or a count
SAMPLINGS = [
    (total, rate, fps, count)
    for total in (4, 5, 7, 30, 31, 100, 127, 300, 1800, 5000)
    for rate in (10.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0)
    for fps, count in ((2.0, None), (1.0, None), (0.5, None), (24.0, None), (None, 4), (None, 2))
] + [(108_000, 30.0, 2.0, None), (7, 30.0, None, 5), (300, 30.0, None, 33)]


def picture(name: str, height: int, width: int) -> np.ndarray:
    """Slopes, edges and a little noise: what resizing filters differ on, and what compresses."""
    random = np.random.RandomState(sum(map(ord, name)))
    y, x = np.mgrid[0:height, 0:width]
    channels = [
        127 + 90 * np.sin(x / (5 + 9 * c) + c) * np.cos(y / (7 + 5 * c)) + 18 * ((x // 13 + y // 11) % 2)
        for c in range(3)
    ]
    noise = random.randint(-6, 7, (height, width, 3)) * (random.rand(height, width, 1) < 0.3)
    return np.clip(np.stack(channels, -1) + noise, 0, 255).astype(np.uint8)


def clip(name: str, frames: int, height: int, width: int) -> np.ndarray:
    return np.stack([picture(f"{name}{frame}", height, width) for frame in range(frames)])


def speech(seconds: float) -> np.ndarray:
    """Syllables of a gliding voice over room noise, float32 at 16 kHz."""
    random = np.random.RandomState(int(seconds * 100))
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / 16_000
    voice = sum(np.sin(k * phase + k) / k for k in range(1, 30)) * np.clip(np.sin(2 * np.pi * 2.3 * t), 0, 1)
    return (0.1 * voice + 0.003 * random.randn(len(t))).astype(np.float32)


def kept_frames(frames: int) -> np.ndarray:
    """The mel frames that a fixture holds: all of a short clip, some of a long one, both ends always."""
    if frames <= 100:
        return np.arange(frames)
    return np.unique(np.r_[0:8, np.linspace(8, frames - 9, 24).astype(int), frames - 8 : frames])
