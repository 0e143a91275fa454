"""Modules under the names that they had in 0.1: each imports the module of today, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "encoders.attention": "encoders.ops.attention.api",
    "encoders.context": "encoders.nn.context",
    "encoders.embedders": "encoders.runner",
    "encoders.layers": "encoders.nn.layers",
    "encoders.layout": "encoders.buckets",
    "encoders.programs": "encoders.nn.compile",
    "encoders.rotary": "encoders.nn.rotary",
    "encoders.weights": "encoders.nn.module_weights",
}


class _Moved(MetaPathFinder, Loader):
    """Stands last among the finders: asked for what no other finds."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        warnings.warn(f"{name} is now called {MOVED[name]}", DeprecationWarning, stacklevel=2)
        sys.modules[name] = importlib.import_module(MOVED[name])


def install() -> None:
    """Let the old names be imported."""
    sys.meta_path.append(_Moved())
