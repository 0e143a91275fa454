"""Where a long recording may be cut without cutting a word."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

_SEARCH_SECONDS = 10.0
"""A cut is looked for in so much of the end of the longest stretch."""
_WINDOW_SECONDS = 0.1
"""What has to be quiet: pauses between words are seldom shorter."""


def split_at_silence(
    blocks: Iterable[Float32[np.ndarray, "_"]], sampling_rate: int, longest_seconds: float
) -> Iterator[Float32[np.ndarray, "_"]]:
    """Cuts a recording in the middle of quiet moments into stretches that tile it.

    Each cut is in the window of least energy in the last ten seconds, or the second half, of the longest stretch that
    may begin at the cut before. Never more than one stretch and one block are held.

    Args:
        blocks: the recording, mono, in pieces of any size.
        sampling_rate: samples a second.
        longest_seconds: no stretch is longer; at least one second.

    Returns:
        The stretches; one for a recording that is short enough.
    """
    longest = int(longest_seconds * sampling_rate)
    search, window = min(int(_SEARCH_SECONDS * sampling_rate), longest // 2), int(_WINDOW_SECONDS * sampling_rate)
    held: list[np.ndarray] = []
    samples = 0
    for block in blocks:
        held.append(block)
        samples += len(block)
        while samples > longest:
            sound = held[0] if len(held) == 1 else np.concatenate(held)
            cut = longest - search + _quietest(sound[longest - search : longest], window)
            yield sound[:cut]
            held, samples = [sound[cut:]], samples - cut
    if samples:
        yield np.concatenate(held)


def _quietest(samples: Float32[np.ndarray, "_"], window: int) -> int:
    """The middle of the window of least energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return int(np.argmin(energy[window:] - energy[:-window])) + window // 2
