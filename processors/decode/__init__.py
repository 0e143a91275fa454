"""Bytes to RGB frames or a mono waveform."""
