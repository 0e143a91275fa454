"""Encoded to decoded media: RGB levels or a mono waveform."""

from processors.decode_audio import load_audio
from processors.decode_image import load_image
from processors.decode_video import load_video
from processors.sniffing import sniff

__all__ = ["load_audio", "load_image", "load_video", "sniff"]
