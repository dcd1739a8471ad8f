"""The one place that reads the clocks of what others rely on: the time of day, and how long a lease has lasted."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

__all__ = ["Clock", "now", "steady"]

#: Gives seconds since the epoch; handed to services, so that tests can bring their own.
Clock = Callable[[], Decimal]

#: Goes on in a suspend. macOS knows no CLOCK_BOOTTIME; its CLOCK_MONOTONIC does so.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> Decimal:
    """Return the time in seconds since the epoch, exact to the microsecond."""
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return Decimal(f"{seconds}.{microseconds:06d}")  # reading a text asks no decimal context


def steady() -> float:
    """Return the seconds of a clock that nobody sets and that goes on while the machine is suspended.

    Whatever is only good for so long elsewhere, as a lease is, has to be judged by it: `time.monotonic` stands still in
    a suspend on Linux. Processes of one machine read the same; it means nothing on another one.
    """
    return time.clock_gettime(_STEADY)
