"""Attempts of labourers whose workers have no access to the tables (`close_through: assistant`).

Such a task is claimed before its hint is published, by who publishes it, and its event travels in the hint. The worker
turns the pending lease of the hint into a running one, which succeeds once; so the cap and the fence of the attempt
hold as ever. Everything it has to say about the task goes to the WorkerAssistant's queue. A hint that is lost leaves a
claimed task without a lease: the scavenger finds it lost, and it is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sosw_celery.clock import Clock, steady
from sosw_celery.config.settings import Settings
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.errors import StoreError, TransitionRefused
from sosw_celery.services.attempts import Run
from sosw_celery.stores.dynamodb.task_table import TaskTable
from sosw_celery.stores.redis.slots import Confirmation, Slots

__all__ = ["AssistedAttempts", "Courier"]

logger = logging.getLogger(__name__)


class Courier:
    """Publishes hints; those for workers without access to the tables with the claim made and the event in them.

    Parameters:
        task_table: Gives the table of tasks; asked only where something is to be claimed.
        publish: Puts hints on their labourers' queues.
        node: Who claims, for the row's `claimed_by`.
    """

    def __init__(
        self,
        settings: Settings,
        task_table: Callable[[], TaskTable],
        slots: Slots,
        *,
        publish: Callable[[Sequence[Hint]], None],
        node: str,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._task_table = task_table
        self._slots = slots
        self._publish = publish
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
            self._publish(ready)

    def _claimed(self, attempt: Attempt) -> Hint:
        return Hint(attempt, self._task_table().claim(attempt, now=self._clock(), node=self._node))

    def _take_back(self, hints: Sequence[Hint]) -> None:
        for hint in hints:
            self._slots.take_back(hint.attempt.labourer_id, hint.attempt.holder)


class AssistedAttempts:
    """Begins attempts that were claimed with their hints; touches slots only.

    Parameters:
        dispatch: Sends a dispatch for a labourer.
    """

    def __init__(
        self,
        settings: Settings,
        slots: Slots,
        *,
        dispatch: Callable[[str], None],
        steady: Callable[[], float] = steady,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._dispatch = dispatch
        self._steady = steady

    def begin(self, hint: Hint) -> Run | None:
        """Take up a hint; return None when the attempt is not ours to run.

        Only the pending lease that came with the hint lets it run: it was given once, so a hint that comes again, or
        after its attempt was given up, runs nothing.

        Raises:
            StoreUnavailable: Nothing runs; the task is found lost and tried again.
        """
        attempt = hint.attempt
        asked_at = self._steady()
        confirmed = self._slots.confirm(attempt.labourer_id, attempt.holder, lease_s=self._settings.lease_s)
        if self._steady() > asked_at + self._settings.patience_s:
            logger.warning("hint dropped: its lease may have ended", extra={"holder": attempt.holder})
            return None
        confirmation = confirmed.confirmation
        if confirmation is Confirmation.CONFIRMED and hint.task is not None:
            return Run(hint.task, asked_at, confirmed.waits)
        if confirmation in (Confirmation.CONFIRMED, Confirmation.TAKEN):
            self.free(attempt)
        why = "no event in it" if hint.task is None else f"slot {confirmation.value}"
        logger.warning("hint dropped: %s", why, extra={"holder": attempt.holder})
        return None

    def free(self, attempt: Attempt) -> None:
        """Give the attempt's slot back and send the dispatch that is due; what stands by is handed out by that."""
        if self._slots.take_back(attempt.labourer_id, attempt.holder).dispatch_due:
            self._dispatch(attempt.labourer_id)

    def hold(self, attempt: Attempt, *, lease_s: float) -> None:
        """Keep the slot of an attempt that has ended until the assistant has closed it."""
        self._slots.extend(attempt.labourer_id, attempt.holder, lease_s=lease_s)
