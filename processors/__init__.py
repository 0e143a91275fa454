"""Images, video and audio to the tensors that the encoders take, on the host: NumPy in, NumPy out, no jax."""

from processors._moved import install as _install_old_names
from processors.audio import AudioFeatures, AudioProcessor
from processors.config import AudioConfig, ImageConfig, VideoConfig
from processors.errors import InputError
from processors.image import ImageFeatures, ImageProcessor
from processors.io.access import Access, Deadline
from processors.io.limits import Limits
from processors.io.policy import Sources
from processors.media import load_audio, load_image, load_video, sniff
from processors.resize import smart_resize
from processors.video import VideoFeatures, VideoProcessor

_install_old_names()

# omni refuses to start when another package of this name stands in our place (omni/_guard.py).
__omni__ = "omni-jax"

__all__ = [
    "Access",
    "AudioConfig",
    "AudioFeatures",
    "AudioProcessor",
    "Deadline",
    "ImageConfig",
    "ImageFeatures",
    "ImageProcessor",
    "InputError",
    "Limits",
    "Sources",
    "VideoConfig",
    "VideoFeatures",
    "VideoProcessor",
    "load_audio",
    "load_image",
    "load_video",
    "smart_resize",
    "sniff",
]
