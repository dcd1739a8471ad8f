"""Breaks promises on purpose, in the processes of one test: to show that the checker sees it.

`TEST_BROKEN` names the functions below that are to be called. Each takes away what keeps one promise.
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from sosw_celery.config.labourers import Labourer
from sosw_celery.config.settings import Settings
from sosw_celery.core.jobs.plan import task_id
from sosw_celery.core.rates import Rate
from sosw_celery.labourer import children
from sosw_celery.labourer.watchdog import Watchdog
from sosw_celery.node import continuation
from sosw_celery.services.attempts import Attempts
from sosw_celery.services.orchestrator import Orchestrator
from sosw_celery.services.part_writer import PartWriter
from sosw_celery.services.scavenger import Scavenger
from sosw_celery.stores.dynamodb.task_table import Moved, TaskTable
from sosw_celery.stores.redis import slots
from sosw_celery.stores.redis.slots import Slots


def scheduler_skips_a_row() -> None:
    """Leave the seventh row of each job out."""
    tasks = PartWriter._tasks

    def without_one(self: PartWriter, rows: Any) -> Any:
        skipped = task_id(self.part.job_id, 7)
        return [task for task in tasks(self, rows) if task.task_id != skipped]

    PartWriter._tasks = without_one  # type: ignore[method-assign]


def archive_drops_a_row() -> None:
    """Take the first row of each batch out of the tasks table without putting it into the closed one."""
    put_all = TaskTable._put_all

    def without_first(self: TaskTable, table: str, rows: Any) -> None:
        put_all(self, table, rows[1:] if table == self.tables.closed else rows)

    TaskTable._put_all = without_first  # type: ignore[method-assign]


def close_without_fence() -> None:
    """Have a close take effect whoever runs the task by now."""
    complete = TaskTable.complete

    def close_any(self: TaskTable, attempt: Any, **options: Any) -> None:
        row = self._get(self.tables.tasks, {self.tables.field("task_id"): {"S": attempt.task_id}})
        number = int(row[self.tables.field("attempts")]["N"]) if row else attempt.number
        complete(self, dataclasses.replace(attempt, number=number), **options)

    TaskTable.complete = close_any  # type: ignore[method-assign]
    TaskTable.complete_and_claim = lambda self, *args, **options: Moved(False, None)  # type: ignore[method-assign]


def cap_not_counted() -> None:
    """Have the Lua scripts count no lease."""
    script = slots._script

    class Uncounting:
        """Registers scripts without their counting."""

        def __init__(self, client: Any) -> None:
            self._client = client

        def register_script(self, text: str) -> Any:
            """Register the text of a script, changed."""
            changed = text.replace("redis.call('ZCARD', ", "0 * redis.call('ZCARD', ")
            assert changed != text, "the scripts count in another way now: break that"
            return self._client.register_script(changed)

    slots._script = lambda client, name: script(Uncounting(client), name)  # type: ignore[arg-type]


def nothing_handed_over() -> None:
    """Free slots and tell nobody: the next task waits for the safety net."""

    def free(self: Attempts, attempt: Any) -> None:
        self._slots.take_back(attempt.labourer_id, attempt.holder)

    Attempts.free = free  # type: ignore[method-assign]
    continuation.goes_on = lambda: False


def hints_not_published() -> None:
    """Hand slots over to tasks whose hints are lost."""
    Attempts._hand_over = lambda self, *args: True  # type: ignore[method-assign]
    continuation.goes_on = lambda: False


def no_safety_net() -> None:
    """Neither rebuild the slots that Redis lost, nor dispatch for want of a message."""
    Slots.rebuild = lambda self, *args, **options: False  # type: ignore[method-assign]
    Orchestrator.tend = lambda self, *args, **options: None  # type: ignore[method-assign]


def nobody_watches_leases() -> None:
    """Let attempts run on that have lost their leases."""
    Watchdog.is_over = lambda self, *args: False  # type: ignore[method-assign]
    Settings.patience_s = property(lambda self: math.inf)  # type: ignore[method-assign,assignment]
    children.end = lambda *args: False


def no_sweeps() -> None:
    """Let nobody look for lost attempts."""
    Scavenger._end_lost = lambda self, *args: None  # type: ignore[method-assign]


def rates_forgotten() -> None:
    """Let bodies start as often as slots allow."""
    Rate.interval_s = property(lambda self: 1e-6)  # type: ignore[method-assign,assignment]


def no_time_limits() -> None:
    """Let bodies run for as long as they like."""
    labourer = Settings.labourer

    def unlimited(self: Settings, labourer_id: str) -> Labourer:
        return dataclasses.replace(labourer(self, labourer_id), duration_s=3600)

    Settings.labourer = unlimited  # type: ignore[method-assign]


for name in os.environ.get("TEST_BROKEN", "").split():
    globals()[name]()
