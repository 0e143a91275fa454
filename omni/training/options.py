"""What a user chooses about training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omni.errors import InputError, is_number, is_whole, shown
from omni.loading import PARTS
from omni.training.parameters import LoRA


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        steps: batches to train on in all; 120, or as many as show each conversation three times, when None.
        batch_size: conversations a batch.
        learning_rate: at its highest; it rises over the first twentieth of the steps and falls as a cosine. When None,
            0.08 divided by the decoder's width, and 0.25 divided by it for adapters.
        tower_share: of the learning rate, for the towers where the decoder is trained beside them.
        last_share: what it falls to, as a share of its highest.
        weight_decay: of matrices, decoupled (arXiv:1711.05101).
        clip_norm: longest gradient.
        parts: which parts are trained, of "vision", "audio" and "text"; all that the model has when None.
        lora: train adapters of the text part instead, and no part whole.
        seed: order of the conversations.
        save_every: steps between two saves of the state.
        mix_share: how many batches of all hold conversations from `mix`, from 0 to 1.
        check_every: steps between two measurements of the validation loss; a tenth of the steps when None.
        patience: measurements in a row without a lower loss after which training stops.
        keep_gib: media that are kept in memory once they are read, and encoded where the towers are not trained, so
            that later epochs need not do so again.
    """

    steps: int | None = None
    batch_size: int = 8
    learning_rate: float | None = None
    tower_share: float = 0.1
    last_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    parts: Sequence[str] | None = None
    lora: LoRA | None = None
    seed: int = 0
    save_every: int = 200
    mix_share: float = 0.5
    check_every: int | None = None
    patience: int = 3
    keep_gib: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every", "check_every", "patience"):
            value: Any = getattr(self, name)
            left_open = name in ("steps", "check_every") and getattr(self, name) is None
            if not left_open and (not is_whole(value) or value < 1):
                raise InputError("bad_option", f"{name} must be a whole number above 0, got {shown(value)}")
        for name in (
            "learning_rate",
            "tower_share",
            "last_share",
            "weight_decay",
            "clip_norm",
            "keep_gib",
            "mix_share",
        ):
            value = getattr(self, name)
            left_open = name == "learning_rate" and self.learning_rate is None
            if not left_open and (not is_number(value) or not 0 <= value < float("inf")):
                raise InputError("bad_option", f"{name} must be a number from 0 on, got {shown(value)}")
        for name in ("last_share", "mix_share"):
            if getattr(self, name) > 1:
                raise InputError("bad_option", f"{name} must be from 0 to 1, got {shown(getattr(self, name))}")
        unknown = [part for part in self.parts or () if part not in PARTS]
        if unknown:
            raise InputError("bad_option", f"parts must be some of {', '.join(PARTS)}, got {', '.join(unknown)}")
