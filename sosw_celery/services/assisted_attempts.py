"""Attempts of labourers whose workers have no access to the tables (`close_through: assistant`).

`HintPublisher` claims such a task before it publishes the hint, and the event travels in the hint. The worker turns
the pending lease of the hint into a running one, which succeeds once; so the cap and the fence of the attempt hold as
ever. Everything it has to say about the task goes to the WorkerAssistant's queue. A hint that is lost leaves a claimed
task without a lease: the scavenger finds it lost, and it is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sosw_celery.clock import steady
from sosw_celery.config.settings import Settings
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.services.attempts import Run
from sosw_celery.services.ports import Messenger
from sosw_celery.stores.redis.slots import Confirmation, Slots

__all__ = ["AssistedAttempts"]

logger = logging.getLogger(__name__)


class AssistedAttempts:
    """Begins attempts that were claimed with their hints; touches slots only."""

    def __init__(
        self,
        settings: Settings,
        slots: Slots,
        *,
        messenger: Messenger,
        steady: Callable[[], float] = steady,
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._messenger = messenger
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
            self._messenger.request_dispatch(attempt.labourer_id)

    def hold(self, attempt: Attempt, *, lease_s: float) -> None:
        """Keep the slot of an attempt that has ended until the assistant has closed it."""
        self._slots.extend(attempt.labourer_id, attempt.holder, lease_s=lease_s)
