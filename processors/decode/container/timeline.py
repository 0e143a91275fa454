"""One rising time line for the packets of a container whose clock starts again."""

from typing import Any

# As ffmpeg has it: a step back of more than this, in seconds, is a clock that starts again, ...
_BACK = 0.1
# ... and so is a step ahead of more than this past every track, where the format's clock is known to jump.
_AHEAD = 10.0
# AVFMT_TS_DISCONT, which PyAV has no name for: transport and program streams, Ogg.
_JUMPS = 0x0200


class Timeline:
    """Shifts the times of packets, taken in the order of the file, so that each part goes on where the last one ended.

    Tracks keep their places beside each other: one shift holds for all of them.

    Args:
        container: the container that packets come from.
        joints: positions in the file at which another file was joined to it, where its structure shows them.
    """

    def __init__(self, container: Any, joints: tuple[int, ...] = ()):
        self._jumps = bool(int(container.format.flags) & _JUMPS)
        self._joints = list(joints)
        self._shift = self._shift_before = 0.0
        # By track: the latest time, and when its next packet is due.
        self._last: dict[int, float] = {}
        self._next: dict[int, float] = {}
        # Tracks of which packets from before the last jump may still come, for tracks are interleaved loosely.
        self._behind: set[int] = set()
        self.parts = 1

    def place(self, packet: Any) -> None:
        """Set a packet's times to those of the time line."""
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            return
        unit, track = float(packet.time_base), packet.stream.index
        now, shift = time * unit + self._shift, self._shift
        if self._passes_joint(packet):
            now = self._restart(now, max(self._next.values()))
        elif track in self._behind and self._belongs_before(track, time * unit):
            shift = self._shift_before
            self._advance(packet, track, time * unit + shift, unit, shift)
            return
        elif self._jumps and self._jumped(track, now):
            now = self._restart(now, self._next.get(track, max(self._next.values())))
        self._behind.discard(track)
        self._advance(packet, track, now, unit, self._shift)

    def _restart(self, now: float, due: float) -> float:
        self._shift_before, self._shift = self._shift, self._shift + due - now
        self._behind, self._last = set(self._next), {}
        self.parts += 1
        return due

    def _belongs_before(self, track: int, time: float) -> bool:
        due = self._next[track]
        return abs(time + self._shift_before - due) < abs(time + self._shift - due)

    def _advance(self, packet: Any, track: int, now: float, unit: float, shift: float) -> None:
        self._last[track] = max(now, self._last.get(track, now))
        # Matroska gives no true decoding times, and one joint needs the end of what is shown.
        shown = now if packet.pts is None or self._jumps else packet.pts * unit + shift
        end = shown + ((packet.duration or 0) * unit or _frame_length(packet.stream))
        self._next[track] = max(end, self._next.get(track, end))
        if shift:
            ticks = round(shift / unit)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _passes_joint(self, packet: Any) -> bool:
        passed = False
        while self._joints and packet.pos is not None and packet.pos >= self._joints[0]:
            self._joints.pop(0)
            passed = bool(self._next)
        return passed

    def _jumped(self, track: int, now: float) -> bool:
        back = now + _BACK < self._last.get(track, now)
        return back or (bool(self._next) and now - max(self._next.values()) > _AHEAD)


def _frame_length(track: Any) -> float:
    rate = getattr(track, "guessed_rate", None) or getattr(track, "average_rate", None)
    return 1 / float(rate) if rate else 0.0
