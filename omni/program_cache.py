"""Where compiled programs are kept between processes."""

import os
from pathlib import Path
from typing import Any

import jax


def default_folder() -> Path:
    """Return the folder of the user's cache that programs are kept in when nobody has named another."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "omni-jax" / "compiled"


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, unless the user has chosen a place for them already, or to keep none."""
    place, least = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    config: Any = jax.config
    if _is_set(place, None) or not config.jax_enable_compilation_cache:
        return
    config.update(place, str(default_folder()))
    if not _is_set(least, 1.0):
        config.update(least, 0.2)


def _is_set(name: str, default: Any) -> bool:
    """Whether a setting of JAX is set in the environment, or is not the one that JAX begins with."""
    return name.upper() in os.environ or getattr(jax.config, name) != default
