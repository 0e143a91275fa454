"""Decoded media: arrays and what can be viewed as one."""

import io
from typing import Any

import numpy as np
from PIL import Image

import omni
from processors import AudioProcessor, ImageProcessor, VideoProcessor, load_audio, load_image, load_video, sniff
from tests.reliability import media
from tests.reliability.corpus.table import Either, Refused, Table, Value, demo

CASES = Table("array")
RATE = 16_000
IMAGE = Refused("image_*", "media_unknown")
VIDEO = Refused("video_*", "image_*", "media_unknown", "source_*")
AUDIO = Refused("audio_*", "media_unknown", "bad_option")


class Viewed:
    """What NumPy can view, as tensors of other libraries."""

    def __init__(self, array: np.ndarray):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)


class Failing:
    """What fails when it is viewed."""

    shape, dtype, ndim = (9, 9, 3), np.dtype(np.uint8), 3

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("no memory at 0x7f0000000000 in /usr/lib/python3/x.py")


class Exchanged:
    """What only DLPack can hand over, as tensors on another device do."""

    def __init__(self, array: np.ndarray):
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def grey(*shape: int, dtype: Any = np.uint8, level: int = 7) -> np.ndarray:
    return np.full(shape, level, dtype)


for name, array, fits in (
    ("grey", grey(30, 20), (30, 20, 3)),
    ("one channel", grey(30, 20, 1), (30, 20, 3)),
    ("RGB", grey(30, 20, 3), (30, 20, 3)),
    ("RGBA", grey(30, 20, 4), (30, 20, 3)),
    ("16 bits", grey(30, 20, dtype=np.uint16), (30, 20, 3)),
    ("not contiguous", grey(60, 40, 3)[::2, ::2], (30, 20, 3)),
    ("upside down", grey(30, 20, 3)[::-1], (30, 20, 3)),
    ("of Fortran's order", np.asfortranarray(grey(30, 20, 3)), (30, 20, 3)),
    ("read-only", np.broadcast_to(grey(1, 1, 3), (30, 20, 3)), (30, 20, 3)),
):
    CASES.add(f"picture {name}", lambda a=array: a, load_image, Value(lambda found, s=fits: found.shape == s))
CASES.add(
    "picture viewed", lambda: Viewed(grey(30, 20, 3)), load_image, Value(lambda found: found.shape == (30, 20, 3))
)
CASES.add(
    "picture through DLPack",
    lambda: Exchanged(grey(30, 20, 3)),
    load_image,
    Value(lambda found: found.shape == (30, 20, 3)),
)
CASES.add(
    "picture of the buffer protocol",
    lambda: memoryview(grey(30, 20, 3)),
    load_image,
    Value(lambda found: found.shape == (30, 20, 3)),
)
CASES.add("picture that fails to be viewed", Failing, load_image, IMAGE)
for name, array in (
    ("floats", grey(9, 9, 3, dtype=np.float32)),
    ("int64", grey(9, 9, 3, dtype=np.int64)),
    ("bool", grey(9, 9, dtype=bool)),
    ("complex", grey(9, 9, 3, dtype=np.complex64)),
    ("object", np.full((9, 9, 3), None)),
    ("text", np.full((9, 9), "x")),
    ("2 channels", grey(9, 9, 2)),
    ("5 channels", grey(9, 9, 5)),
    ("no height", grey(0, 9, 3)),
    ("no width", grey(9, 0, 3)),
    ("1 axis", grey(9)),
    ("5 axes", grey(2, 2, 2, 2, 3)),
    ("no axis", np.uint8(3)),
):
    CASES.add(f"picture of {name}", lambda a=array: a, load_image, IMAGE)
    CASES.add(f"picture of {name}, wrapped", lambda a=array: omni.Image(a), lambda image: demo().encode(image), IMAGE)
CASES.add(
    "picture of 200 million pixels that takes no memory",
    lambda: np.broadcast_to(np.uint8(0), (20_000, 10_000, 3)),
    load_image,
    Refused("image_too_large"),
)

for name, array, rate in (
    ("float16", media.tone().astype(np.float16), RATE),
    ("float64", media.tone().astype(np.float64), RATE),
    ("int16", (media.tone() * 32767).astype(np.int16), RATE),
    ("int32", (media.tone() * 2**31).astype(np.int32), RATE),
    ("uint8", (media.tone() * 127 + 128).astype(np.uint8), RATE),
    ("int8", (media.tone() * 127).astype(np.int8), RATE),
    ("channels first", np.stack([media.tone()] * 2), RATE),
    ("channels last", np.stack([media.tone()] * 2, 1), RATE),
    ("a rate of NumPy", media.tone(), np.int64(RATE)),
    ("a whole float rate", media.tone(), 16000.0),
    ("slightly over full scale", media.tone(level=1.4), RATE),
):
    CASES.add(
        f"audio of {name}",
        lambda a=array, r=rate: (a, r),
        lambda given: load_audio(*given),
        Value(lambda found: len(found) == RATE and found.dtype == np.float32 and np.abs(found).max() > 0.2),
    )
CASES.add(
    "audio as (array, rate)",
    lambda: (media.tone(), RATE),
    lambda given: demo().encode(omni.Audio(given)),
    Either(Value(lambda found: found.kind == "audio"), AUDIO),
)
CASES.add("audio viewed", lambda: Viewed(media.tone()), lambda a: load_audio(a, RATE), Value(lambda a: len(a) == RATE))
CASES.add(
    "audio through DLPack",
    lambda: Exchanged(media.tone()),
    lambda a: load_audio(a, RATE),
    Value(lambda found: len(found) == RATE),
)
CASES.add(
    "a list of samples in audio's place",
    [0.0, 0.1],
    lambda a: load_audio(a, RATE),
    Either(Value(lambda found: len(found) == 2), AUDIO),
)
for name, value in (
    ("nan", np.nan),
    ("inf", np.inf),
    ("-inf", -np.inf),
    ("1e18", 1e18),
    ("1e19", 1e19),
    ("3e38", 3e38),
):

    def loud(v=value) -> np.ndarray:
        samples = media.tone()
        samples[500] = v
        return samples

    CASES.add(f"audio with a sample of {name}", loud, lambda a: load_audio(a, RATE), AUDIO)
    CASES.add(f"audio with a sample of {name}, encoded", loud, lambda a: demo().encode(omni.Audio(a, RATE)), AUDIO)
for gain in (128, 32767, 2**31, 1e12):
    CASES.add(
        f"floats of integers' size, {gain:g}",
        lambda g=gain: media.tone() * np.float32(g),
        lambda a: load_audio(a, RATE),
        Refused("audio_range", "audio_scale", "audio_too_loud", "audio_full_scale", "audio_level", "audio_loud"),
    )
for name, array, rate in (
    ("no samples", np.zeros(0, np.float32), RATE),
    ("3 axes", np.zeros((2, 2, 2), np.float32), RATE),
    ("no axis", np.float32(1), RATE),
    ("complex", np.zeros(9, np.complex64), RATE),
    ("bool", np.zeros(9, bool), RATE),
    ("uint16", np.zeros(9, np.uint16), RATE),
    ("int64", np.zeros(9, np.int64), RATE),
    ("text", np.array(["a"] * 9), RATE),
    ("65 channels", np.zeros((65, 99), np.float32), RATE),
    ("no rate", media.tone(), None),
    ("rate 0", media.tone(), 0),
    ("rate -1", media.tone(), -1),
    ("rate 16000.5", media.tone(), 16000.5),
    ("rate nan", media.tone(), float("nan")),
    ("rate inf", media.tone(), float("inf")),
    ("rate 10^12", media.tone(), 10**12),
    ("rate as text", media.tone(), "16000"),
    ("rate True", media.tone(), True),
    ("rate as a list", media.tone(), [16000]),
    ("rate 2^70", media.tone(), 2**70),
):
    CASES.add(f"audio of {name} is refused", lambda a=array, r=rate: (a, r), lambda given: load_audio(*given), AUDIO)
    CASES.add(
        f"audio of {name} is refused, wrapped",
        lambda a=array, r=rate: (a, r),
        lambda given: demo().encode(omni.Audio(*given)),
        AUDIO,
    )
CASES.add("silence", lambda: np.zeros(RATE, np.float32), lambda a: AudioProcessor()(a, RATE), Value())
CASES.add("one sample", lambda: np.zeros(1, np.float32), lambda a: AudioProcessor()(a, RATE), Either(Value(), AUDIO))
CASES.add(
    "one sample, encoded",
    lambda: np.zeros(1, np.float32),
    lambda a: demo().encode(omni.Audio(a, RATE)),
    Either(Value(), AUDIO),
)

CASES.add("frames", lambda: grey(5, 32, 32, 3), load_video, Value(lambda found: found.shape == (5, 32, 32, 3)))
CASES.add("frames as a list of pictures", lambda: [media.picture(32, 32)] * 5, VideoProcessor(), Value())
CASES.add("frames as a list of bytes", lambda: [media.image_bytes()] * 4, VideoProcessor(), Either(Value(), VIDEO))
CASES.add("a closed file in frames' place", lambda: [io.BytesIO()] * 4, load_video, VIDEO)
for name, source in (
    ("no frames", grey(0, 32, 32, 3)),
    ("3 axes", grey(32, 32, 5)),
    ("floats", grey(4, 32, 32, 3, dtype=np.float32)),
    ("2 channels", grey(4, 32, 32, 2)),
    ("no height", grey(4, 0, 32, 3)),
    ("an empty list", []),
    ("words", ["a", "b"]),
    ("numbers", [1, 2]),
    ("two sizes", [media.picture(32, 32), media.picture(32, 48)]),
    ("None", [None, None]),
    ("a dict", {"a": 1}),
    ("an object", object()),
    ("ragged", [grey(9, 9, 3), grey(9, 9)[0]]),
):
    CASES.add(
        f"frames of {name}",
        lambda s=source: s,
        load_video,
        VIDEO if name != "words" else Refused("source_*", "video_*"),
    )
for name, options in (
    ("fps 0", {"fps": 0}),
    ("fps -1", {"fps": -1}),
    ("fps nan", {"fps": float("nan")}),
    ("fps inf", {"fps": float("inf")}),
    ("fps as text", {"fps": "2"}),
    ("fps as a list", {"fps": [2]}),
    ("num_frames 0", {"num_frames": 0}),
    ("num_frames -4", {"num_frames": -4}),
    ("num_frames 10^9", {"num_frames": 10**9}),
    ("num_frames 2.5", {"num_frames": 2.5}),
    ("num_frames nan", {"num_frames": float("nan")}),
    ("num_frames as text", {"num_frames": "4"}),
    ("both", {"fps": 2, "num_frames": 4}),
    ("fps True", {"fps": True}),
):
    CASES.add(
        f"clip with {name}",
        lambda o=options: o,
        lambda given: VideoProcessor()(media.clip(), **given),
        Refused("video_sampling", "bad_option"),
    )
    CASES.add(
        f"clip with {name}, wrapped",
        lambda o=options: o,
        lambda given: demo().encode(omni.Video(media.clip(), **given)),
        Refused("video_sampling", "bad_option"),
    )
for name, value in (
    ("None", None),
    ("a number", 3),
    ("a dict", {}),
    ("an object", object()),
    ("a set", {1}),
    ("a function", len),
    ("a generator", (n for n in range(3))),
    ("an array of 5 axes", grey(2, 2, 2, 2, 2)),
    ("a class", dict),
):
    CASES.add(f"{name} in a medium's place", lambda v=value: v, lambda v: demo().encode(v), Refused("media_unknown"))
    CASES.add(f"{name} sniffed", lambda v=value: v, sniff, Refused("media_unknown"))
CASES.add("an empty list of media", [], lambda media_: demo().encode(media_), Value(lambda found: found == []))
for size in (0, -1, 2.5, True, "8", None):
    CASES.add(
        f"batch_size {size!r}",
        lambda s=size: s,
        lambda s: demo().encode([grey(32, 32, 3)], batch_size=s),
        Refused("bad_batch_size"),
    )
for options in (
    {"max_pixels": "5"},
    {"max_pixels": -5},
    {"min_pixels": 2.5},
    {"min_pixels": 10**12},
    {"max_pixels": True},
):
    CASES.add(
        f"omni.Image with {options}",
        lambda o=options: o,
        lambda o: demo().encode(omni.Image(media.png(9, 9), **o)),
        Refused("pixel_limits", "bad_option", "image_too_large", "too_many_tokens"),
    )
CASES.add(
    "a picture in a picture's processor twice",
    lambda: Image.fromarray(grey(40, 40, 3)),
    lambda image: ImageProcessor()([image, image]),
    Value(lambda found: len(found.grid_thw) == 2),
)
