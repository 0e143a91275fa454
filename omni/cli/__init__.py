"""The command line: omni chat, encode, search, transcribe, serve, train, eval and others."""

from omni.cli.app import app, main, program

__all__ = ["app", "main", "program"]
