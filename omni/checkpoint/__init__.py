"""Checkpoint directories: found, checked, loaded and saved."""
