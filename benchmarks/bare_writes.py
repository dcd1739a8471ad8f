"""The writes of a drain in bare loops: rows are claimed and closed. No queue, no broker, no cap, no Celery.

A row is closed and the next one claimed in one call, as a worker does in a line. What claims and closes every task in
DynamoDB cannot be faster than this on the same machine, with the same client.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from celery import Celery

from benchmarks.system import LABOURER, Servers, System
from sosw_celery import clock
from sosw_celery.config.settings import load_settings
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.wiring.container import Services

__all__ = ["drain_bare"]

#: Rows that are archived together.
ARCHIVE_EVERY = 500

#: Of a process that writes, and what it waits at for the others.
_table: TaskTable
_start: Any


def drain_bare(servers: Servers, tasks: int, processes: int, *, archive: bool) -> float:
    """Return tasks per second of so many processes that share so many queued rows.

    Parameters:
        archive: Have each move what it closed to the closed table, so many at a time.
    """
    with System(servers, slots=1) as system:
        system.queue(tasks)
        rows = system.services.task_table.queued(LABOURER, now=clock.now(), start=None, limit=tasks)
        assert len(rows) == tasks, f"{len(rows)} of {tasks} rows"
        shares = [([row.next_attempt for row in rows[number::processes]], archive) for number in range(processes)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes, _prepare, (system.section, context.Barrier(processes))) as pool:
            times = pool.starmap(_write, shares, chunksize=1)
    return tasks / (max(end for _, end in times) - min(start for start, _ in times))


def _prepare(section: dict[str, Any], start: Any) -> None:
    global _table, _start
    services = Services(Celery("bare", broker="memory://", set_as_current=False), load_settings(section))
    _table, _start = services.task_table, start


def _write(attempts: Sequence[Attempt], archive: bool) -> tuple[float, float]:
    """Return when the writing of a share began and ended, monotonic seconds."""
    _table.count_running(LABOURER, now=clock.now())  # a connection is there, and all code that comes with it
    _start.wait()
    began = time.monotonic()
    task = _table.claim(attempts[0], now=clock.now(), node="bare")
    closed: list[Task] = []
    for following in attempts[1:]:
        task = _go_on(task, following, closed)
        if archive and len(closed) >= ARCHIVE_EVERY:
            _table.archive(closed, now=clock.now())
            closed = []
    now = clock.now()
    _table.complete(task.current_attempt, now=now, outcome={})
    if archive:
        _table.archive([*closed, replace(task, completed_at=now)], now=now)
    return began, time.monotonic()


def _go_on(task: Task, following: Attempt, closed: list[Task]) -> Task:
    """Close a task, add it to the closed ones, and return the next one as it was claimed."""
    now = clock.now()
    done = task.current_attempt
    moved = _table.complete_and_claim(done, following, now=now, outcome={}, claimer=_table.claimer("bare"))
    assert moved.closed, f"{done.holder} was not closed"
    assert moved.claimed is not None, f"{following.holder} was not claimed"
    closed.append(replace(task, completed_at=now))
    return moved.claimed
