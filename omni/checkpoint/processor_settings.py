"""The settings of a checkpoint's processors, held against the towers that read what they make."""

from pathlib import Path
from typing import TypeVar

from omni.config import ModelConfig
from omni.errors import CheckpointError
from processors import AudioConfig, ImageConfig, VideoConfig

C = TypeVar("C", ImageConfig, VideoConfig, AudioConfig)


def read_processor_settings(directory: Path, config: ModelConfig) -> tuple[ImageConfig, VideoConfig, AudioConfig]:
    """Return the settings for images, videos and audio; the defaults for a part that the configuration leaves out.

    Raises:
        CheckpointError: `file_missing`, `file_unreadable`, `bad_processor_config`; `processor_mismatch`, they make
            other inputs than the towers read.
    """
    images = _settings(ImageConfig, directory, needed=config.vision is not None)
    videos = _settings(VideoConfig, directory, needed=config.vision is not None)
    mel = _settings(AudioConfig, directory, needed=config.audio is not None)
    _check(config, images, videos, mel)
    return images, videos, mel


def _settings(kind: type[C], directory: Path, *, needed: bool) -> C:
    if not needed:
        return kind()
    try:
        return kind.from_pretrained(directory)
    except FileNotFoundError as error:
        raise CheckpointError("no preprocessor_config.json in the checkpoint directory", code="file_missing") from error
    except OSError as error:
        message = f"the processor settings cannot be read: {error.strerror or type(error).__name__}"
        raise CheckpointError(message, code="file_unreadable") from error
    except (TypeError, ValueError) as error:
        message = f"the processor settings cannot be used: {error}"
        raise CheckpointError(message, code="bad_processor_config") from error


def _check(config: ModelConfig, images: ImageConfig, videos: VideoConfig, mel: AudioConfig) -> None:
    wrong = []
    if (vision := config.vision) is not None:
        wanted = {
            "patch_size": vision.patch_size,
            "merge_size": vision.spatial_merge_size,
            "temporal_patch_size": vision.temporal_patch_size,
        }
        for kind, settings in (("images", images), ("videos", videos)):
            for name, size in wanted.items():
                if getattr(settings, name) != size:
                    wrong.append(f"{name} of {kind} is {getattr(settings, name)}, and the vision tower's is {size}")
    if (audio := config.audio) is not None and mel.feature_size != audio.num_mel_bins:
        wrong.append(f"feature_size is {mel.feature_size}, and the audio tower reads {audio.num_mel_bins} mel bins")
    if wrong:
        message = f"the processor settings do not fit config.json: {wrong[0]}"
        raise CheckpointError(message, code="processor_mismatch", problems=wrong[1:] and wrong)
