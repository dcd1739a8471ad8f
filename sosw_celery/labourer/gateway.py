"""How a process begins and ends attempts: in the tables itself, or through the assistant where it cannot reach them."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from kombu.exceptions import OperationalError

from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.core.tasks.siblings import Sibling
from sosw_celery.errors import RetryLater, StoreError
from sosw_celery.labourer.run_context import WorkerRun
from sosw_celery.services.attempts import Outcome, Run, describe
from sosw_celery.services.worker_assistant import COMPLETED, FAILED, HELD_S, closing_message
from sosw_celery.wiring.container import Services

__all__ = ["AttemptGateway", "gateway_of"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Makes the message to the assistant, with that outcome.
Message = Callable[[Outcome], dict[str, Any]]

#: What is raised when a server is not there.
AWAY = (OperationalError, OSError)

#: Seconds that a close may take, and handing it over where it cannot be made, before the process is killed.
LIMIT_S = 900.0
#: Waits between tries to reach the assistant, seconds: longer than a restart of the broker takes.
HAND_OVER_WAITS_S = (0.5, 1, 2, 4, 8, 15, 30)


def gateway_of(services: Services, labourer_id: str) -> AttemptGateway:
    """Return the way on which attempts of the labourer are begun and ended, as its `close_through` says."""
    through_assistant = services.settings.labourer(labourer_id).through_assistant
    return Assisted(services) if through_assistant else Direct(services)


class AttemptGateway(ABC):
    """Begins and ends attempts of one labourer."""

    #: Whether a process may close one task and claim the next in the same slot.
    goes_on: ClassVar[bool]

    def __init__(self, services: Services) -> None:
        self._services = services

    @abstractmethod
    def begin(self, hint: Hint) -> Run | None:
        """Take up a hint; return None when the attempt is not ours to run.

        Raises:
            StoreUnavailable: Nothing runs; the task is found again.
        """

    @abstractmethod
    def spawn(self, run: WorkerRun, sibling: Sibling) -> None:
        """Queue a sibling, now or when the attempt ends.

        Raises:
            TransitionRefused: The attempt does not run any more.
            StoreUnavailable: Whether it is queued is not known; ask again.
        """

    @abstractmethod
    def bury(self, run: WorkerRun, reason: str) -> bool:
        """End an attempt as dead whose task cannot run at all; return False where it has to fail instead."""

    @abstractmethod
    def complete_early(self, run: WorkerRun, outcome: Outcome) -> None:
        """Close an attempt as completed whose body goes on; `complete` has to follow, which frees its slot.

        Raises:
            StoreError: The tables refuse or do not answer; `complete` will close it.
            Exception: Neither does the broker, through which it was to be closed; whatever that raises.
        """

    def complete(self, run: WorkerRun, outcome: Outcome) -> None:
        """Close an attempt as completed, or see to it that the assistant does. Raises nothing."""
        self._complete(run, outcome, lambda: self._services.attempts.complete(run.attempt, outcome))

    def go_on(self, run: WorkerRun, outcome: Outcome, be_at: Callable[[Attempt], None]) -> Run | None:
        """Do as `complete`, and return the run that was begun in the same slot, which the caller has to run; or None.

        Parameters:
            be_at: As for `Attempts.go_on`.
        """
        return self._complete(run, outcome, lambda: self._services.attempts.go_on(run.attempt, outcome, be_at))

    def fail(self, attempt: Attempt, error: BaseException | str, outcome: Outcome, run: WorkerRun | None) -> None:
        """End an attempt as failed, or see to it that the assistant does. Raises nothing.

        Parameters:
            run: Known in the process that ran the body only.
        """
        delay_s = error.delay_s if isinstance(error, RetryLater) else None
        self._end(
            attempt,
            outcome,
            lambda kept: closing_message(
                FAILED,
                attempt,
                kept,
                describe(error),
                delay_s,
                job_id=run.task.job_id if run else "",
                siblings=run.unspawned if run else (),
            ),
            lambda: self._services.attempts.fail(attempt, error, outcome),
        )

    def _complete(self, run: WorkerRun, outcome: Outcome, end: Callable[[], T]) -> T | None:
        return self._end(run.attempt, outcome, lambda kept: _completed(run, kept), end)

    @abstractmethod
    def _end(self, attempt: Attempt, outcome: Outcome, message: Message, end: Callable[[], T]) -> T | None:
        """Return what the end of the attempt returns; None if the assistant is to end it, who gets the message."""

    def _hand_over(self, attempt: Attempt, outcome: Outcome, message: Message) -> None:
        """Have the assistant end the attempt; its slot is held until then."""
        services, send = self._services, self._services.messenger.hand_to_assistant
        for wait_s in (*HAND_OVER_WAITS_S, None):
            try:
                services.assisted.hold(attempt, lease_s=HELD_S)
                try:
                    send(message(outcome))
                except AWAY:
                    raise
                except Exception as refusal:  # noqa: BLE001  # each broker has errors of its own
                    # For what it holds, as SQS does with one over 256 KB: the end is what matters.
                    logger.warning("handed over without its outcome: %s", refusal, extra={"holder": attempt.holder})
                    send(message(outcome.dropped(f"the broker refused the message: {describe(refusal)}")))
                return
            except Exception as problem:
                if wait_s is None:
                    logger.exception("not closed: the task will be run again", extra={"holder": attempt.holder})
                    return
                logger.warning("assistant not reached, trying again: %s", problem, extra={"holder": attempt.holder})
                time.sleep(wait_s)


class Direct(AttemptGateway):
    """In the tables; the assistant makes the close that they do not take."""

    goes_on = True

    def begin(self, hint: Hint) -> Run | None:
        """Claim the task, unless that was done by who published the hint, under another configuration."""
        services = self._services
        return services.attempts.begin(hint) if hint.task is None else services.assisted.begin(hint)

    def spawn(self, run: WorkerRun, sibling: Sibling) -> None:
        """Write the sibling's row."""
        self._services.siblings.spawn(run.attempt, run.task.job_id, sibling)

    def bury(self, run: WorkerRun, reason: str) -> bool:
        """End the attempt as dead."""
        self._services.attempts.bury(run.attempt, reason)
        return True

    def complete_early(self, run: WorkerRun, outcome: Outcome) -> None:
        """Close the attempt in the tables."""
        self._services.attempts.complete(run.attempt, outcome, keep_slot=True)

    def _end(self, attempt: Attempt, outcome: Outcome, message: Message, end: Callable[[], T]) -> T | None:
        try:
            return end()
        except StoreError as problem:
            logger.warning("close failed, handed to the assistant: %s", problem, extra={"holder": attempt.holder})
        except Exception:
            logger.exception("close failed, handed to the assistant", extra={"holder": attempt.holder})
        self._hand_over(attempt, outcome, message)
        return None


class Assisted(AttemptGateway):
    """Through the assistant: the process touches slots and the broker only."""

    goes_on = False

    def begin(self, hint: Hint) -> Run | None:
        """Take the slot; the task was claimed with its hint."""
        return self._services.assisted.begin(hint)

    def spawn(self, run: WorkerRun, sibling: Sibling) -> None:
        """Keep the sibling for the message that ends the attempt."""
        run.unspawned.append(sibling)

    def bury(self, run: WorkerRun, reason: str) -> bool:
        """Leave it: the assistant knows attempts that complete or fail."""
        return False

    def complete_early(self, run: WorkerRun, outcome: Outcome) -> None:
        """Have the assistant close the attempt and leave the slot."""
        self._services.messenger.hand_to_assistant(_completed(run, outcome, keep_slot=True))

    def _end(self, attempt: Attempt, outcome: Outcome, message: Message, end: Callable[[], T]) -> T | None:
        self._hand_over(attempt, outcome, message)
        return None


def _completed(run: WorkerRun, outcome: Outcome, *, keep_slot: bool = False) -> dict[str, Any]:
    return closing_message(
        COMPLETED, run.attempt, outcome, job_id=run.task.job_id, siblings=run.unspawned, keep_slot=keep_slot
    )
