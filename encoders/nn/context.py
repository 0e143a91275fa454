"""Programs whose numbers, and whose arrays' places, do not depend on what the caller has set in JAX.

`jax.make_mesh` makes Explicit axes, along which each operation of a program says where its result lies. The programs of
this library leave that to the compiler, and count in 32 bits. So they run outside the mesh that the caller has set, and
with JAX's own rules of dtypes and ranks; they see weights on a caller's mesh as lying on the same devices along Auto
axes. The caller finds all as it was.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from encoders.nn.mesh import with_auto_axes

F = TypeVar("F", bound=Callable[..., Any])

_NARROW = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}


def as_weight(array: Any) -> Any:
    """Return an array as programs take it: along Auto axes, its buffers shared, and of 32 bits at the most."""
    array = np.asarray(array) if isinstance(array, bool | int | float) else array
    narrow = _NARROW.get(array.dtype.name)
    if narrow is not None:
        with jax.enable_x64(True):
            array = array.astype(narrow)
    sharding = getattr(array, "sharding", None)
    if not isinstance(sharding, NamedSharding) or set(sharding.mesh.axis_types) <= {AxisType.Auto}:
        return array
    auto = with_auto_axes(cast(Mesh, sharding.mesh))
    return jax.device_put(array, NamedSharding(auto, sharding.spec, memory_kind=sharding.memory_kind))


def in_own_context(function: F) -> F:
    """Decorate a function to run in a context of JAX that does not depend on its caller's.

    Of a generator function each step does; between steps the caller's context is as it was.
    """
    if not inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with _context():
                return function(*args, **kwargs)

        return cast(F, call)

    @functools.wraps(function)
    def iterate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps = function(*args, **kwargs)
        try:
            while True:
                with _context():
                    try:
                        value = next(steps)
                    except StopIteration:
                        return
                yield value
        finally:
            with _context():
                steps.close()

    return cast(F, iterate)


def _context() -> contextlib.ExitStack:
    """What undoes the caller's settings; for most callers there is nothing to undo."""
    stack, config = contextlib.ExitStack(), cast(Any, jax.config)
    if not jax.sharding.get_abstract_mesh().empty:
        stack.enter_context(jax.set_mesh(Mesh(np.empty((), dtype=object), ())))
    if config.jax_enable_x64:
        stack.enter_context(jax.enable_x64(False))
    if config.jax_numpy_dtype_promotion != "standard":
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
    if config.jax_numpy_rank_promotion != "allow":
        stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack
