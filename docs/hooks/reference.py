"""What the API reference documents: every public name of the three packages."""

import importlib
import inspect

MODULES = {
    "omni": "Load a checkpoint, encode media, chat.",
    "omni.bulk.ray_data": "Encode rows with Ray Data, Daft or any other engine.",
    "omni.training": "Train a checkpoint on conversations: whole parts, or LoRA.",
    "omni.tools.evaluate": "Count the answers that a model gives word for word.",
    "omni.tools.inspect": "Draw what a model reads.",
    "encoders": "Patches and mel frames to embeddings, as Flax NNX modules.",
    "encoders.linen": "The same modules for Linen.",
    "processors": "Images, video and audio to patches and mel frames, with NumPy alone.",
}
# What public calls return and nobody constructs.
RETURNED = (
    "omni.generation.serving.ServingEngine",
    "omni.generation.ticket.Ticket",
    "omni.generation.reply.Usage",
    "omni.generation.scheduler.TokenLogprobs",
)


def public_names(module: str) -> list[str]:
    """Full names of what a module makes public: its `__all__`, or else what it defines without an underscore."""
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(loaded).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module
        ]
    return [f"{module}.{name}" for name in names]


def documented() -> list[str]:
    """Every name that the reference has to hold."""
    return [*(name for module in MODULES for name in public_names(module)), *RETURNED]


def resolve(name: str) -> object:
    """The object of a full name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def docstring(value: object) -> str:
    """The docstring that somebody wrote; empty for those that `dataclass` makes of the fields."""
    text = inspect.getdoc(value) or ""
    made = inspect.isclass(value) and text.startswith(f"{value.__name__}(")
    return "" if made else text


def pages() -> dict[str, str]:
    """Source of each page of the reference: its place -> Markdown."""
    made = {}
    for module, purpose in MODULES.items():
        entries = "\n\n".join(f"::: {name}" for name in public_names(module))
        made[f"reference/{module}.md"] = f"# {module}\n\n{purpose}\n\n{entries}\n"
    entries = "\n\n".join(f"::: {name}" for name in RETURNED)
    made["reference/returned.md"] = f"# What calls return\n\n{entries}\n"
    return made
