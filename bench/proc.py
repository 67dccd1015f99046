"""What the kernel says of a process and of those it started: CPU and memory."""

from __future__ import annotations

import os
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds per clock tick: the precision of CPU figures."""

_PROC = Path("/proc")


def parse_stat(text: str) -> tuple[int, int]:
    """The parent's id and the CPU ticks of a process.

    Args:
        text: of ``/proc/<pid>/stat``. The name of the command, in parentheses, may hold anything.

    Returns:
        ``ppid``, and ``utime + stime`` over all threads, those that have ended included.
    """
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[11]) + int(fields[12])


def parse_pss(text: str) -> int:
    """Bytes of proportional set size, from ``/proc/<pid>/smaps_rollup``.

    Raises:
        ValueError: there is no such line.
    """
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no line begins with Pss:")


def tree(pid: int) -> list[int]:
    """A process and all below it that live now."""
    parents: dict[int, int] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = parse_stat((entry / "stat").read_text())[0]
            except OSError:
                continue  # it has ended meanwhile
    found = [pid]
    for parent in found:  # grows while it is read
        found += [child for child, of in parents.items() if of == parent]
    return found


def cpu_seconds(pids: list[int]) -> float:
    """CPU that these processes have used so far."""
    return sum(parse_stat((_PROC / str(pid) / "stat").read_text())[1] for pid in pids) * TICK


def pss_bytes(pids: list[int]) -> int:
    """Memory of these processes, shared pages divided among those that share them. Socket buffers are the kernel's."""
    return sum(parse_pss((_PROC / str(pid) / "smaps_rollup").read_text()) for pid in pids)


def open_files(pid: int) -> int:
    """File descriptors of one process."""
    return len(list((_PROC / str(pid) / "fd").iterdir()))


def cpu_nanoseconds(pids: list[int]) -> int:
    """CPU that the living threads of these processes have used so far, without the coarseness of ticks.

    What threads used that have ended is not in it.
    """
    tasks = (task for pid in pids for task in (_PROC / str(pid) / "task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
