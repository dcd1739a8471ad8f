"""CPU time and memory of processes and their children, from the system's own account."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

__all__ = ["Usage", "cpu_between", "usage_of"]


@dataclass(frozen=True)
class Usage:
    """What one process has used.

    Parameters:
        cpu_s: User and system time since its start.
        resident: Bytes in memory (RSS), those that it shares with others included.
    """

    pid: int
    name: str
    cpu_s: float
    resident: int


def usage_of(roots: Mapping[str, int]) -> list[Usage]:
    """Return the usage of each process and of its children now; children are called `NAME child`."""
    return [usage for name, pid in roots.items() for usage in _tree(name, pid)]


def cpu_between(before: list[Usage], after: list[Usage]) -> dict[str, float]:
    """Return the CPU seconds per name; those of a process that was not there before count from its start."""
    started = {usage.pid: usage.cpu_s for usage in before}
    total: defaultdict[str, float] = defaultdict(float)
    for usage in after:
        total[usage.name] += usage.cpu_s - started.get(usage.pid, 0.0)
    return dict(total)


def _tree(name: str, pid: int) -> Iterator[Usage]:
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            called = name if process.pid == pid else f"{name} child"
            yield Usage(process.pid, called, times.user + times.system, process.memory_info().rss)
