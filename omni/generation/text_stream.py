"""From token ids as they come to text as it may be shown: whole characters only, cut at a stop string."""

from collections.abc import Sequence

from omni.prompt.tokenizer import StreamDecoder, Tokenizer


class TextStream:
    """The visible text of one reply.

    Args:
        tokenizer: for decoding.
        stop: strings that end the reply; they are not part of it.
        whole_characters: leave out the bytes of a character that was not finished, which else become U+FFFD.

    Attributes:
        text: everything shown so far.
        stopped: whether a stop string was met.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], *, whole_characters: bool = False):
        self._whole_characters = whole_characters
        self._decoder = StreamDecoder(tokenizer)
        self._stop = [s for s in stop if s]
        self._held = ""
        self.text: str = ""
        self.stopped: bool = False

    def push(self, token_id: int) -> str:
        """Takes one token; returns what may be shown because of it, often nothing yet."""
        return self._show(self._decoder.push(token_id), final=False)

    def flush(self) -> str:
        """What was held back, at the end of the reply."""
        rest = "" if self._whole_characters else self._decoder.flush()
        return "" if self.stopped else self._show(rest, final=True)

    def _show(self, piece: str, *, final: bool) -> str:
        pending = self._held + piece
        # The one that is whole first ends the reply, so that it does not matter how the text was cut into pieces.
        found = [(at + len(s), at) for s in self._stop if (at := pending.find(s)) >= 0]
        if found:
            shown, self._held, self.stopped = pending[: min(found)[1]], "", True
        else:
            # The end of the text may be the beginning of a stop string: it waits.
            keep = 0 if final else max((_overlap(pending, s) for s in self._stop), default=0)
            shown, self._held = pending[: len(pending) - keep], pending[len(pending) - keep :]
        self.text += shown
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
