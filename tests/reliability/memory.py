"""What a process and its children hold, now and at most, as the kernel counts it."""

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _family() -> list[int]:
    """This process and those that come of it."""
    found, waiting = [], [os.getpid()]
    while waiting:
        process = waiting.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def held() -> int:
    """Bytes that this process and its children hold."""
    total = 0
    for process in _family():
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def forget_peak() -> None:
    """Begins the count of the most that is held anew."""
    for process in _family():
        try:
            Path(f"/proc/{process}/clear_refs").write_text("5")
        except OSError:
            continue


def peak() -> int:
    """Bytes that this process and its children held at most since `forget_peak`, each at its own moment."""
    total = 0
    for process in _family():
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("VmHWM"):
                total += int(line.split()[1]) << 10
    return total
