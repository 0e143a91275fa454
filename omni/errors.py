"""Errors a user can meet: a refused input, and a refused checkpoint."""

from collections.abc import Sequence

from processors.errors import InputError

__all__ = ["CheckpointError", "InputError"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded, with everything that is wrong with it at once.

    Args:
        message: one sentence.
        missing: tensors the model needs and the files do not hold.
        unexpected: tensors in the files that the model has no place for.
        misshaped: tensors whose shape differs, each as `name: file shape, wanted shape`.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshaped: Sequence[str] = (),
    ):
        self.missing, self.unexpected, self.misshaped = tuple(missing), tuple(unexpected), tuple(misshaped)
        lines = [message]
        for title, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped)):
            if names:
                lines.append(f"{title} ({len(names)}): " + ", ".join(names))
        super().__init__("\n".join(lines))
