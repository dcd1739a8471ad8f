"""Knows how long a labourer's tasks take, from those that it closed last."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from decimal import Decimal

from sosw_celery.config.labourers import Labourer
from sosw_celery.core.tasks.durations import Durations, duration_s, summarised
from sosw_celery.stores.dynamodb.task_table import TaskTable

__all__ = ["DurationLog"]

#: Seconds for which a process goes by what it read.
KEPT_S = 60.0


class DurationLog:
    """Looks at the closed table. What it reads is bounded: two queries of at most `looked_at` rows a minute.

    Parameters:
        looked_at: Closed tasks that count, the latest ones (sosw's `max_closed_to_analyse_for_duration`).
    """

    def __init__(
        self, task_table: TaskTable, *, looked_at: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._task_table = task_table
        self._looked_at = looked_at
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, Durations]] = {}

    def of(self, labourer_id: str) -> Durations:
        """Return how long the labourer's last tasks took, completed and dead ones. At most a minute old.

        Raises:
            StoreUnavailable: DynamoDB did not answer.
        """
        at, durations = self._kept.get(labourer_id, (None, None))
        if at is None or durations is None or self._monotonic() - at > KEPT_S:
            durations = self._read(labourer_id)
            self._kept[labourer_id] = self._monotonic(), durations
        return durations

    def measured(self, labourer: Labourer) -> Labourer:
        """Return the labourer with its `average_duration_s` and `max_duration_s`; None where no task was closed yet.

        Raises:
            StoreUnavailable: DynamoDB did not answer.
        """
        known = self.of(labourer.id)
        return dataclasses.replace(labourer, average_duration_s=known.average_s, max_duration_s=known.maximum_s)

    def _read(self, labourer_id: str) -> Durations:
        closed = [
            task
            for status in (1, 0)
            for task in self._task_table.recently_closed(labourer_id, status=status, limit=self._looked_at)
        ]
        latest = sorted(closed, key=lambda task: task.closed_at or Decimal(0), reverse=True)[: self._looked_at]
        found = (duration_s(task, self._task_table.delta) for task in latest)
        return summarised(seconds for seconds in found if seconds is not None)
