"""The weights of a module as they are at each call."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from encoders.nn.context import as_weight
from encoders.nn.mesh import mesh_of

Arrays = Sequence[Any]


class Graph:
    """A module without its arrays, as a static argument of a jitted function.

    Found in jit's table by identity, and its arrays are passed as a plain list: a State has a Python object for each of
    its variables, and to take those apart costs more than the call.

    Args:
        module: the module.

    Attributes:
        mesh: what its arrays lie on; None for a single device.
    """

    def __init__(self, module: nnx.Module):
        graph, state = nnx.split(module)
        self._graph = graph
        self.state: Any = state  # which holds the module's own variables
        arrays, tree = jax.tree.flatten(state)
        self.tree: Any = tree
        self.mesh: Mesh | None = mesh_of(arrays)
        self._hash = hash((self._graph, self.tree, self.mesh))

    def merge(self, arrays: Arrays) -> Any:
        """Return the module with these arrays; to be called in a jitted function."""
        return nnx.merge(self._graph, jax.tree.unflatten(self.tree, arrays))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Graph) and (self._graph, self.tree, self.mesh) == (
            other._graph,
            other.tree,
            other.mesh,
        )


class Weights:
    """A module that is read anew at each call, so that edits are seen.

    NNX modules are edited by giving a variable another array, or by putting other variables, modules or static
    attributes in the places of those that were there. Arrays are read each time; the graph is made again when an
    attribute is not the one that it was. No array is kept.

    Args:
        module: any NNX module.
    """

    def __init__(self, module: nnx.Module):
        self.module = module
        self._graph, self._attributes = Graph(module), _attributes(module)
        self._seen: tuple[Any, Sequence[weakref.ref], object] = None, (), None
        # Arrays that programs take in another form, in that form, each for as long as the array itself.
        self._views: dict[int, tuple[weakref.ref, Any]] = {}

    def read(self) -> tuple[Graph, list[Any]]:
        """Return the graph, which is the same object until an attribute is replaced, and the arrays as they are now."""
        graph, arrays = self._current()
        return graph, [self._view(array) for array in arrays]

    @property
    def version(self) -> object:
        """An object that stays the same until an array or an attribute is replaced.

        With arrays that can be written in place, such as those of NumPy, it is another one each time.
        """
        (graph, arrays), (known, refs, version) = self._current(), self._seen
        if not all(isinstance(array, jax.Array) for array in arrays):
            return object()
        if known is graph and all(ref() is array for ref, array in zip(refs, arrays, strict=True)):
            return version
        self._seen = graph, [weakref.ref(array) for array in arrays], object()
        return self._seen[2]

    def _current(self) -> tuple[Graph, list[Any]]:
        arrays, tree = jax.tree.flatten(self._graph.state)
        # A weight may have become one of several arrays, or all may have moved.
        moved = mesh_of(arrays[:1]) != self._graph.mesh and mesh_of(arrays) != self._graph.mesh
        if _changed(self._attributes) or tree != self._graph.tree or moved:
            self._graph, self._attributes = Graph(self.module), _attributes(self.module)
            arrays = jax.tree.leaves(self._graph.state)
        return self._graph, arrays

    def _view(self, array: Any) -> Any:
        key = id(array)
        known = self._views.get(key)
        if known is not None and known[0]() is array:
            return known[1]
        view = as_weight(array)
        if view is not array and isinstance(array, jax.Array):
            self._views[key] = weakref.ref(array, lambda _: self._views.pop(key, None)), view
        return view


def _attributes(module: nnx.Pytree) -> list[tuple[dict[Any, Any], Mapping[Any, Any]]]:
    """The attributes of a module and of all modules within, each as it is and as it was."""
    found, queue, reached = [], [module], set[int]()
    while queue:
        node = queue.pop()
        if id(node) not in reached:
            reached.add(id(node))
            found.append((vars(node), dict(vars(node))))
            queue += [value for value in vars(node).values() if isinstance(value, nnx.Pytree)]
    return found


def _changed(attributes: Sequence[tuple[Mapping[Any, Any], Mapping[Any, Any]]]) -> bool:
    for now, before in attributes:
        if len(now) != len(before):
            return True
        for name, value in before.items():
            if now.get(name) is not value:
                return True
    return False
