"""The command line: omni chat, encode, transcribe, serve, inspect, train, eval, verify, info."""

from omni.cli.app import app, main, program

__all__ = ["app", "main", "program"]
