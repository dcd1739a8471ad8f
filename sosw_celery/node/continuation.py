"""A line: the tasks that a process of a pool runs one after another on account of one message.

The call that frees a slot gives it to the next task. As a rule that task's hint is published, and goes through the
broker and through Celery's main process to some worker, which takes longer than many a task. A process whose own
message came in a moment ago goes on with the next task itself instead. Each task of a line is claimed, traced by Celery
and closed by its signals as any other, with a request and a task id of its own; what the main process has to know of it
stands on the board.

Lines are short, because to Celery's main process a line is one task: `inspect active` and `revoke` know the message
alone, and events tell of it alone. So there are none while somebody follows the events of tasks (`event_watch`). And
they are kept by nodes of one labourer only: on others, hints of other labourers wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from billiard.process import current_process
from celery.app import app_or_default
from celery.signals import worker_process_init

from sosw_celery.clock import steady
from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.labourer.gateway import LIMIT_S, gateway_of
from sosw_celery.labourer.pool_memory import here, is_watched
from sosw_celery.labourer.run_context import RUN, WorkerRun
from sosw_celery.labourer.serving import serves_ours
from sosw_celery.labourer.watchdog import watchdog
from sosw_celery.labourer.worker import Worker
from sosw_celery.services.attempts import Outcome, Run
from sosw_celery.wiring.container import services_of

__all__ = ["LineTracer", "be_at", "go_on_with", "goes_on", "has_next"]

#: The error of a run that was begun and not run.
NOT_RUN = "Lost: the process that was to run it was interrupted"
#: Where a request has the id of its task.
OWN_IDS = ("id", "root_id", "correlation_id")

#: What Celery makes of every message, and puts into its request: `as_task_v2` of celery 5.7, and the worker's part.
OF_ANY_HINT = frozenset(
    [
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "properties",
        "reply_to",
        "correlation_id",
        "hostname",
        "delivery_info",
        "args",
        "kwargs",
        "is_eager",
    ]
)

#: Celery's function that runs a task: called with task id, arguments, keyword arguments and the request's fields.
Trace = Callable[..., Any]


@dataclass
class Line:
    """What is left of a line.

    Parameters:
        until: Steady time after which it gets no longer.
        next: The run that it goes on with when the present one is through: its task is claimed.
    """

    until: float
    next: Run | None = None


#: Of this process: one of a pool has one message at a time.
_line: Line | None = None


def goes_on() -> bool:
    """Return whether this process takes up the next task itself when the one that it runs has completed."""
    return _line is not None and steady() < _line.until and not is_watched.value


def be_at(attempt: Attempt) -> None:
    """Tell the main process that this one has the lease of that attempt now."""
    if _line is not None:
        here.close_and_take(attempt, LIMIT_S)


def has_next() -> bool:
    """Return whether a run was begun that this process has to run next."""
    return _line is not None and _line.next is not None


def go_on_with(run: Run | None) -> None:
    """Have the process go on with this run; None: the line ends."""
    if _line is not None:
        _line.next = run


class LineTracer:
    """Stands in for Celery's trace of a labourer's task: traces the task of the message, then the rest of its line."""

    def __init__(self, task: Worker, trace: Trace, line_s: float) -> None:
        self._task = task
        self._trace = trace
        self._line_s = line_s

    def __call__(self, message_id: str, args: Any, kwargs: Any, request: dict[str, Any]) -> Any:
        """Return what the trace of the message's own task returns; the others have told of their ends by signals."""
        global _line
        _line = line = Line(steady() + self._line_s)
        try:
            answer = self._trace(message_id, args, kwargs, request)
            while line.next is not None:
                run, line.next = line.next, None
                self._run(run, request)
        finally:
            _line = None
            if line.next is not None:  # what ended before it raised, after its end was told
                attempt = line.next.attempt
                gateway_of(services_of(self._task.app), attempt.labourer_id).fail(attempt, NOT_RUN, Outcome(), None)
                here.be_done()
        return answer

    def _run(self, run: Run, request: dict[str, Any]) -> None:
        """Run a further task of the line."""
        hint = Hint(run.attempt)
        task_id, args = hint.celery_id, [hint.as_message()]
        own = {"args": args, "argsrepr": hint.attempt.holder, RUN: WorkerRun(run.task, run.slot_from, run.waits)}
        own |= dict.fromkeys(OWN_IDS, task_id)
        self._trace(task_id, args, {}, {**_of_any_hint(request), **own})


def _of_any_hint(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request has that is alike in those of all hints: no header that somebody put on one message."""
    return {name: value for name, value in request.items() if name in OF_ANY_HINT}


@worker_process_init.connect(weak=False)
def keep_lines(**_: Any) -> None:
    """Have the labourers' tasks traced in lines in this pool process, unless something counts or limits messages."""
    app = app_or_default()
    if not serves_ours(app):
        return
    services = services_of(app)
    settings = services.settings
    serves_one_queue = len(app.amqp.queues.consume_from) == 1
    ends_after_messages = getattr(getattr(current_process(), "_target", None), "maxtasks", None) is not None
    is_watched = watchdog.is_in_pool_process and here.has_place
    if not (settings.line_s and serves_one_queue and is_watched) or ends_after_messages:
        return
    for task in app.tasks.values():
        if isinstance(task, Worker) and task.name in settings.labourers and gateway_of(services, task.name).goes_on:
            traced: Any = task  # the stubs know of no trace
            traced.__trace__ = LineTracer(task, traced.__trace__, settings.line_s)
