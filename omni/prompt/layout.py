"""From a prompt with one placeholder a medium to one token a row, with rotary positions in time, height and width.

Positions are those of `get_rope_index` of the Qwen3-Omni reference, to the last bit: float32 throughout, and summed in
its order. Everything is counted, merged and filled by array operations; the only loop is over media.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer, Real

from omni.config import Kind, SpecialTokens
from omni.errors import InputError


@dataclass(frozen=True)
class MediaLayout:
    """What the layout needs to know of a medium.

    Attributes:
        kind: `image`, `audio` or `video`.
        tokens: rows of its embedding.
        grid_thw: patches in time, height and width; None for audio.
        seconds_per_grid: seconds between two steps of the time axis; None unless a video.
        audio_tokens: rows of its sound track, for a video that is read with its audio.
        timestamps: when each step of the time axis is shown, in seconds; None unless a video.
    """

    kind: Kind
    tokens: int
    grid_thw: tuple[int, int, int] | None = None
    seconds_per_grid: float | None = None
    audio_tokens: int | None = None
    timestamps: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Span:
    """The tokens that receive a medium's rows.

    Attributes:
        kind: `image`, `audio` or `video`; a video's sound track is a span of kind `audio` with the video's index.
        media_index: which medium, in order of appearance in the messages.
        indices: token indices, ascending; not contiguous where a sound track is interleaved.
    """

    kind: Kind
    media_index: int
    indices: Int32[np.ndarray, "rows"]


@dataclass(frozen=True, eq=False)
class Layout:
    """A prompt laid out.

    Attributes:
        token_ids: ids, with one placeholder for every row.
        position_ids: rotary positions in time, height and width.
        next_position: position of the first token after these.
        spans: where the rows go.
    """

    token_ids: Int32[np.ndarray, "tokens"]
    position_ids: Float32[np.ndarray, "3 tokens"]
    next_position: float
    spans: tuple[Span, ...]


def lay_out(
    prompt_ids: Sequence[int] | Integer[np.ndarray, "prompt"],
    media: Sequence[MediaLayout],
    special_tokens: SpecialTokens,
    position_id_per_seconds: float,
    merge_size: int,
) -> Layout:
    """Expands every placeholder to its medium's rows and gives each token its position.

    A video with its audio becomes `audio_start`, its frames and its audio in order of time, `audio_end`, all between
    the boundaries that the template wrote.

    Args:
        prompt_ids: the rendered template's tokens, with one placeholder for every medium.
        media: the media, in order of appearance.
        special_tokens: ids of placeholders and boundaries.
        position_id_per_seconds: steps of the time axis in a second.
        merge_size: patches along a side of one visual token.

    Raises:
        InputError: `media_count`, when placeholders and media do not match; `bad_embedding`, when a medium's rows are
            not those of its grid.
    """
    prompt = np.asarray(prompt_ids, np.int32).reshape(-1)
    is_placeholder, places = find_placeholders(prompt, media, special_tokens)
    writer = _Writer(special_tokens, position_id_per_seconds, merge_size)
    start = 0
    for place, index in places:
        # The boundary tokens on both sides are pieces of their own: float32 sums depend on where pieces begin.
        before, after = max(start, place - 1), place + 1
        if after < len(prompt) and not is_placeholder[after]:
            after += 1
        opening, closing = prompt[before:place], prompt[place + 1 : after]
        if media[index].audio_tokens is not None:
            begin, end = special_tokens.audio_start_token_id, special_tokens.audio_end_token_id
            assert begin is not None and end is not None
            opening, closing = np.append(opening, np.int32(begin)), np.append(np.int32(end), closing)
        writer.text(prompt[start:before])
        writer.text(opening)
        writer.medium(media[index], index)
        writer.closing(closing)
        start = after
    writer.text(prompt[start:])
    return writer.finish()


def find_placeholders(
    prompt: Int32[np.ndarray, "prompt"], media: Sequence[MediaLayout], special_tokens: SpecialTokens
) -> tuple[Bool[np.ndarray, "prompt"], list[tuple[int, int]]]:
    """Where placeholders are, and each one's index with that of its medium: the first picture's for the first, etc."""
    is_placeholder = np.zeros(len(prompt), bool)
    places: list[tuple[int, int]] = []
    for kind in ("image", "video", "audio"):
        placeholder = special_tokens.placeholder(kind)
        at = np.flatnonzero(prompt == (-1 if placeholder is None else placeholder))
        given = [i for i, medium in enumerate(media) if medium.kind == kind]
        if len(at) != len(given):
            raise InputError(
                "media_count", f"the prompt has {len(at)} {kind} placeholders for {len(given)} media of that kind"
            )
        is_placeholder[at] = True
        places += zip(at.tolist(), given, strict=True)
    return is_placeholder, sorted(places)


def grid_sides(medium: MediaLayout, merge_size: int) -> tuple[int, int, int]:
    """Return frames, and rows and columns of tokens in each.

    Raises:
        InputError: `bad_embedding`, there is no grid, or it is not of whole merged patches as many as the rows.
    """
    grid = medium.grid_thw
    if grid is None:
        raise InputError("bad_embedding", f"an embedding of kind {medium.kind} lacks its grid")
    whole = all(isinstance(side, int | np.integer) and 0 < side < 1 << 31 for side in grid)
    t, h, w = grid if whole else (0, 0, 0)
    if h % merge_size or w % merge_size or t * h * w != medium.tokens * merge_size**2 or not medium.tokens:
        shown = ", ".join(f"{side!r:.20}" for side in grid)
        raise InputError("bad_embedding", f"an embedding of {medium.tokens} rows does not fit its grid ({shown})")
    return int(t), int(h) // merge_size, int(w) // merge_size


def _is_time(seconds: float | None) -> bool:
    return seconds is not None and 0 < seconds < float("inf")


class _Writer:
    """Tokens, positions and spans, written from left to right."""

    def __init__(self, special_tokens: SpecialTokens, position_id_per_seconds: float, merge_size: int):
        self._special, self._rate, self._merge = special_tokens, position_id_per_seconds, merge_size
        self._tokens: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []
        self._spans: list[Span] = []
        self._length = 0
        self._next = np.float32(0)

    def text(self, ids: Int32[np.ndarray, "text"]) -> None:
        """Tokens that count up on all three axes, up to a medium."""
        self._write(ids, self._steps(len(ids)))
        self._next = self._next + np.float32(len(ids))

    def closing(self, ids: Int32[np.ndarray, "text"]) -> None:
        """As `text`, after a medium: what follows begins at the last position and 1, which float32 may round apart
        from the first position and the length."""
        steps = self._steps(len(ids))
        self._write(ids, steps)
        self._next = steps.max(initial=self._next - np.float32(1)) + np.float32(1)

    def medium(self, medium: MediaLayout, index: int) -> None:
        """A medium's rows; what follows counts on from the largest position of their last stretch."""
        placeholder = self._special.placeholder(medium.kind)
        assert placeholder is not None
        if medium.kind == "audio":
            self._mark("audio", index, np.arange(medium.tokens))
            self.closing(np.full(medium.tokens, placeholder, np.int32))
            return
        seen = self._grid_positions(medium)
        if medium.audio_tokens is not None:
            self._heard_video(medium, index, seen)
            return
        self._mark(medium.kind, index, np.arange(medium.tokens))
        self._write(np.full(medium.tokens, placeholder, np.int32), seen)
        self._next = seen.max() + np.float32(1)

    def finish(self) -> Layout:
        """Everything joined."""
        positions = np.concatenate(self._positions, axis=1)
        last = positions.max(initial=np.float32(-1))
        return Layout(np.concatenate(self._tokens), positions, float(last + np.float32(1)), tuple(self._spans))

    def _heard_video(self, medium: MediaLayout, index: int, seen: Float32[np.ndarray, "3 video"]) -> None:
        """Frames and sound in order of time, a frame before the sound of the same moment.

        The reference orders tokens by float64 times and positions by float32 positions. Where rounding sets the two
        apart it is followed in both.
        """
        assert medium.grid_thw is not None and medium.seconds_per_grid is not None and medium.audio_tokens is not None
        frames, heard = medium.grid_thw[0], medium.audio_tokens
        times = np.repeat(np.arange(frames), medium.tokens // frames) * medium.seconds_per_grid * self._rate
        is_video = _merge(times, np.arange(heard))
        self._mark("video", index, np.flatnonzero(is_video))
        self._mark("audio", index, np.flatnonzero(~is_video))

        sound = self._steps(heard)
        seen_first = _merge(seen[0], sound[0])
        positions = np.empty((3, len(seen_first)), np.float32)
        positions[:, seen_first], positions[:, ~seen_first] = seen, sound
        video, audio = self._special.video_token_id, self._special.audio_token_id
        assert video is not None and audio is not None
        self._write(np.where(is_video, video, audio), positions)
        # The last stretch is what is left of one when the other has come to its end.
        changes = np.flatnonzero(seen_first[1:] != seen_first[:-1])
        stretch = changes[-1] + 1 if len(changes) else 0
        self._next = positions[:, stretch:].max() + np.float32(1)

    def _grid_positions(self, medium: MediaLayout) -> Float32[np.ndarray, "3 rows"]:
        t, h, w = grid_sides(medium, self._merge)
        if medium.kind == "video" and not _is_time(medium.seconds_per_grid):
            raise InputError("bad_embedding", "an embedding of kind video lacks its clock")
        seconds = np.float32(1 if medium.seconds_per_grid is None else medium.seconds_per_grid)
        positions = np.empty((3, t, h, w), np.float32)
        positions[0] = (np.arange(t, dtype=np.float32) * seconds * np.float32(self._rate))[:, None, None]
        positions[1] = np.arange(h)[:, None]
        positions[2] = np.arange(w)
        return positions.reshape(3, -1) + self._next

    def _steps(self, count: int) -> Float32[np.ndarray, "3 count"]:
        return np.broadcast_to(np.arange(count, dtype=np.float32) + self._next, (3, count))

    def _mark(self, kind: Kind, index: int, offsets: Integer[np.ndarray, "rows"]) -> None:
        if len(offsets):
            self._spans.append(Span(kind, index, (offsets + self._length).astype(np.int32)))

    def _write(self, ids: Integer[np.ndarray, "tokens"], positions: Float32[np.ndarray, "3 tokens"]) -> None:
        self._tokens.append(ids.astype(np.int32))
        self._positions.append(positions)
        self._length += len(ids)


def _merge(first: Real[np.ndarray, "a"], second: Real[np.ndarray, "b"]) -> Bool[np.ndarray, "a+b"]:
    """Merges two ascending lists, of equal values the first's before the second's; True where the first's are then."""
    from_first = np.zeros(len(first) + len(second), bool)
    from_first[np.arange(len(first)) + np.searchsorted(second, first, side="left")] = True
    return from_first
