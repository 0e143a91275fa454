"""The conversations that every checkpoint is asked by default, and their media, made up in integer arithmetic.

NumPy alone, and the same bytes on every machine: a record holds what was made of them, and not the media themselves.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8

from omni.config import ModelConfig
from omni.media.types import Audio
from omni.tools.verify.avi import write_avi

RATE = 16_000
_MAX = 1 << 31


@dataclass(frozen=True, eq=False)
class Case:
    """One conversation.

    Attributes:
        name: of its own, letters, digits, `-` and `_`.
        messages: as `Model.prepare` takes them, or token ids.
        kinds: kinds of media in it.
        is_plain: whether transformers reads it likewise; it has no guard against control tokens in users' text.
    """

    name: str
    messages: Sequence[Any]
    kinds: frozenset[str] = frozenset()
    is_plain: bool = True


def default_cases(config: ModelConfig, *, tokenizer: bool) -> list[Case]:
    """Those that a model can read.

    Args:
        config: its parts.
        tokenizer: whether it has one; token ids stand for text where not.
    """
    if config.text is None:
        return []
    if not tokenizer:
        ids = (np.arange(90, dtype=np.int64) * 7919 % config.text.vocab_size).astype(np.int32)
        return [Case("ids", ids.tolist()), Case("one_id", ids[1:2].tolist())]
    if config.transcript is not None:
        return list(_speech())
    readable = {"text"}
    for kind, part in (("image", config.vision), ("video", config.vision), ("audio", config.audio)):
        if part is not None and config.tokens is not None and config.tokens.placeholder(kind) is not None:  # type: ignore[arg-type]
            readable.add(kind)
    return [case for case in conversations() if case.kinds <= readable]


def digest(cases: Sequence[Case]) -> str:
    """sha256 of conversations and of their media: whether two records are of the same."""
    state = hashlib.sha256()
    for case in cases:
        state.update(f"{case.name}\n".encode())
        _add(state, case.messages)
    return state.hexdigest()


def _add(state: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        state.update(f"{value.dtype}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            state.update(f"{key}:".encode())
            _add(state, value[key])
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}".encode())
        for inner in value:
            _add(state, inner)
    elif isinstance(value, Audio):
        _add(state, [value.source, value.sampling_rate])
    else:
        state.update(value if isinstance(value, bytes) else repr(value).encode())


# --- Conversations ----------------------------------------------------------------------------------------------------


def conversations() -> Iterator[Case]:
    """Of models that chat, with media of every kind."""

    def user(*content: Any) -> dict[str, Any]:
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        return {"role": "user", "content": parts}

    def image(pixels: np.ndarray) -> dict[str, Any]:
        return {"type": "image", "image": pixels}

    def audio(samples: np.ndarray, rate: int) -> dict[str, Any]:
        return {"type": "audio", "audio": samples, "sampling_rate": rate}

    text = [
        {"role": "system", "content": " You are terse.\n"},
        {"role": "user", "content": "Count from 1 to 10,\tthen add 3136 * 12845056.\n\n  Naïve café 港? "},
    ]
    yield Case("text", text)
    yield Case("control", [{"role": "user", "content": "Is this <|im_end|> or <|im_start|> a word?"}], is_plain=False)
    turns = [
        {"role": "user", "content": "Which is larger, 19 or 37?"},
        {"role": "assistant", "content": "<think>\n37 - 19 = 18.\n</think>\n\nThe second."},
        {"role": "user", "content": [{"type": "text", "text": "By how "}, {"type": "text", "text": "much?"}]},
    ]
    yield Case("turns", turns)
    odd, clear = picture(75, 110, 1), picture(50, 61, 2)
    yield Case("image", [user(image(odd), "Describe the image.")], frozenset({"image"}))
    alpha = np.dstack([clear, (np.indices(clear.shape[:2]).sum(0) * 5 % 256).astype(np.uint8)])
    grey = picture(9, 7, 3)[..., 0]
    images = [user("This", image(alpha), "or ", image(grey), "or that: ", image(picture(64, 96, 4)), "?")]
    yield Case("images", images, frozenset({"image"}))
    mono, stereo = waveform(1.2577, RATE, 5), np.stack([waveform(0.73, 44_100, 6), waveform(0.73, 44_100, 7)])
    yield Case("audio", [user(audio(mono, RATE), "What do you hear?")], frozenset({"audio"}))
    both = [user(audio(stereo, 44_100), "then", audio(waveform(0.2, 8_000, 8), 8_000), "Compare.")]
    yield Case("audios", both, frozenset({"audio"}))
    odd_count = {"type": "video", "video": video(5, 64, 96), "fps": 2.0}
    yield Case("video", [user(odd_count, "What moves?")], frozenset({"video"}))
    sampled = {"type": "video", "video": video(11, 70, 50), "fps": 3.0, "num_frames": 4}
    yield Case("video_sampled", [user("Watch: ", sampled, "What moves?")], frozenset({"video"}))
    with_audio = {**odd_count, "video": video(4, 48, 80), "audio": Audio(waveform(1.9, RATE, 9), RATE)}
    yield Case("video_audio", [user(with_audio, "What do you hear?")], frozenset({"video", "audio"}))
    # Uncompressed frames and samples: any build of FFmpeg reads them, all to the same values.
    file = write_avi(video(24, 48, 64), 8, waveform(2.9, RATE, 10), RATE)
    yield Case("video_file", [user({"type": "video", "video": file}, "What moves?")], frozenset({"video"}))
    kinds = frozenset({"video", "audio"})
    yield Case("video_file_audio", [user({"type": "video", "video": file, "audio": True}, "And now?")], kinds)
    mixed = [
        user(audio(waveform(0.5, RATE, 11), RATE), image(odd), "and", {**with_audio, "video": video(3, 64, 64)}, "?"),
        {"role": "assistant", "content": "A disc."},
        user(image(clear), "And here?"),
    ]
    yield Case("together", mixed, frozenset({"image", "video", "audio"}))


def _speech() -> Iterator[Case]:
    for name, seconds, rate, context in (
        ("speech", 1.2577, RATE, ""),
        ("speech_short", 0.2, 8_000, ""),
        ("speech_context", 2.3, 44_100, "Dashwood, Elinor"),
    ):
        part = {"type": "audio", "audio": waveform(seconds, rate, len(name)), "sampling_rate": rate}
        messages = [{"role": "system", "content": context}, {"role": "user", "content": [part]}]
        yield Case(name, messages, frozenset({"audio"}))


# --- Media ------------------------------------------------------------------------------------------------------------


def picture(height: int, width: int, seed: int, time: int = 0) -> UInt8[np.ndarray, "height width 3"]:
    """Slopes that differ by channel, under a disc and a bar that move with time, and some noise."""
    y, x = np.mgrid[:height, :width]
    pixels = np.empty((height, width, 3), np.int64)
    pixels[..., 0] = 255 * x // max(width - 1, 1)
    pixels[..., 1] = 255 * y // max(height - 1, 1)
    pixels[..., 2] = 160 * ((x // 8 + y // 8) % 2) + 20 * (seed % 5)
    radius = max(min(height, width) // 4, 1)
    down, across = radius + 4 * time, radius + 7 * time + 3 * seed
    pixels[(y - down) ** 2 + (x - across) ** 2 <= radius**2] = (230, 40, 60)
    bar = (width * (3 + time) // 11 + seed) % width
    pixels[:, bar : bar + max(width // 16, 1)] = (20, 200, 240)
    return np.clip(pixels + _noise(pixels.size, 31 * seed + time).reshape(pixels.shape) % 41 - 20, 0, 255).astype(
        np.uint8
    )


def video(frames: int, height: int, width: int) -> UInt8[np.ndarray, "frames height width 3"]:
    """Pictures whose corner tells the time: as many bright dots along the top as frames before."""
    shown = np.stack([picture(height, width, 7, time) for time in range(frames)])
    for time in range(frames):
        shown[time, :2, : 2 * time] = 255
    return shown


def waveform(seconds: float, rate: int, seed: int) -> Int16[np.ndarray, "samples"]:
    """A rising tone under some noise, then noise in bursts, then silence; 16-bit values."""
    count = round(seconds * rate)
    at = np.arange(count, dtype=np.int64)
    # A phase in 1/65536 turns, and a sine made of parabolas: integers throughout.
    phase = ((110 + 20 * seed) * at * 65536 // rate + 350 * at * at * 65536 // (rate * max(count, 1))) % 65536
    half = phase % 32768
    sine = half * (32768 - half) // 32768 * np.where(phase < 32768, 1, -1)
    noise = _noise(count, seed) % 8001 - 4000
    part = 5 * at // max(count, 1)
    return np.select([part < 2, part == 2, part == 3], [sine + noise // 3, noise, sine // 2 + noise // 4], 0).astype(
        np.int16
    )


def _noise(count: int, seed: int) -> np.ndarray:
    """Numbers below 2**31 without a pattern: a multiplicative hash of their places."""
    state = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003 + 12345)
    for shift in (33, 29, 32):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(0xFF51AFD7ED558CCD)
    return (state >> np.uint64(33)).astype(np.int64) % _MAX
