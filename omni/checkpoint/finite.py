"""Whether weights are numbers."""

import numpy as np

_CHECKED_AT_ONCE = 1 << 20


def is_finite(array: np.ndarray) -> bool:
    """Whether no weight is NaN or infinite, told without a copy.

    The bits of a floating number order as whole numbers do, so that one comparison with the greatest of each sign is
    enough. Piece by piece, which stay in the cache, and between which Ctrl-C is answered.
    """
    signed, unsigned = {2: (np.int16, np.uint16), 4: (np.int32, np.uint32)}[array.dtype.itemsize]
    infinity = int(np.asarray(np.inf, array.dtype).view(signed))
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHECKED_AT_ONCE):
        piece = flat[start : start + _CHECKED_AT_ONCE]
        if piece.view(signed).max() >= infinity:
            return False
        # Of negative numbers those from minus infinity on are the greatest; of positive ones none comes so far.
        if piece.view(unsigned).max() >= infinity + (1 << (8 * array.dtype.itemsize - 1)):
            return False
    return True
