"""Bytes from anywhere: limits, sources, and what kind of medium they are."""
