"""How programs are compiled and kept; those of small parts quickly, as they run in milliseconds and not in seconds."""

import functools
from collections.abc import Callable
from os import environ
from typing import Any

import jax
import jaxlib

from encoders.nn.mesh import on_mesh
from encoders.nn.platform import platform

# Weights up to which a part is small: more than the demo has, and far fewer than any part that is published.
_SMALL = 8_000_000
# What JAX begins with: programs that compile sooner are not kept.
_JAX_LEAST_SECONDS = 1.0
# Of LLVM: the demo's programs are ready in two thirds of the time, and a tenth slower.
_QUICKLY: dict[str, Any] = {"xla_backend_optimization_level": 1}
# Of the two emitters of fusions that XLA had up to jaxlib 0.10, the older one halves the time for a gradient. It makes
# slower programs of towers and decoders, whose programs are kept on disk and run again and again.
_SOONEST = dict(_QUICKLY)
if jaxlib.version.__version_info__ < (0, 11):
    _SOONEST["xla_cpu_use_fusion_emitters"] = False


def _unless_set(options: dict[str, Any]) -> dict[str, Any] | None:
    """Those of XLA's options of which the user has said nothing."""
    return {name: value for name, value in options.items() if name not in environ.get("XLA_FLAGS", "")} or None


def is_small(weights: Any) -> bool:
    """Whether a part, given as the tree of its weights, is a small one."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights)) <= _SMALL


def compiler_options(small: bool) -> dict[str, Any] | None:
    """Return what to tell XLA, as `jax.jit` takes it, of programs that will run a few hundred times.

    Args:
        small: whether they are of small parts; those of others run for longer than they compile.
    """
    return _unless_set(_SOONEST) if small and platform() == "cpu" else None


def cache_programs(directory: str, *, least_seconds: float = 0.2) -> None:
    """Keep compiled programs in a folder, from which later processes read them; `omni.load` does so by itself.

    A place that JAX has been told of already stands, as does the wish to keep none.

    Args:
        directory: made where it is absent.
        least_seconds: programs that compile sooner are not kept, unless JAX has been told of another time.
    """
    config: Any = jax.config
    if not config.jax_enable_compilation_cache or config.jax_compilation_cache_dir is not None:
        return
    config.update("jax_compilation_cache_dir", directory)
    if config.jax_persistent_cache_min_compile_time_secs == _JAX_LEAST_SECONDS:
        config.update("jax_persistent_cache_min_compile_time_secs", least_seconds)


class Program:
    """A jitted function in two forms, one for small parts.

    Args:
        function: what is computed of a `Graph` and other arguments, for the mesh that the graph's weights lie on.
        options: of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        @functools.wraps(function)
        def traced(graph: Any, *arguments: Any) -> Any:
            with on_mesh(graph.mesh):
                return function(graph, *arguments)

        self._whole = jax.jit(traced, **options)
        self._quick = jax.jit(traced, compiler_options=_unless_set(_QUICKLY), **options)

    @property
    def count(self) -> int:
        """Programs that were compiled."""
        return sum(form._cache_size() for form in (self._whole, self._quick))  # pyright: ignore[reportAttributeAccessIssue]

    def lower(self, small: bool, *arguments: Any) -> Any:
        """The program that a call would run, for arguments that may be shapes alone."""
        return (self._quick if small else self._whole).lower(*arguments)

    def __call__(self, small: bool, *arguments: Any) -> Any:
        """Calls the form for small parts, or the other."""
        return self._form(small)(*arguments)

    def compile(self, small: bool, *arguments: Any) -> None:
        """Compile without a call: what JAX keeps on disk is found there by the first call of the kind.

        Args:
            small: as of a call.
            arguments: arrays, or in their places what has their shapes and dtypes.
        """
        self._form(small).lower(*arguments).compile()

    def _form(self, small: bool) -> Any:
        return self._quick if small and platform() == "cpu" else self._whole
