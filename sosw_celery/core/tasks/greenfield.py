"""The number that orders a labourer's queue and tells a task's state.

A queued task carries the time at which it was written, a running one the time of its claim plus the invocation delta (a
year). So the two never meet, whatever the length of the queue, and one index serves queue and running tasks alike.

Source: sosw counts newest + 1000, which needs a read per task and runs into the clock after about 1.7 million tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal

from sosw_celery.core.exact import EXACT, MICROSECOND
from sosw_celery.delays import LONGEST_DELAY_S

__all__ = ["LONGEST_AHEAD_S", "claimed", "claimed_at", "positions", "queue_end", "retry_position"]

#: How far the clocks of two nodes may differ. A row written by a node whose clock is fast is still queued, not running.
CLOCK_TOLERANCE = Decimal(86_400)
#: Seconds by which `queue_end` may be ahead of the clock that claimed a task: a day as ever, and another one by which
#: the clock that asks for it may be ahead. A task that runs for longer than the invocation delta less this counts as
#: queued again.
LONGEST_AHEAD_S = 2 * 86_400


def positions(now: Decimal) -> Iterator[Decimal]:
    """Yield the greenfields of new tasks: `now` and then one microsecond more each time."""
    start = EXACT.quantize(now, MICROSECOND)
    return (EXACT.fma(step, MICROSECOND, start) for step in itertools.count())


def claimed(now: Decimal, delta: Decimal) -> Decimal:
    """Return the greenfield of a task claimed at `now`."""
    return EXACT.quantize(EXACT.add(now, delta), MICROSECOND)


def claimed_at(greenfield: Decimal, delta: Decimal) -> Decimal:
    """Return when a running task was claimed, seconds since the epoch."""
    return EXACT.subtract(greenfield, delta)


def queue_end(now: Decimal) -> Decimal:
    """Return the boundary: a task is queued at or below it, invoked above it.

    The boundary is a day ahead of `now`, far below `now + delta`, so that neither fast nor slow clocks of up to a day
    make a queued task look invoked or hide it from the orchestrator.
    """
    return EXACT.add(now, CLOCK_TOLERANCE)


def retry_position(due: Decimal) -> Decimal:
    """Return the place of a task whose retry is due at that time: ten years before.

    So retries come before all other tasks, in the order in which they fall due, whoever puts them back and when.
    """
    return EXACT.quantize(EXACT.subtract(due, LONGEST_DELAY_S), MICROSECOND)
