"""Processor settings: frozen dataclasses, read from the files that lie beside a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from processors.io.bounded_json import SMALL, JSONError, parse

# The reference's Omni processor sets the limits of a video frame in code, over whatever its files say.
_FIXED_VIDEO_LIMITS = frozenset({"Qwen3OmniMoeProcessor"})
# The reference's ASR processor lengthens what is shorter than half a second, whether its files say so or not.
_LEAST_SAMPLES = {"Qwen3ASRProcessor": 8000, "Qwen3ASRFeatureExtractor": 8000}
# Video processors, and what of their ways is code and not settings.
_VIDEO_PROCESSORS = {
    "Qwen2VLVideoProcessor": {"clip_limits": False, "to_last_frame": False},
    "Qwen3VLVideoProcessor": {"clip_limits": True, "to_last_frame": True},
}
# Which of them goes with a model's processor, for files of stills alone.
_VIDEO_PROCESSOR_OF = {"Qwen3VLProcessor": "Qwen3VLVideoProcessor"}
_SIZES = {"shortest_edge", "longest_edge", "min_pixels", "max_pixels"}
MOST_PIXELS, _MOST_FRAMES = 1 << 40, 1 << 24
# Steps that the processors always take; a file that turns one off describes another processor.
_REQUIRED = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3}


@dataclass(frozen=True)
class ImageConfig:
    """How a still becomes patches. Defaults are those of the released Qwen3-Omni checkpoints.

    Attributes:
        patch_size: side of a patch, in pixels.
        temporal_patch_size: frames that share a patch; a still stands for all of them.
        merge_size: patches a side of the block that becomes one token.
        min_pixels: least area of a resized frame.
        max_pixels: greatest area of a resized frame.
        image_mean: mean of each channel, subtracted after rescaling.
        image_std: deviation of each channel, divided by.
        rescale_factor: what a grey level is multiplied by.
    """

    patch_size: int = 16
    temporal_patch_size: int = 2
    merge_size: int = 2
    min_pixels: int = 3136
    max_pixels: int = 12_845_056
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    rescale_factor: float = 1 / 255

    def __post_init__(self) -> None:
        for name, most in {"patch_size": 1024, "temporal_patch_size": 64, "merge_size": 64}.items():
            _require_whole(name, getattr(self, name), 1, most)
        _require_whole("min_pixels", self.min_pixels, 1, MOST_PIXELS)
        _require_whole("max_pixels", self.max_pixels, 1, MOST_PIXELS)
        _require(self.max_pixels >= self.min_pixels, "max_pixels", self.max_pixels, f"min_pixels {self.min_pixels} up")
        mean, std = self.image_mean, self.image_std
        _require(len(mean) == 3 and all(_is_finite(level) for level in mean), "image_mean", mean, "three numbers")
        _require(len(std) == 3 and all(_is_scale(level) for level in std), "image_std", std, "three above 0")
        _require(_is_scale(self.rescale_factor), "rescale_factor", self.rescale_factor, "above 0")

    @property
    def factor(self) -> int:
        """What both sides of a resized frame are multiples of, in pixels."""
        return self.patch_size * self.merge_size

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "ImageConfig":
        """Reads the settings of an image processor as a file holds them; keys of other processors are left alone.

        Raises:
            ValueError: a value that is not supported, by name.
        """
        _require_type(settings, "image_processor_type", "Qwen2VLImageProcessor")
        return cls(**_visual_fields(cls, settings))

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "ImageConfig":
        """Reads `processor_config.json` (nested) or `preprocessor_config.json` (flat).

        Raises:
            FileNotFoundError: the directory holds neither.
            ValueError: a value that is not supported, by name.
        """
        return cls.from_dict(_find_settings(Path(directory), "image_processor", ("preprocessor_config.json",)))


@dataclass(frozen=True)
class VideoConfig(ImageConfig):
    """How a video becomes patches: an ImageConfig whose limits hold for a frame or for all, and the sampling of frames.

    Attributes:
        clip_limits: whether the limits hold for the areas of all frames together.
        to_last_frame: whether frames are spread from the first to the last, in any number; else from the first on, in
            whole temporal patches.
        min_pixels: least area, of a frame or of all.
        max_pixels: greatest area, likewise.
        fps: frames a second to sample.
        min_frames: least number of frames to sample, where the video has as many.
        max_frames: greatest number of frames to sample.
    """

    min_pixels: int = 128 * 32 * 32
    max_pixels: int = 768 * 32 * 32
    fps: float | int = 2.0
    min_frames: int = 4
    max_frames: int = 768
    clip_limits: bool = False
    to_last_frame: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(_is_scale(self.fps), "fps", self.fps, "above 0")
        _require_whole("min_frames", self.min_frames, 1, _MOST_FRAMES)
        _require_whole("max_frames", self.max_frames, 1, _MOST_FRAMES)
        _require(self.max_frames >= self.min_frames, "max_frames", self.max_frames, f"min_frames {self.min_frames} up")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "VideoConfig":
        """Reads the settings of a video processor as a file holds them.

        Raises:
            ValueError: a value that is not supported, by name.
        """
        default = _VIDEO_PROCESSOR_OF.get(str(settings.get("processor_class")), "Qwen2VLVideoProcessor")
        kind = _require_type(settings, "video_processor_type", *_VIDEO_PROCESSORS, default=default)
        _require(not settings.get("cap_pixels_per_frame"), "cap_pixels_per_frame", True, "false")
        values = {**_visual_fields(cls, settings), **_VIDEO_PROCESSORS[kind]}
        if str(settings.get("processor_class")) in _FIXED_VIDEO_LIMITS:
            values.pop("min_pixels", None)
            values.pop("max_pixels", None)
        return cls(**values)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "VideoConfig":
        """Reads `processor_config.json`, `video_preprocessor_config.json` or `preprocessor_config.json`, in this order.

        The pixel limits in the last are those of images, so a video takes only its geometry and keeps its own limits.

        Raises:
            FileNotFoundError: the directory holds none of them.
            ValueError: a value that is not supported, by name.
        """
        names = ("video_preprocessor_config.json", "preprocessor_config.json")
        settings = dict(_find_settings(Path(directory), "video_processor", names))
        if "image_processor_type" in settings and "video_processor_type" not in settings:
            for name in ("min_pixels", "max_pixels", "size"):
                settings.pop(name, None)
        return cls.from_dict(settings)


@dataclass(frozen=True)
class AudioConfig:
    """How a waveform becomes a log-mel spectrogram. Defaults are those of the released Qwen3-Omni checkpoints.

    Attributes:
        sampling_rate: samples a second.
        n_fft: samples a window.
        hop_length: samples from one frame to the next.
        feature_size: mel bands.
        min_length: samples that shorter audio is lengthened to with silence, which counts as audio.
    """

    sampling_rate: int = 16_000
    n_fft: int = 400
    hop_length: int = 160
    feature_size: int = 128
    min_length: int = 0

    def __post_init__(self) -> None:
        most = {"sampling_rate": 1_000_000, "n_fft": 1 << 16, "hop_length": 1 << 16, "feature_size": 4096}
        for field in fields(self):
            least = 0 if field.name == "min_length" else 1
            _require_whole(field.name, getattr(self, field.name), least, most.get(field.name, 1 << 28))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "AudioConfig":
        """Reads the settings of a feature extractor as a file holds them; keys of other processors are left alone.

        Raises:
            ValueError: a value that is not supported, by name.
        """
        kind = settings.get("feature_extractor_type")
        if kind != "Qwen3ASRFeatureExtractor":  # it makes the same spectrogram
            _require_type(settings, "feature_extractor_type", "WhisperFeatureExtractor")
        _require(not settings.get("dither"), "dither", settings.get("dither"), "0")
        names = {field.name for field in fields(cls)}
        values = {name: value for name, value in settings.items() if name in names and value is not None}
        classes = (kind, settings.get("processor_class"))
        least = max(_LEAST_SAMPLES.get(str(name), cls.min_length) for name in classes)
        return cls(**{"min_length": least} | values)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "AudioConfig":
        """Reads `processor_config.json` (nested) or `preprocessor_config.json` (flat).

        Raises:
            FileNotFoundError: the directory holds neither.
            ValueError: a value that is not supported, by name.
        """
        return cls.from_dict(_find_settings(Path(directory), "feature_extractor", ("preprocessor_config.json",)))


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        try:
            shown = repr(value)
        except ValueError:
            shown = "a number of thousands of digits"
        raise ValueError(f"{name} is {shown if len(shown) <= 80 else shown[:77] + '...'}; supported: {rule}")


def _require_whole(name: str, value: Any, least: int, most: int) -> None:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    _require(whole and least <= int(value), name, value, f"whole numbers of at least {least}")
    _require(whole and int(value) <= most, name, value, f"whole numbers up to {most}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) < 1e6


def _is_scale(value: Any) -> bool:
    """Whether it can be multiplied with and divided by in float32."""
    return _is_finite(value) and value > 1e-6


def _require_type(settings: Mapping[str, Any], name: str, *supported: str, default: str | None = None) -> str:
    # The same processor goes by several class names, one a back end.
    value = settings.get(name) or default or supported[0]
    _require(isinstance(value, str), name, value, " or ".join(supported))
    kind = value.removesuffix("Fast").removesuffix("Pil")
    _require(kind in supported, name, value, " or ".join(supported))
    return kind


def _visual_fields(cls: type[ImageConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    for name, wanted in _REQUIRED.items():
        value = settings.get(name)
        _require(value is None or value == wanted, name, value, repr(wanted))
    names = {field.name for field in fields(cls)}
    # `size` is the newer spelling of the limits; the reference lets the older one win where a file has both.
    size = settings.get("size") or {}
    known = isinstance(size, Mapping) and {side for side, value in size.items() if value is not None} <= _SIZES
    _require(known, "size", size, "shortest_edge and longest_edge")
    renamed = {
        "min_pixels": size.get("shortest_edge", size.get("min_pixels")),
        "max_pixels": size.get("longest_edge", size.get("max_pixels")),
    }
    values = {name: value for name, value in (renamed | dict(settings)).items() if name in names}
    for name, value in renamed.items():
        if values.get(name) is None:
            values[name] = value
    for name in ("image_mean", "image_std"):
        if (value := values.get(name)) is not None:
            _require(isinstance(value, list | tuple) and all(map(_is_finite, value)), name, value, "three numbers")
            values[name] = tuple(map(float, value))
    return {name: value for name, value in values.items() if value is not None}


def _find_settings(directory: Path, section: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    nested = directory / "processor_config.json"
    if nested.is_file():
        content = _read(nested)
        if section in content:
            if not isinstance(content[section], dict):
                raise ValueError(f"{nested.name}: {section} must be an object, not a {type(content[section]).__name__}")
            # The nested section seldom repeats which processor it is part of.
            return {"processor_class": content.get("processor_class"), **content[section]}
    for name in names:
        if (directory / name).is_file():
            return _read(directory / name)
    raise FileNotFoundError(f"{directory} holds no {' or '.join(names)}, nor a processor_config.json with {section!r}")


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        raw = file.read(SMALL.bytes + 1)
    try:
        content = parse(raw)
    except JSONError as error:
        raise ValueError(f"{path.name} is not JSON that can be used: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, not an object")
    return content
