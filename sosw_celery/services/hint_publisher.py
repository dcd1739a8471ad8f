"""Publishes the hints of attempts that have got a slot; claims the tasks first whose workers have no access to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sosw_celery.config.settings import Settings
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.errors import StoreError, TransitionRefused
from sosw_celery.services.ports import Clock, Messenger
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.slots import Slots

__all__ = ["HintPublisher"]

logger = logging.getLogger(__name__)


class HintPublisher:
    """Publishes hints; those for workers without access to the tables with the claim made and the event in them.

    Parameters:
        task_table: Gives the table of tasks; asked only where something is to be claimed.
        node: Who claims, for the row's `claimed_by`.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: Callable[[], TaskTable],
        slots: Slots,
        *,
        messenger: Messenger,
        node: str,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._slots = slots
        self._messenger = messenger
        self._node = node
        self._clock = clock

    def publish(self, hints: Sequence[Hint]) -> None:
        """Publish the hints of attempts that have pending leases; those that cannot be claimed lose theirs.

        Whatever error comes out of this, a worker runs no attempt whose lease was taken back.
        """
        ready: list[Hint] = []
        for position, hint in enumerate(hints):
            if not self._settings.labourer(hint.attempt.labourer_id).through_assistant:
                ready.append(hint)
                continue
            try:
                ready.append(self._claimed(hint.attempt))
            except TransitionRefused as refused:
                logger.info("not handed out: %s", refused)
                self._take_back([hint])
            except StoreError as problem:
                # What is claimed already has to be published, or it would count as lost.
                logger.warning("not handed out: %s", problem, extra={"hints": len(hints) - position})
                self._take_back(hints[position:])
                break
        if ready:
            self._messenger.publish_hints(ready)

    def _claimed(self, attempt: Attempt) -> Hint:
        return Hint(attempt, self._task_table().claim(attempt, now=self._clock(), node=self._node))

    def _take_back(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            self._slots.take_back(hint.attempt.labourer_id, hint.attempt.holder)
