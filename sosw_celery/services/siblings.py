"""Writes the tasks that running tasks ask for."""

from __future__ import annotations

import logging

from sosw_celery.config.settings import Settings
from sosw_celery.core.tasks import greenfield
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.core.tasks.siblings import DEPTH, PARENT, Sibling
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.task_table import TaskTable

__all__ = ["Siblings"]

logger = logging.getLogger(__name__)


class Siblings:
    """Queues siblings: tasks of the same labourer and job as the task that asks for them."""

    def __init__(
        self,
        settings: Settings,
        task_table: TaskTable,
        *,
        messenger: Messenger,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._messenger = messenger
        self._clock = clock

    def spawn(self, parent: Attempt, job_id: str, sibling: Sibling) -> bool:
        """Write the sibling's row and have it dispatched; return False when there is such a task already, or was.

        Parameters:
            job_id: The job of the parent, which counts the sibling as one of its tasks; empty when there is none.

        Raises:
            TransitionRefused: The parent's attempt does not run any more: whoever runs it now spawns its siblings.
            StoreUnavailable: Whether it is written is not known; repeat it.
        """
        now = self._clock()
        settings = self._settings.labourers.get(parent.labourer_id)
        task = Task(
            task_id=sibling.task_id,
            labourer_id=parent.labourer_id,
            greenfield=next(greenfield.positions(now)),
            created_at=now,
            payload=sibling.payload,
            job_id=job_id,
            arn=settings.arn if settings else "",
            extra={DEPTH: sibling.depth, PARENT: parent.task_id},
        )
        if not self._task_table.spawn(parent, task, now=now):
            return False
        try:
            self._messenger.announce(parent.labourer_id, task.greenfield)
        except Exception:
            logger.warning("sibling not announced, the safety net finds it", exc_info=True)
        return True
