"""Processes that fail for a reason of their own: what they take up comes to nothing, again and again.

A process may be broken where none of its tasks is: by code that ran in it (at the import of a labourer's module, in a
body), by its rights. Each hint that it takes up is dropped before its task is claimed, or each task of the system that
it is given fails; nothing is lost, and nothing gets on. After a few such failures in a row it ends itself and says why,
so that a fresh one takes its place. The node counts them in shared memory: what goes on in fresh ones as well is no
sign of life, and `sosw-celery health` tells.

What the row, the message or a store that is away is to blame for does not count.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from celery.signals import task_failure, task_postrun, task_success
from celery.worker import state

from sosw_celery.errors import ContentRefused, InvalidJob, ItemCorrupt, SoswError, StoreUnavailable
from sosw_celery.labourer.pool_memory import is_pool_process, shared_numbers
from sosw_celery.names import QUEUES

__all__ = ["MOST_IN_A_ROW", "Troubles", "troubles"]

logger = logging.getLogger(__name__)

#: Failures in a row after which a process ends itself.
MOST_IN_A_ROW = 5
#: What others are to blame for.
OF_OTHERS = (StoreUnavailable, ContentRefused, ItemCorrupt, InvalidJob, Ignore, Reject, Retry)


class Troubles:
    """Failures in a row: of this process, and of all processes of its node."""

    def __init__(self) -> None:
        # Written by the processes of the pool, read by the main one: they inherit the memory by the fork. Two that
        # write at once may count as one; it is the order of magnitude that matters.
        self._count, self._since = shared_numbers(2)
        self._own, self._last = 0, ""

    @property
    def in_a_row(self) -> int:
        """How many failures there were on this node since something got on."""
        return int(self._count.value)

    @property
    def since(self) -> float | None:
        """Monotonic time of the first of them; None: there is none."""
        return float(self._since.value) or None

    def note(self, problem: BaseException) -> None:
        """Count a failure, if it is this process' own."""
        if isinstance(problem, OF_OTHERS):
            return
        self._own += 1
        self._since.value = self._since.value or time.monotonic()
        self._count.value += 1
        self._last = type(problem).__name__

    def clear(self) -> None:
        """Note that something got on."""
        self._own = 0
        if self._count.value:
            self._count.value = self._since.value = 0.0

    def end_if_broken(self) -> None:
        """End this process if all that it took up lately has failed. To be called when nothing is lost by that.

        Raises:
            SystemExit: It is one of a pool. Where it is the worker itself, that is shut down.
        """
        if self._own < MOST_IN_A_ROW:
            return
        logger.critical("process ends: it failed %d times in a row, the last time by %s", self._own, self._last)
        self._own = 0
        if is_pool_process():
            raise SystemExit(1)
        state.should_stop = 1  # type: ignore[assignment]  # an exit code, or None


troubles = Troubles()


@task_success.connect(weak=False)
def note_success(sender: Any = None, **_: Any) -> None:
    """Note that a task of the system was done."""
    if _is_systems(sender):
        troubles.clear()


@task_failure.connect(weak=False)
def note_failure(sender: Any = None, exception: Any = None, **_: Any) -> None:
    """Count a failure of a task of the system. What a store refuses is told by the task, the process is well."""
    if _is_systems(sender) and not isinstance(exception, SoswError):
        troubles.note(exception)


@task_postrun.connect(weak=False)
def look_at_process(sender: Any = None, **_: Any) -> None:
    """End the process behind a task of the system, if it is broken."""
    if _is_systems(sender):
        troubles.end_if_broken()


def _is_systems(task: Any) -> bool:
    return getattr(task, "name", "") in QUEUES
