"""A suspended machine, imitated: its processes stand still for a while, and their monotonic clock did not see it.

On Linux CLOCK_MONOTONIC stands still in a suspend, CLOCK_BOOTTIME and the time of day go on. A test can stop processes,
which leaves all of their clocks running. So this replaces `time.monotonic` in them by one from which what the test says
is missing, since the very instant at which they go on: all of a node's processes read it from one file.

What it does not imitate: who has taken `monotonic` out of `time` before this was imported (Celery and kombu have) sees
the time go by, and so do waits in C (locks, sockets, sleeps), which a suspend would prolong.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

__all__ = ["add", "install"]

#: Variables of the environment that tell a process under test its directory and its node.
DIRECTORY, NODE = "TEST_POINTS", "TEST_NODE"

_FORM = "d"


def add(directory: Path, node: str, seconds: float) -> None:
    """Have these seconds missing from the monotonic clock of a node. To be called while it stands still."""
    with _file(directory, node) as missing:
        missing[:] = struct.pack(_FORM, struct.unpack(_FORM, missing[:])[0] + seconds)


def install(directory: Path, node: str) -> None:
    """Have this process, and those that it forks, live without the seconds that are missing."""
    missing, monotonic = _file(directory, node), time.monotonic
    offset = struct.Struct(_FORM)

    def without_the_missing() -> float:
        return monotonic() - float(offset.unpack_from(missing)[0])

    time.monotonic = without_the_missing


def _file(directory: Path, node: str) -> mmap.mmap:
    path = directory / f"{node}.suspended"
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        if not path.stat().st_size:
            file.truncate(struct.calcsize(_FORM))
        return mmap.mmap(file.fileno(), struct.calcsize(_FORM))


if NODE in os.environ:
    install(Path(os.environ[DIRECTORY]), os.environ[NODE])
