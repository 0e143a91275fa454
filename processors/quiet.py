"""Where a long recording may be cut without cutting a word."""

import numpy as np
from jaxtyping import Float32

_SEARCH_SECONDS = 10.0
"""A cut is looked for in so much of the end of the longest stretch."""
_WINDOW_SECONDS = 0.1
"""What has to be quiet: pauses between words are seldom shorter."""


def quiet_stretches(
    waveform: Float32[np.ndarray, "samples"], sampling_rate: int, longest_seconds: float
) -> list[tuple[int, int]]:
    """Cuts a recording in the middle of quiet moments into stretches that tile it.

    Each cut is in the window of least energy in the last ten seconds, or the second half, of the longest stretch that
    may begin at the cut before.

    Args:
        waveform: mono.
        sampling_rate: samples a second.
        longest_seconds: no stretch is longer; at least one second.

    Returns:
        First sample, and the one after the last, of each stretch; one stretch for a recording that is short enough.
    """
    longest = int(longest_seconds * sampling_rate)
    search, window = min(int(_SEARCH_SECONDS * sampling_rate), longest // 2), int(_WINDOW_SECONDS * sampling_rate)
    cuts = [0]
    while len(waveform) - cuts[-1] > longest:
        end = cuts[-1] + longest
        cuts.append(end - search + _quietest(waveform[end - search : end], window))
    return list(zip(cuts, [*cuts[1:], len(waveform)], strict=True))


def _quietest(samples: Float32[np.ndarray, "samples"], window: int) -> int:
    """The middle of the window of least energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return int(np.argmin(energy[window:] - energy[:-window])) + window // 2
