"""The Celery task `scheduler`: a job is stored before its message is sent, and the message is only a hint."""

from __future__ import annotations

import contextlib
import logging
from datetime import datetime
from decimal import Decimal
from typing import Any

from celery import Celery
from celery.result import AsyncResult, EagerResult
from celery.signals import worker_shutting_down
from celery.states import SUCCESS
from celery.utils import uuid
from celery.utils.time import maybe_iso8601, maybe_make_aware

from sosw_celery import clock
from sosw_celery.config.masking import masked
from sosw_celery.core.exact import EXACT
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.delays import seconds_until
from sosw_celery.errors import ConfigError, InvalidJob, StoreUnavailable
from sosw_celery.labourer.pool_memory import shared_numbers
from sosw_celery.names import NOT_OF_SYSTEM, QUEUES, SCHEDULER
from sosw_celery.system.eager import run_here
from sosw_celery.system.system_task import SystemTask
from sosw_celery.wiring.container import services_of

__all__ = ["SchedulerTask", "scheduler_of"]

logger = logging.getLogger(__name__)

#: Seconds for which a message about a job that waits is left to the broker, and to the memory of a worker; well below
#: the time after which brokers deliver a message again that nobody has acknowledged.
LONGEST_ETA_S = 600.0
#: Seconds after its time when that message is due: a clock that is behind by less makes no difference.
ETA_LATER_S = 0.1

#: 1 once the worker shuts down; its main process tells the children that it has forked.
_shutting_down = shared_numbers(1)[0]


@worker_shutting_down.connect
def _note_shutdown(**_: Any) -> None:
    _shutting_down.value = 1


def _is_shutting_down() -> bool:
    return _shutting_down.value == 1


def _job_of(*args: Any, **kwargs: Any) -> Any:
    """Return the one argument that `scheduler.delay` takes, the job.

    Raises:
        TypeError: There is another number of arguments, or one of another name.
    """
    if len(args) == 1 and not kwargs:
        return args[0]
    if not args and kwargs.keys() in ({"job"}, {"event"}):
        return next(iter(kwargs.values()))
    found = ", ".join([*([f"{len(args)} positional"] if args else []), *kwargs]) or "none"
    raise TypeError(f"scheduler.delay(job): expected one argument, the job, got {found}")


def _wait_s(options: dict[str, Any], now_s: float) -> float:
    """Take `eta` and `countdown` out of Celery's options, and return the seconds that are to be waited; 0 for none.

    Raises:
        TypeError: `expires` is among them.
        ValueError: One of them is no time to wait for.
    """
    if options.pop("expires", None) is not None:
        raise TypeError("scheduler: expected no expires: a job that was accepted is carried out")
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if countdown is not None:
        return seconds_until(countdown, now_s, "countdown")
    if isinstance(eta, str):
        with contextlib.suppress(ValueError):
            eta = maybe_iso8601(eta)
    if isinstance(eta, datetime):
        eta = maybe_make_aware(eta)  # one without a time zone is of UTC, as Celery takes it
    return 0.0 if eta is None else seconds_until(eta, now_s, "eta")


class SchedulerTask(SystemTask):
    """`scheduler.delay(job)`: turns a job into tasks; its result is the job's summary as a dict.

    `delay` and `apply_async` return when the job is stored for good: it then ends as exactly the tasks that chunking
    gives, whatever happens to the broker. They take a dict, a JSON text, or `{"job": ...}` around one of these. A job
    without a `job_id` of its own has the id of the Celery message.

    A message that carries the job itself (`app.send_task("scheduler", [job])` from code without this class) is accepted
    when a worker gets it; until then the broker alone has it.

    Under Celery's `task_always_eager` the job runs in this process, and nothing is stored.
    """

    name = SCHEDULER
    #: Logged in one line, without a traceback: its last line would show a part of the job.
    throws = (InvalidJob,)
    ignore_result = False  # the one task of the system whose result somebody waits for

    def apply_async(  # type: ignore[override]  # the stubs spell out all of Celery's options
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Accept the job, then publish its message; return the result to wait for.

        When the message cannot be published the job goes on all the same, with the next sweep of jobs (`sweep_jobs_s`;
        after six of them where no other job was unfinished); its result can then be seen in the table of jobs only.

        A job that has to wait, for `eta` or `countdown`, is stored as any other. No message is sent about one that
        waits long: a sweep begins with it, so its result can be seen in the table only as well.

        Raises:
            TypeError: There is no job, or another argument, or `expires`, which a job does not keep.
            ValueError: `eta` or `countdown` is no time to wait for.
            InvalidJob: It cannot be a job.
            ConfigError: `task_always_eager` is set, and the labourer has no code in this process.
            StoreUnavailable: Whether it is accepted is not known: call again, with the same `job_id` or `task_id`.
        """
        event = _job_of(*(args or ()), **(kwargs or {}))
        task_id = task_id or uuid()
        if self.app.conf.task_always_eager:
            return EagerResult(task_id, run_here(self.app, event, task_id).as_dict(), SUCCESS, name=self.name)
        # Like the messages for siblings, so that one setting of `task_routes` cannot part them.
        options.setdefault("queue", QUEUES[SCHEDULER])
        envelope = Envelope.from_message(event)
        if envelope is None:
            now = clock.now()
            wait_s = _wait_s(options, float(now))
            not_before = None if wait_s <= 0 else EXACT.add(now, Decimal(repr(wait_s)))
            job_id, _ = services_of(self.app).scheduler.submit(event, task_id, not_before=not_before)
            envelope = Envelope(job_id)
            if wait_s > LONGEST_ETA_S:
                return self.AsyncResult(task_id)
            if wait_s > 0:
                options["countdown"] = wait_s + ETA_LATER_S
        try:
            return super().apply_async((envelope.as_message(),), {}, task_id=task_id, **options)
        except Exception as problem:  # noqa: BLE001  # told in one line: nothing is broken that a traceback explains
            # Broker and result backend have errors of many kinds (Redis' backend a bare RuntimeError), and none of
            # them may look as if the job was not accepted.
            logger.warning(
                "job accepted, its message is sent by the next sweep: %s: %s",
                *(type(problem).__name__, masked(str(problem))),
                extra={"job_id": envelope.job_id},
            )
            return self.AsyncResult(task_id)

    def run(self, event: Any) -> dict[str, Any]:
        """Go on with the job of an envelope, or accept the job that the message itself is; return its summary."""
        services = services_of(self.app)
        scheduler = services.scheduler
        # Without Redis the mark runs out by itself.
        with contextlib.suppress(StoreUnavailable):
            services.idle_mark.clear()
        envelope = Envelope.from_message(event)
        if envelope is None:
            job_id, _ = scheduler.submit(event, self.request.id or uuid())
            envelope = Envelope(job_id)
        return scheduler.run(envelope, should_stop=_is_shutting_down).as_dict()


def scheduler_of(app: Celery) -> SchedulerTask:
    """Return the app's task `scheduler`, registered when it is first asked for.

    So a process that imports no more than the module of a labourer can submit jobs.

    Raises:
        ConfigError: The app has another task of this name.
    """
    if SCHEDULER not in app.tasks:
        app.register_task(SchedulerTask())
    task = app.tasks[SCHEDULER]
    if not isinstance(task, SchedulerTask):
        raise ConfigError("name of a task", SCHEDULER, NOT_OF_SYSTEM)
    return task
