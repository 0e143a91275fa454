"""How programs of small parts are compiled: quickly, as they run in milliseconds and to compile one takes a second."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from encoders.nn.mesh import on_mesh
from encoders.nn.platform import platform

# Weights up to which a part is small: more than the demo has, and far fewer than any part that is published.
_SMALL = 8_000_000
# Of LLVM: the demo's programs are ready in two thirds of the time, and a tenth slower.
_QUICKLY = {"xla_backend_optimization_level": 1}


def is_small(weights: Any) -> bool:
    """Whether a part, given as the tree of its weights, is a small one."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights)) <= _SMALL


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
        self._quick = jax.jit(traced, compiler_options=_QUICKLY, **options)

    @property
    def count(self) -> int:
        """Programs that were compiled."""
        return sum(form._cache_size() for form in (self._whole, self._quick))  # pyright: ignore[reportAttributeAccessIssue]

    def lower(self, small: bool, *arguments: Any) -> Any:
        """The program that a call would run, for arguments that may be shapes alone."""
        return (self._quick if small else self._whole).lower(*arguments)

    def __call__(self, small: bool, *arguments: Any) -> Any:
        """Calls the form for small parts, or the other."""
        quick = small and platform() == "cpu"
        return (self._quick if quick else self._whole)(*arguments)
