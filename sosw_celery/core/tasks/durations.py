"""How long a labourer's tasks take, and so when its queue will be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from sosw_celery.core.exact import EXACT
from sosw_celery.core.rates import Rate
from sosw_celery.core.tasks.greenfield import claimed_at, queue_end
from sosw_celery.core.tasks.model import Task

__all__ = ["Durations", "duration_s", "eta_s", "summarised"]


@dataclass(frozen=True)
class Durations:
    """How long the tasks took that a labourer closed last, from claim to end, in seconds.

    Parameters:
        tasks: How many were looked at; 0: nothing is known, and the others are None.
    """

    average_s: float | None = None
    maximum_s: float | None = None
    tasks: int = 0


def duration_s(task: Task, delta: Decimal) -> float | None:
    """Return the seconds from the last claim of a closed task to its end.

    A dead task ended when it was closed. None where the row does not tell: it was never claimed.
    """
    ended_at = task.closed_at if task.completed_at is None else task.completed_at
    if ended_at is None or task.greenfield <= queue_end(ended_at):
        return None
    return max(0.0, float(EXACT.subtract(ended_at, claimed_at(task.greenfield, delta))))


def summarised(durations_s: Iterable[float]) -> Durations:
    """Return the average and the maximum."""
    known = list(durations_s)
    return Durations(sum(known) / len(known), max(known), len(known)) if known else Durations()


def eta_s(*, queued: int, running: int, slots: int, average_s: float | None, rate: Rate | None = None) -> float | None:
    """Return the seconds until a queue is done if it goes on like this. None: that cannot be told.

    Parameters:
        queued: Tasks that have not started, also those that wait for a retry.
        running: Tasks that run; they are taken to be half done.
        slots: How many may run at once: the cap times the labourer's health.
        average_s: Seconds that a task takes.
    """
    if not queued and not running:
        return 0.0
    if average_s is None or (queued and slots < 1):
        return None
    work_s = queued * average_s / max(1, slots) + (average_s / 2 if running else 0.0)
    return max(work_s, queued * rate.interval_s if rate is not None else 0.0)
