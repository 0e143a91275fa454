"""What the decoder reads for one sequence: token ids, positions, and rows of media."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32

# The same position, summed in other pieces, may differ in its last bits.
_SAME_POSITION = 0.01


@dataclass(frozen=True, eq=False)
class Overlay:
    """Embedding rows that take the place of token embeddings.

    Attributes:
        indices: token indices that receive a row each.
        tokens: the rows.
        deepstack: rows added to the hidden state after the first decoder layers; None for audio.
    """

    indices: Int32[np.ndarray, "rows"]
    tokens: Float[np.ndarray, "rows width"]
    deepstack: Float[np.ndarray, "levels rows width"] | None = None

    @property
    def levels(self) -> int:
        """Of deepstack."""
        return 0 if self.deepstack is None else len(self.deepstack)

    def equals(self, other: "Overlay") -> bool:
        """Whether the rows and their places are the same."""
        if not np.array_equal(self.indices, other.indices):
            return False
        pairs = ((self.tokens, other.tokens), (self.deepstack, other.deepstack))
        return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


@dataclass(frozen=True, eq=False)
class Prompt:
    """What the decoder reads for one sequence.

    Attributes:
        token_ids: ids, placeholders included.
        position_ids: rotary positions in time, height and width.
        next_position: position of the first token after the prompt.
        overlays: media rows.
        message_ends: after how many tokens a message ends; there, states of linear layers are worth keeping.
        salt: prompts share what was read of them only with those of the same salt.
    """

    token_ids: Int32[np.ndarray, "tokens"]
    position_ids: Float[np.ndarray, "3 tokens"]
    next_position: float
    overlays: tuple[Overlay, ...] = ()
    message_ends: tuple[int, ...] = ()
    salt: str = ""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def levels(self) -> int | None:
        """Deepstack levels of the media; None without media."""
        return max((overlay.levels for overlay in self.overlays), default=None)

    def followed_by(self, token_ids: Sequence[int]) -> "Prompt":
        """This prompt with tokens after it."""
        if not len(token_ids):
            return self
        steps = np.arange(len(token_ids), dtype=np.float32) + np.float32(self.next_position)
        return Prompt(
            np.concatenate([self.token_ids, np.asarray(token_ids, np.int32)]),
            np.concatenate([self.position_ids, np.broadcast_to(steps, (3, len(steps)))], axis=1, dtype=np.float32),
            self.next_position + len(token_ids),
            self.overlays,
            self.message_ends,
            self.salt,
        )

    def shared_prefix(self, other: "Prompt") -> int:
        """How many tokens at the beginning are the very same, media and positions included.

        An answer counts on from the largest position before it, a prompt that holds the answer from its last medium's
        last stretch: where a heard video's frames are wider than it is long, these are not the same.
        """
        if self.salt != other.salt:
            return 0
        most = min(len(self), len(other))
        differ = self.token_ids[:most] != other.token_ids[:most]
        if differ.any():
            most = int(differ.argmax())
        moved = np.abs(self.position_ids[:, :most] - other.position_ids[:, :most]).max(axis=0, initial=0)
        if (moved > _SAME_POSITION).any():
            most = int((moved > _SAME_POSITION).argmax())
        mine, theirs = self._overlays_by_start(), other._overlays_by_start()
        for start in sorted(mine.keys() | theirs.keys()):
            if start >= most:
                break
            if start not in mine or start not in theirs or not mine[start].equals(theirs[start]):
                return start
        return most

    def _overlays_by_start(self) -> dict[int, Overlay]:
        return {int(overlay.indices[0]): overlay for overlay in self.overlays if len(overlay.indices)}
