"""A line: the tasks that a process of a pool runs one after another on account of one message.

The call that frees a slot gives it to the next task. As a rule that task's hint is published, and goes through the
broker and through Celery's main process to some worker, which takes longer than many a task. A process whose own
message came in a moment ago goes on with the next task itself instead. Each task of a line is claimed, traced by Celery
and closed by its signals as any other, with a request and a task id of its own; what the main process has to know of it
stands on the board.

Lines are short, because to Celery's main process a line is one task: its time limit counts from the message (which
allows for the line), `inspect active` and `revoke` know the message alone, and events tell of it alone. And they are
kept by nodes of one labourer only: on others, hints of other labourers wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billiard.process import current_process
from celery.signals import worker_process_init

from sosw_celery.board import board
from sosw_celery.celery import app
from sosw_celery.core.model import Hint
from sosw_celery.leases import watchdog
from sosw_celery.wiring import services_of
from sosw_celery.worker import Worker

__all__ = ["LineTracer", "go_on_with", "goes_on"]

#: Where a request has the id of its task.
OWN_IDS = ("id", "root_id", "correlation_id")

#: Celery's function that runs a task: called with task id, arguments, keyword arguments and the request's fields.
Trace = Callable[..., Any]


@dataclass
class Line:
    """What is left of a line.

    Parameters:
        until: Monotonic time after which it gets no longer.
        next: The task that it goes on with when the present one is through.
    """

    until: float
    next: Hint | None = None


#: Of this process: one of a pool has one message at a time.
_line: Line | None = None


def goes_on() -> bool:
    """Return whether this process takes up the next task itself when the one that it runs has completed."""
    return _line is not None and time.monotonic() < _line.until


def go_on_with(hint: Hint | None) -> None:
    """Have the process run the task of this hint next; None: the line ends."""
    if _line is not None:
        _line.next = hint


class LineTracer:
    """Stands in for Celery's trace of a labourer's task: traces the task of the message, then the rest of its line."""

    def __init__(self, task: Worker, trace: Trace, line_s: float) -> None:
        self._task = task
        self._trace = trace
        self._line_s = line_s

    def __call__(self, message_id: str, args: Any, kwargs: Any, request: dict[str, Any]) -> Any:
        """Return what the trace of the message's own task returns; the others have told of their ends by signals."""
        global _line
        _line = line = Line(time.monotonic() + self._line_s)
        try:
            answer = self._trace(message_id, args, kwargs, request)
            while line.next is not None:
                hint, line.next = line.next, None
                self._run(message_id, hint, request)
        finally:
            _line = None
        return answer

    def _run(self, message_id: str, hint: Hint, request: dict[str, Any]) -> None:
        """Run a further task of the line."""
        services_of(self._task.app).note_dispatched([hint])
        board.put(message_id, hint.attempt)
        task_id, args = hint.celery_id, [hint.as_message()]
        own = {"args": args, "argsrepr": hint.attempt.holder, **dict.fromkeys(OWN_IDS, task_id)}
        self._trace(task_id, args, {}, {**request, **own})


@worker_process_init.connect(weak=False)
def keep_lines(**_: Any) -> None:
    """Have the labourers' tasks traced in lines in this pool process, unless something counts or limits messages."""
    line_s = services_of(app).settings.line_s
    serves_one_queue = len(app.amqp.queues.consume_from) == 1
    ends_after_messages = getattr(getattr(current_process(), "_target", None), "maxtasks", None) is not None
    is_watched = watchdog.is_in_pool_process and board.has_place
    if not (line_s and serves_one_queue and is_watched) or ends_after_messages:
        return
    for task in app.tasks.values():
        if isinstance(task, Worker) and not task.soft_time_limit:
            traced: Any = task  # the stubs know of no trace
            traced.__trace__ = LineTracer(task, traced.__trace__, line_s)
