"""Ends attempts: in the tables, or through the assistant where a worker cannot reach them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kombu.exceptions import OperationalError

from sosw_celery.core.tasks.model import Attempt
from sosw_celery.errors import RetryLater, StoreError
from sosw_celery.labourer.run_context import WorkerRun
from sosw_celery.services.attempts import Outcome, Run, describe
from sosw_celery.services.worker_assistant import COMPLETED, FAILED, HELD_S, closing_message
from sosw_celery.wiring.container import Services

__all__ = ["complete", "complete_early", "fail", "go_on"]

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


def complete(services: Services, run: WorkerRun, outcome: Outcome) -> None:
    """Close an attempt as completed, or see to it that the assistant does. Raises nothing."""
    _complete(services, run, outcome, lambda: services.attempts.complete(run.attempt, outcome))


def go_on(services: Services, run: WorkerRun, outcome: Outcome, be_at: Callable[[Attempt], None]) -> Run | None:
    """Do as `complete`, and return the run that was begun in the same slot, which the caller has to run; or None.

    Parameters:
        be_at: As for `Attempts.go_on`.
    """
    return _complete(services, run, outcome, lambda: services.attempts.go_on(run.attempt, outcome, be_at))


def _complete(services: Services, run: WorkerRun, outcome: Outcome, end: Callable[[], T]) -> T | None:
    attempt = run.attempt
    return _end(
        services,
        attempt,
        outcome,
        lambda kept: closing_message(COMPLETED, attempt, kept, job_id=run.task.job_id, siblings=run.unspawned),
        end,
    )


def complete_early(services: Services, run: WorkerRun, outcome: Outcome) -> None:
    """Close an attempt as completed whose body goes on; `complete` has to follow, which frees its slot.

    Raises:
        StoreError: The tables refuse or do not answer; `complete` will close it.
        Exception: Neither does the broker, through which it was to be closed; whatever that raises.
    """
    attempt = run.attempt
    if not services.settings.labourer(attempt.labourer_id).through_assistant:
        services.attempts.complete(attempt, outcome, keep_slot=True)
        return
    message = closing_message(
        COMPLETED, attempt, outcome, job_id=run.task.job_id, siblings=run.unspawned, keep_slot=True
    )
    services.hand_over(message)


def fail(
    services: Services, attempt: Attempt, error: BaseException | str, outcome: Outcome, run: WorkerRun | None
) -> None:
    """End an attempt as failed, or see to it that the assistant does. Raises nothing.

    Parameters:
        run: Known in the process that ran the body only.
    """
    delay_s = error.delay_s if isinstance(error, RetryLater) else None
    _end(
        services,
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
        lambda: services.attempts.fail(attempt, error, outcome),
    )


def _end(services: Services, attempt: Attempt, outcome: Outcome, message: Message, end: Callable[[], T]) -> T | None:
    """Return what the end of the attempt returns; None if the assistant is to end it, who gets the message."""
    if not services.settings.labourer(attempt.labourer_id).through_assistant:
        try:
            return end()
        except StoreError as problem:
            logger.warning("close failed, handed to the assistant: %s", problem, extra={"holder": attempt.holder})
        except Exception:
            logger.exception("close failed, handed to the assistant", extra={"holder": attempt.holder})
    _hand_over(services, attempt, outcome, message)
    return None


def _hand_over(services: Services, attempt: Attempt, outcome: Outcome, message: Message) -> None:
    for wait_s in (*HAND_OVER_WAITS_S, None):
        try:
            services.assisted.hold(attempt, lease_s=HELD_S)
            try:
                services.hand_over(message(outcome))
            except AWAY:
                raise
            except Exception as refusal:  # noqa: BLE001  # each broker has errors of its own
                # For what it holds, as SQS does with one over 256 KB: the end is what matters.
                logger.warning("handed over without its outcome: %s", refusal, extra={"holder": attempt.holder})
                services.hand_over(message(outcome.dropped(f"the broker refused the message: {describe(refusal)}")))
            return
        except Exception as problem:
            if wait_s is None:
                logger.exception("not closed: the task will be run again", extra={"holder": attempt.holder})
                return
            logger.warning("assistant not reached, trying again: %s", problem, extra={"holder": attempt.holder})
            time.sleep(wait_s)
