"""Closes attempts by Celery's signals.

`task_success` and `task_failure` fire in the child that ran the body, before its message is acknowledged. In the main
process `task_failure` and `task_revoked` are the backup for a child that died or was killed; they can fire twice, or
after a success, and there the request carries no run: the attempt is that of the hint. The fence makes all of it
harmless. An attempt that cannot be closed is handed to the WorkerAssistant with its slot still held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Reject
from celery.signals import task_failure, task_postrun, task_revoked, task_success

from sosw_celery.core.model import Attempt, Hint
from sosw_celery.errors import RetryLater, StoreError
from sosw_celery.leases import watchdog
from sosw_celery.services.attempts import Attempts, Outcome, describe
from sosw_celery.services.worker_assistant import closing_message
from sosw_celery.wiring import Services, services_of
from sosw_celery.worker import RUN, Worker, run_of

__all__: list[str] = []

logger = logging.getLogger(__name__)

#: Seconds that the slot of an attempt is held while the WorkerAssistant tries to close it.
HELD_S = 300.0
#: Waits between tries to reach the assistant, seconds: longer than a restart of the broker takes.
HAND_OVER_WAITS_S = (0.5, 1, 2, 4, 8, 15, 30)


@task_success.connect(weak=False)
def close_completed(sender: Any = None, result: Any = None, **_: Any) -> None:
    """Close the attempt whose body returned."""
    run = run_of(sender.request) if isinstance(sender, Worker) else None
    if run is None:
        return
    outcome = run.outcome(result)
    _forget_run(sender)
    _close(
        sender,
        lambda attempts: attempts.complete(run.attempt, outcome),
        closing_message("mark_task_as_completed", run.attempt, outcome),
        run.attempt,
    )


@task_failure.connect(weak=False)
def close_failed(sender: Any = None, exception: Any = None, args: Any = None, **_: Any) -> None:
    """End the attempt whose body raised, whose result could not be kept, or whose process died."""
    if isinstance(sender, Worker):
        _end_failed(sender, exception, args)


@task_revoked.connect(weak=False)
def close_revoked(sender: Any = None, request: Any = None, terminated: Any = None, **_: Any) -> None:
    """End an attempt that was revoked; one that was revoked before its claim is found again."""
    if isinstance(sender, Worker):
        _end_failed(sender, "Revoked: terminated" if terminated else "Revoked", getattr(request, "args", None))


@task_postrun.connect(weak=False)
def close_ignored(sender: Any = None, state: Any = None, retval: Any = None, **_: Any) -> None:
    """End an attempt whose body raised Celery's `Ignore` or `Reject`: no other signal tells of it."""
    if isinstance(sender, Worker) and isinstance(retval, (Ignore, Reject)) and run_of(sender.request) is not None:
        _end_failed(sender, retval, None)


def _end_failed(sender: Worker, error: BaseException | str, args: Any) -> None:
    run = run_of(sender.request)
    attempt = run.attempt if run is not None else _attempt_of(args)
    if attempt is None:
        return
    outcome = run.outcome() if run is not None else Outcome()
    _forget_run(sender)
    delay_s = error.delay_s if isinstance(error, RetryLater) else None
    _close(
        sender,
        lambda attempts: attempts.fail(attempt, error, outcome),
        closing_message("mark_task_as_failed", attempt, outcome, describe(error), delay_s),
        attempt,
    )


def _attempt_of(args: Any) -> Attempt | None:
    hint = Hint.from_message(args[0]) if isinstance(args, (list, tuple)) and len(args) == 1 else None
    return hint.attempt if hint is not None else None


def _forget_run(sender: Worker) -> None:
    """One attempt is ended by one signal: a later one of the same request finds no run."""
    watchdog.unwatch()
    if run_of(sender.request) is not None:
        delattr(sender.request, RUN)


def _close(sender: Worker, end: Callable[[Attempts], object], message: dict[str, Any], attempt: Attempt) -> None:
    """End an attempt, or see to it that the WorkerAssistant does. Celery swallows what a receiver raises."""
    services = services_of(sender.app)
    try:
        end(services.attempts)
    except StoreError as problem:
        logger.warning("close failed, handed to the assistant: %s", problem, extra={"holder": attempt.holder})
        _hand_over(services, message, attempt)
    except Exception:
        logger.exception("close failed, handed to the assistant", extra={"holder": attempt.holder})
        _hand_over(services, message, attempt)


def _hand_over(services: Services, message: dict[str, Any], attempt: Attempt) -> None:
    for wait_s in (*HAND_OVER_WAITS_S, None):
        try:
            services.attempts.hold(attempt, lease_s=HELD_S)
            services.hand_over(message)
            return
        except Exception as problem:
            if wait_s is None:
                logger.exception("not closed: the task will be run again", extra={"holder": attempt.holder})
                return
            logger.warning("assistant not reached, trying again: %s", problem, extra={"holder": attempt.holder})
            time.sleep(wait_s)
