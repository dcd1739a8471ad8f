"""Has bodies start no faster than the rate in force allows: each waits for its token, with its slot and its task."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import Attempt
from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.redis.slots import Slots

__all__ = ["Starts", "Verdict"]

logger = logging.getLogger(__name__)

#: Seconds after its time in which a token is good, and that an answer may have been under way: a node that stood still
#: meanwhile would start all at once for whom it had tokens. A token that came too late is lost.
LATE_S, ANSWER_S = 0.1, 1.0
#: Seconds between two looks whether the node is stopping, and between two calls while Redis does not answer.
LOOK_S, AGAIN_S = 0.5, 0.5


class Verdict(enum.Enum):
    """What the wait for a token came to."""

    START = "start"  # the body may begin, now
    LOST = "lost"  # its slot is gone
    STOPPED = "stopped"  # its node stops before a token came in sight


class Starts:
    """Waits for tokens. One object serves all threads.

    Parameters:
        sleep: Passes seconds.
    """

    def __init__(
        self,
        slots: Slots,
        *,
        steady: Callable[[], float] = steady,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slots = slots
        self._steady = steady
        self._sleep = sleep

    def wait(self, attempt: Attempt, is_stopping: Callable[[], bool]) -> Verdict:
        """Return once the attempt's body may begin, or never may.

        In the order in which they ask for it. Who has a token in sight (at most `hint_lease_s` ahead) waits for it also
        when the node stops: a task that is claimed is run.

        Parameters:
            is_stopping: Tells whether the node is about to end.
        """
        while True:
            asked_at = self._steady()
            try:
                start = self._slots.start(attempt.labourer_id, attempt.holder)
            except StoreUnavailable as problem:
                logger.warning("start not asked for, trying again: %s", problem, extra={"holder": attempt.holder})
                self._pass_time(AGAIN_S, is_stopping)
            else:
                if start.is_lost:
                    return Verdict.LOST
                told_at = self._steady()
                if not start.is_granted:
                    self._pass_time(start.wait_s, is_stopping)
                elif self._is_met(told_at + start.wait_s, told_at - asked_at):
                    return Verdict.START
            if is_stopping():
                return Verdict.STOPPED

    def _is_met(self, due_at: float, answered_s: float) -> bool:
        """Wait until a token is due; return whether it can be used then."""
        self._sleep(max(0.0, due_at - self._steady()))
        return answered_s <= ANSWER_S and self._steady() - due_at <= LATE_S

    def _pass_time(self, seconds: float, is_stopping: Callable[[], bool]) -> None:
        end = self._steady() + seconds
        while (left := end - self._steady()) > 0 and not is_stopping():
            self._sleep(min(left, LOOK_S))
