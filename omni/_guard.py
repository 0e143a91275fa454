"""Makes sure that `encoders` and `processors` are this project's own.

Other wheels on the package index install folders of the same names. Python takes whichever comes first, or lets one
wheel write over the other, and what follows is an import error far from its cause. Each of ours carries a marker.
"""

import importlib.util
import sys
from importlib.metadata import packages_distributions

DISTRIBUTION = "omni-jax"
PACKAGES = ("encoders", "processors")


def check() -> None:
    """Refuses to go on when another package stands in the place of one of ours. Imports neither of them.

    Raises:
        ImportError: with the intruder's distribution, or its folder when no distribution owns it.
    """
    for name in PACKAGES:
        if not _is_ours(name):
            raise ImportError(_refusal(name), name=name)


def _is_ours(name: str) -> bool:
    if name in sys.modules:
        return getattr(sys.modules[name], "__omni__", None) == DISTRIBUTION
    spec = importlib.util.find_spec(name)
    # The text is read, not run: importing `encoders` would load JAX.
    get_source = getattr(spec and spec.loader, "get_source", None)
    source = get_source(name) if get_source is not None else None
    return f'__omni__ = "{DISTRIBUTION}"' in (source or "").splitlines()


def _refusal(name: str) -> str:
    spec = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return f"omni cannot start: its package {name!r} is missing. Install {DISTRIBUTION} again."
    owners = sorted({owner for owner in packages_distributions().get(name, ()) if owner != DISTRIBUTION})
    if owners:
        who = "distribution" if len(owners) == 1 else "distributions"
        return (
            f"omni cannot start: the package {name!r} that Python finds is not its own but comes from the {who} "
            f"{', '.join(owners)}. Uninstall that and install {DISTRIBUTION} again, or give omni its own environment."
        )
    # A folder without an __init__.py has no origin.
    place = next(iter(spec.submodule_search_locations or []), None) or spec.origin
    return (
        f"omni cannot start: the package {name!r} that Python finds is not its own but {place}. Rename that, or run "
        f"from another directory."
    )
