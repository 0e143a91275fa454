"""Token layouts of the families that write its time before each frame of a clip: `<0.5 seconds>`.

Positions are those of `get_rope_index` of the Qwen3-VL reference: whole numbers, each frame laid out as a picture is,
and what follows counts on from the longer of its sides.
"""

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
from jaxtyping import Int32, Integer

from omni.config import SpecialTokens
from omni.errors import InputError
from omni.prompt.layout import Layout, MediaLayout, Span, find_placeholders, grid_sides


def lay_out_stamped(
    prompt_ids: Sequence[int] | Integer[np.ndarray, "prompt"],
    media: Sequence[MediaLayout],
    special_tokens: SpecialTokens,
    merge_size: int,
    encode: Callable[[str], list[int]],
) -> Layout:
    """Expands every placeholder to its medium's rows and gives each token its position.

    A clip becomes, for each step of its grid in time, the time in words, `vision_start`, the frame's rows and
    `vision_end`, all between the boundaries that the template wrote.

    Args:
        prompt_ids: the rendered template's tokens, with one placeholder for every medium.
        media: the media, in order of appearance.
        special_tokens: ids of placeholders and boundaries.
        merge_size: patches along a side of one visual token.
        encode: text to token ids.

    Raises:
        InputError: `media_count`, when placeholders and media do not match; `bad_embedding`, when a medium's rows are
            not those of its grid, or a clip has no times.
    """
    prompt = np.asarray(prompt_ids, np.int32).reshape(-1)
    _, places = find_placeholders(prompt, media, special_tokens)
    writer = _Writer()
    start = 0
    for place, index in places:
        writer.text(prompt[start:place])
        medium = media[index]
        frames, height, width = _grid(medium, merge_size)
        if medium.kind == "image":
            found = writer.picture(int(prompt[place]), height, width)
        else:
            assert medium.timestamps is not None
            begin, end = special_tokens.vision_start_token_id, special_tokens.vision_end_token_id
            rows = []
            for _, seconds in zip(range(frames), medium.timestamps, strict=True):
                writer.text([*encode(f"<{seconds:.1f} seconds>"), begin])
                rows.append(writer.picture(int(prompt[place]), height, width))
                writer.text([end])
            found = np.concatenate(rows)
        writer.spans.append(Span(medium.kind, index, found))
        start = place + 1
    writer.text(prompt[start:])
    return writer.finish()


def _grid(medium: MediaLayout, merge_size: int) -> tuple[int, int, int]:
    """Frames, and rows and columns of tokens in each."""
    frames, height, width = grid_sides(medium, merge_size)
    if medium.kind == "video":
        times = medium.timestamps
        if times is None or len(times) != frames or not all(isfinite(seconds) for seconds in times):
            raise InputError("bad_embedding", f"an embedding of kind video lacks the times of its {frames} steps")
    return frames, height, width


class _Writer:
    """Tokens, positions and spans, written from left to right."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._tokens: list[np.ndarray] = [np.empty(0, np.int32)]
        self._positions: list[np.ndarray] = [np.empty((3, 0), np.int64)]
        self._length = self._next = 0

    def text(self, ids: Sequence[int | None] | Int32[np.ndarray, "text"]) -> None:
        """Tokens that count up on all three axes."""
        self._write(np.asarray(ids, np.int32), np.broadcast_to(np.arange(len(ids)), (3, len(ids))))
        self._next += len(ids)

    def picture(self, placeholder: int, height: int, width: int) -> Int32[np.ndarray, "rows"]:
        """A frame's rows; returns their token indices."""
        first = self._length
        self._write(
            np.full(height * width, placeholder, np.int32),
            np.stack(np.broadcast_arrays(0, *np.mgrid[:height, :width])).reshape(3, -1),
        )
        self._next += max(height, width)
        return np.arange(first, self._length, dtype=np.int32)

    def finish(self) -> Layout:
        """Everything joined."""
        positions = np.concatenate(self._positions, axis=1)
        after = float(positions.max(initial=-1) + 1)
        return Layout(np.concatenate(self._tokens), positions.astype(np.float32), after, tuple(self.spans))

    def _write(self, ids: np.ndarray, offsets: np.ndarray) -> None:
        self._tokens.append(ids)
        self._positions.append(offsets + self._next)
        self._length += len(ids)
