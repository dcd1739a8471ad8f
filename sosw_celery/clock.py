"""The one place that reads the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

__all__ = ["Clock", "now"]

#: Gives seconds since the epoch; handed to services, so that tests can bring their own.
Clock = Callable[[], Decimal]


def now() -> Decimal:
    """Return the time in seconds since the epoch, exact to the microsecond."""
    return Decimal(time.time_ns() // 1000).scaleb(-6)
