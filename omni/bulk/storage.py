"""Files of this machine and of any address that fsspec knows."""

import importlib
import os
import re
from typing import Any

from omni.errors import InputError
from processors.io.sources import describe

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)(?:::[A-Za-z][A-Za-z0-9+.\-]*)*://")


def extra(module: str) -> Any:
    """Import a library of the extra `bulk`.

    Raises:
        InputError: `needs_bulk_extra`, it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise InputError("needs_bulk_extra", f'tables need {name}: pip install "omni-jax[bulk]"') from None


def is_address(source: str) -> bool:
    """Whether a source is an address of another file system, and no path."""
    return _ADDRESS.match(source) is not None


def protocol(address: str) -> str:
    """Return the protocol of an address, empty for a path."""
    match = _ADDRESS.match(address)
    return match[1].lower() if match else ""


def file_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there.

    Raises:
        InputError: `source_scheme`, no library for it is installed.
    """
    fsspec = extra("fsspec")
    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError("source_scheme", f"{describe(address)}: {str(error)[:200]}") from None


def address_of(system: Any, path: str) -> str:
    """Return the address of a path in a file system."""
    return str(system.unstrip_protocol(path))


def open_binary(path: str) -> Any:
    """Open a path or an address for reading.

    Raises:
        InputError: `source_not_found` or `source_unreadable`.
    """
    try:
        if not is_address(path):
            return open(path, "rb")
        system, inside = file_system(path)
        return system.open(inside, "rb")
    except FileNotFoundError:
        raise InputError("source_not_found", f"no file at {describe(path)}") from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError("source_unreadable", f"{describe(path)} cannot be read: {reason}") from None


def beside(table: str, name: str) -> str:
    """Return where a name lies that a table's row holds: relative ones beside the table."""
    if os.path.isabs(name) or is_address(name) or name.lower().startswith("data:"):
        return name
    folder = table.rpartition("/")[0] if is_address(table) else os.path.dirname(table)
    return f"{folder}/{name}" if folder else name
