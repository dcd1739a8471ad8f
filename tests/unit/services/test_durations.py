"""How long tasks took, from the closed table on its twin."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from sosw_celery.core.tasks.durations import Durations
from sosw_celery.core.tasks.model import Task
from sosw_celery.services.durations import DurationLog

System = Any


def run_all(system: System, seconds: list[float], *, fail: bool = False) -> None:
    """Have tasks run for these seconds, one after the other, and archive them."""
    for took in seconds:
        task = Task(str(system.now), "resize", greenfield=system.now, created_at=system.now)
        system.task_table.write([task])
        attempt = system.task_table.claim(task.next_attempt, now=system.now, node="n").current_attempt
        system.now += Decimal(str(took))
        if fail:
            system.attempts.bury(attempt, "broken")
        else:
            system.task_table.complete(attempt, now=system.now, outcome={})
        system.now += 5  # until somebody archives it
        system.task_table.archive(list(system.task_table.running("resize", now=system.now)), now=system.now)


@pytest.fixture
def clock() -> list[float]:
    """The monotonic time of the process, in a list that tests change."""
    return [0.0]


def test_the_last_tasks_count_completed_and_dead_ones(system: System, clock: list[float]) -> None:
    """Average and maximum of what was closed last; the wait for the archive is no part of it."""
    run_all(system, [100])
    run_all(system, [2, 4])
    run_all(system, [6], fail=True)
    log = DurationLog(system.task_table, looked_at=3, monotonic=lambda: clock[0])
    assert log.of("resize") == Durations(4.0, 6.0, 3)


def test_what_was_read_counts_for_a_minute(system: System, clock: list[float]) -> None:
    """A table is not read for every look."""
    log = DurationLog(system.task_table, looked_at=3, monotonic=lambda: clock[0])
    assert log.of("resize") == Durations()
    run_all(system, [2])
    clock[0] = 59
    assert log.of("resize").tasks == 0
    clock[0] = 61
    assert log.of("resize").tasks == 1


def test_the_labourer_carries_its_durations(make_system: Callable[..., System]) -> None:
    """As attributes, None until a task was closed."""
    system = make_system()
    labourer = system.settings.labourer("resize")
    log = DurationLog(system.task_table, looked_at=50)
    assert (labourer.average_duration_s, log.measured(labourer).average_duration_s) == (None, None)
    run_all(system, [2, 4])
    measured = DurationLog(system.task_table, looked_at=50).measured(labourer)
    assert (measured.average_duration_s, measured.max_duration_s) == (3.0, 4.0)
    assert measured.slots == labourer.slots
