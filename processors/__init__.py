"""Images, video and audio to the tensors that the encoders take, on the host: NumPy in, NumPy out, no jax."""

from processors.access import Access, Deadline
from processors.audio import AudioFeatures, AudioProcessor
from processors.config import AudioConfig, ImageConfig, VideoConfig
from processors.errors import InputError
from processors.image import ImageFeatures, ImageProcessor
from processors.limits import Limits
from processors.media import load_audio, load_image, load_video, sniff
from processors.patches import smart_resize
from processors.policy import Sources
from processors.video import VideoFeatures, VideoProcessor

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
