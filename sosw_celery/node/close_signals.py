"""Closes attempts by Celery's signals.

`task_success` and `task_failure` fire in the child that ran the body, before its message is acknowledged. In the main
process `task_failure` and `task_revoked` are the backup for a child that died or was killed; they can fire twice, or
after a success, and there the request carries no run: the attempt is that of the board, or of the hint. The fence makes
all of it harmless. Nothing is failed there, and no slot freed, before the process that ran it is dead.

An attempt that cannot be closed is handed to the WorkerAssistant with its slot still held.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # the stubs are older
from celery.exceptions import Ignore, Reject
from celery.signals import task_failure, task_postrun, task_revoked, task_success

from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.labourer import children, event_loop
from sosw_celery.labourer.gateway import LIMIT_S, AttemptGateway, gateway_of
from sosw_celery.labourer.pool_memory import Stage, board, here
from sosw_celery.labourer.run_context import WorkerRun, forget_run, run_of
from sosw_celery.labourer.worker import Worker
from sosw_celery.node import continuation
from sosw_celery.services.attempts import Outcome
from sosw_celery.wiring.container import services_of

__all__: list[str] = []

logger = logging.getLogger(__name__)


@task_success.connect(weak=False)
def close_completed(sender: Any = None, result: Any = None, **_: Any) -> None:
    """Close the attempt whose body returned: as completed, unless it marked it as failed, or has yet to be run."""
    run = run_of(sender.request) if isinstance(sender, Worker) else None
    if run is None:
        return
    failed = event_loop.unrun(result) or run.marked_failed
    if failed is not None:
        _end_failed(sender, failed)
        return
    outcome = sender.outcome_of(run, result)
    _forget(sender, run, completed=True)
    if continuation.goes_on():
        continuation.go_on_with(_gateway(sender, run.attempt).go_on(run, outcome, continuation.be_at))
    else:
        _gateway(sender, run.attempt).complete(run, outcome)


@task_failure.connect(weak=False)
def close_failed(sender: Any = None, exception: Any = None, args: Any = None, task_id: str = "", **_: Any) -> None:
    """End the attempt whose body raised, whose result could not be kept, or whose process died."""
    if isinstance(sender, Worker):
        _end_failed(sender, exception, args, task_id)


@task_revoked.connect(weak=False)
def close_revoked(sender: Any = None, request: Any = None, terminated: Any = None, **_: Any) -> None:
    """End an attempt that was revoked; one that was revoked before its claim is found again."""
    if not isinstance(sender, Worker):
        return
    message_id = getattr(request, "id", "")
    if not terminated and _is_under_way(message_id):  # revoked was the same message come a second time
        return
    reason = "Revoked: terminated" if terminated else "Revoked"
    _end_failed(sender, reason, getattr(request, "args", None), message_id)


@task_postrun.connect(weak=False)
def close_ignored(sender: Any = None, state: Any = None, retval: Any = None, **_: Any) -> None:
    """End an attempt that no other signal tells of: its body raised Celery's `Ignore` or `Reject`, or what ends the
    process (`sys.exit`), or what Celery failed to tell of."""
    if not isinstance(sender, Worker) or sender.request.is_eager:  # called within the body of another one
        return
    run = run_of(sender.request)
    is_ended = state is not None
    if run is not None and run.raised is not None and not terminate_handler_fired():
        _end_failed(sender, run.raised)
        is_ended = True
    elif run is not None and issubclass(type(retval), (Ignore, Reject)):
        _end_failed(sender, retval)
    if not is_ended:  # what it raised ends the process, whose main process ends the attempt then
        here.close(LIMIT_S)
    elif not continuation.has_next():
        here.be_done()


def _end_failed(sender: Worker, error: BaseException | str, args: Any = None, message_id: str = "") -> None:
    run = run_of(sender.request)
    if run is not None:
        outcome = sender.outcome_of(run)
        _forget(sender, run, completed=False)
        raised = error if run.raised is None else run.raised
        _gateway(sender, run.attempt).fail(run.attempt, raised, outcome, run)
        return
    entry = board.of_message(message_id)
    if entry is not None and entry.stage is Stage.DONE:
        # Its process has ended it, and knew why. Of two messages about one end the assistant may read this one first.
        return
    is_own = entry is not None and entry.pid == os.getpid()
    if entry is not None and not is_own:
        error = children.lay_to_rest(entry) or error
    attempt = entry.attempt if entry is not None else _attempt_of(args)
    if attempt is not None:
        _gateway(sender, attempt).fail(attempt, error, Outcome(), None)
    if is_own:
        here.be_done()


def _gateway(sender: Worker, attempt: Attempt) -> AttemptGateway:
    return gateway_of(services_of(sender.app), attempt.labourer_id)


def _attempt_of(args: Any) -> Attempt | None:
    """Return the attempt that a message names."""
    hint = Hint.from_message(args[0]) if isinstance(args, (list, tuple)) and len(args) == 1 else None
    return hint.attempt if hint is not None else None


def _is_under_way(message_id: str) -> bool:
    entry = board.of_message(message_id)
    return entry is not None and entry.stage is not Stage.DONE and children.is_alive(entry.pid)


def _forget(sender: Worker, run: WorkerRun, *, completed: bool) -> None:
    """One attempt is ended by one signal: a later one of the same request finds no run."""
    here.close(LIMIT_S)
    sender.end_run(run, completed=completed)
    forget_run(sender.request)
