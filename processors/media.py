"""Encoded to decoded media: RGB levels or a mono waveform."""

from processors.decode.audio.decoder import load_audio
from processors.decode.image.decoder import load_image
from processors.decode.video.decoder import load_video
from processors.io.sniffing import sniff

__all__ = ["load_audio", "load_image", "load_video", "sniff"]
