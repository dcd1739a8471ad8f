"""Ends, from a node's main process, what takes too long or has no lease any more in a process of its pool.

A thread of the main process looks ten times a second at what each process says that it is at (`pool_memory.py`). It
kills one whose body runs longer than its labourer's `duration`, counted from the first line of the body, and all of
them when the node has not renewed its leases for too long: a body in one long call of C keeps the watchdog of its own
process from running. The main process does so because nothing that a body does can stop it, and because it hears of the
death: the attempt is failed and its slot freed after that.

Celery's own time limits count from the message, and free the slot while the process still dies. Where this thread is at
work they are taken over for labourers: `--time-limit`, `task_time_limit` and a labourer's `time_limit` may shorten its
`duration`, and soft limits (`--soft-time-limit`, ...) raise `SoftTimeLimitExceeded` in the body. Other pools than
prefork, and one that does not fork, have Celery's own.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from typing import Any

from billiard import get_start_method
from celery.concurrency.prefork import TaskPool

from sosw_celery.clock import steady
from sosw_celery.labourer import children
from sosw_celery.labourer.pool_memory import Entry, Stage, board
from sosw_celery.labourer.watchdog import watchdog
from sosw_celery.labourer.worker import Worker
from sosw_celery.node.step import NodeStep
from sosw_celery.wiring.container import settings_of

__all__ = ["LimitKeeper"]

logger = logging.getLogger(__name__)

#: Seconds between two looks: how late a limit may be.
LOOK_S = 0.1

#: What takes longer than it may.
WHAT = {
    Stage.ASKING: "slot and claim took",
    Stage.READYING: "the labourer was made ready for",
    Stage.WAITING: "the body waited for the rate",
    Stage.RUNNING: "the body ran",
    Stage.CLOSING: "the close took",
}


class LimitKeeper(NodeStep):
    """Worker bootstep: the thread that keeps limits."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._app = parent.app
        self._keeps = False
        #: By process: since when the body runs that was told to end.
        self._told: dict[int, float] = {}

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        # Before the pool forks: its children have to know their limits.
        self._keeps = _shares_memory(worker.pool)
        if self._keeps:
            self._take_over(worker.pool)
        else:
            self._leave_to_celery(worker.pool)
        return self

    def start(self, worker: Any) -> None:
        """Start looking."""
        if self._keeps:
            threading.Thread(target=self._keep, name="sosw-limits", daemon=True).start()

    def stop(self, worker: Any) -> None:
        """Keep on looking while running tasks finish; the thread ends with the process."""

    def terminate(self, worker: Any) -> None:
        """Keep on looking while the pool is terminated: a body need not mind."""

    # ---- whose limits

    def _take_over(self, pool: Any) -> None:
        """Have Celery set no limits to labourers."""
        hard_s, soft_s = pool.options.get("timeout"), pool.options.get("soft_timeout")
        pool.options |= {"timeout": None, "soft_timeout": None}
        for task in self._app.tasks.values():
            # As Celery has it: a task's own limits go before those of the node.
            own = (task.time_limit or hard_s, task.soft_time_limit or soft_s)
            if isinstance(task, Worker):
                task.own_limits, own = own, (None, None)
            task.time_limit, task.soft_time_limit = own

    def _leave_to_celery(self, pool: Any) -> None:
        """Have Celery end runs of labourers after their `duration`, where it can."""
        settings, hard_s = settings_of(self._app), pool.options.get("timeout")
        for task in self._app.tasks.values():
            if isinstance(task, Worker):
                own_s = task.time_limit or hard_s or math.inf
                task.time_limit = math.ceil(min(own_s, settings.labourer(task.name).duration_s))

    # ---- the thread

    def _keep(self) -> None:
        while True:
            time.sleep(LOOK_S)
            try:
                for entry in board.entries():
                    self._judge(entry, steady())
            except Exception:
                logger.exception("limits not looked at, trying again")

    def _judge(self, entry: Entry, now: float) -> None:
        if entry.stage is Stage.DONE:
            return
        if now - entry.since > entry.limit_s:
            children.end(entry, f"Time limit: {WHAT[entry.stage]} longer than {entry.limit_s:g} s")
        elif watchdog.is_over(entry.stage, entry.slot_from, now):
            children.end(entry, "Lost: its node could not renew its lease")
        elif now - entry.since > entry.soft_s and self._told.get(entry.pid) != entry.since:
            self._told[entry.pid] = entry.since
            self._tell(entry)

    @staticmethod
    def _tell(entry: Entry) -> None:
        if board.at(entry.place) == entry and children.is_alive(entry.pid):
            logger.warning("soft time limit (%g s) exceeded", entry.soft_s, extra={"holder": entry.attempt.holder})
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGUSR1)


def _shares_memory(pool: Any) -> bool:
    """Return whether what the processes of this pool write on the board can be read here."""
    return isinstance(pool, TaskPool) and pool.forking_enable and get_start_method() == "fork"
