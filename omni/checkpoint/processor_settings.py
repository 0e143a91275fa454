"""The processors' settings in a checkpoint directory, held against its towers."""

from pathlib import Path
from typing import TypeVar

from omni.config import ModelConfig
from omni.errors import CheckpointError
from processors import AudioConfig as MelConfig
from processors import ImageConfig, VideoConfig

C = TypeVar("C", ImageConfig, VideoConfig, MelConfig)


def read_settings(kind: type[C], directory: Path, *, needed: bool) -> C:
    """A processor's settings; the defaults where no part needs them.

    Raises:
        CheckpointError: they are absent, or cannot be used.
    """
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


def check_settings(config: ModelConfig, images: ImageConfig, videos: VideoConfig, mel: MelConfig) -> None:
    """Refuses settings that make other inputs than the towers read.

    Raises:
        CheckpointError: `processor_mismatch`, with everything that does not fit.
    """
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
