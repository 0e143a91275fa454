"""Containers of video and audio: their structure, their clock, and FFmpeg."""
