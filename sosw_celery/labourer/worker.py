"""The base of labourers: a Celery task whose runs are claimed from the task table and closed by Celery's signals.

A labourer's `name` is its `labourer_id`, the name of its queue and of its Celery task. Three forms:

    @app.task(base=Worker, name="resize")
    def resize(event): ...

    class Resize(Worker):
        name = "resize"
        def __call__(self, event):
            self.stats["images"] += 1
            super().__call__(event)

    class Processor(Worker): ...        # written for sosw, without a name: the configuration gives it one,
                                        # "labourers": {"resize": {"worker": "my_module:Processor"}}

The message of a run is only a hint. Before the body starts, the hint is exchanged for a slot, the slot for a claim,
and the claim brings the event: the task's payload. What the body counts in `self.stats` and finds in `self.result`,
and what it returns, stays on the task's row. An exception ends the attempt as failed; `RetryLater` or
`self.retry(...)` choose when the next one starts.

A labourer is a `Processor` too: configured, with clients. Its `__init__` runs in the process that runs its tasks,
before the first of them: nothing is connected at import, and nothing that is connected goes through a fork.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # the stubs are older
from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_make_aware

from sosw_celery.celery import current, installed, is_finalized, is_installed
from sosw_celery.core.deep_merge import merged_deeply
from sosw_celery.core.tasks.model import Hint
from sosw_celery.core.tasks.siblings import Sibling, next_depth
from sosw_celery.core.tasks.storable import storable
from sosw_celery.delays import Delay
from sosw_celery.errors import ConfigError, RetryLater, StoreUnavailable
from sosw_celery.labourer import calls, event_loop
from sosw_celery.labourer.gateway import AttemptGateway, gateway_of
from sosw_celery.labourer.pool_memory import here
from sosw_celery.labourer.processor import Processor, call_arguments, counters
from sosw_celery.labourer.run_context import DirectRun, Lasting, WorkerRun, forget_run, keep_run, run_of
from sosw_celery.labourer.task_options import check_task_options
from sosw_celery.labourer.troubles import troubles
from sosw_celery.labourer.watchdog import watchdog
from sosw_celery.names import QUEUES, SCHEDULER, check_labourer_name
from sosw_celery.services.attempts import Outcome, describe
from sosw_celery.services.history import OwnMeta
from sosw_celery.services.starts import Verdict
from sosw_celery.wiring.container import services_of

if TYPE_CHECKING:
    CeleryTask = Task[..., Any]
else:
    CeleryTask = Task

__all__ = ["Worker", "is_labourer", "labourers"]

logger = logging.getLogger(__name__)

#: Methods of which one is the body of a labourer, and what Celery calls beside it.
BODY = ("__call__", "run")
HOOKS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")

#: Marks what `as_body` made.
IS_BODY = "_sosw_is_body"

#: Those written as classes, in the order in which they were defined.
_labourers: list[type[Worker]] = []

#: Of all that have been defined, functions as well.
_names: set[str] = set()

#: Objects are made one after the other, also with threads.
_making = threading.RLock()


def is_labourer(name: str) -> bool:
    """Return whether a task of this name is a labourer whose code this process has."""
    return name in _names


def labourers() -> list[type[Worker]]:
    """Return the labourers that are written as classes, in the order in which they were defined."""
    return list(_labourers)


def as_body(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `__call__` that notes what it raises where it is the body of a run, and returns what Celery can show.

    Celery makes a text of what a body returned before it tells of its success, and takes the task for failed where that
    raises: for a number of thousands of digits, or a dict that cannot be read.

    A process that the body has forked ends where the body does. It would go on as a process of the pool else, which
    closes the task, and takes others, beside the one that is it.
    """

    @functools.wraps(call)
    def run_body(self: Worker, *args: Any, **kwargs: Any) -> Any:
        is_bound = self.request_stack is not None  # a class that is no labourer, in its unit tests, is not
        run = run_of(self.request) if is_bound else None
        if run is None or run.is_in_body:  # called directly, or by super()
            return call(self, *args, **kwargs)
        run.is_in_body = True
        pid = os.getpid()
        try:
            with run.noting_what_is_raised():
                return _shown(call(self, *args, **kwargs), self.resultrepr_maxsize)
        finally:
            if os.getpid() != pid:
                _end_forked(run)

    vars(run_body)[IS_BODY] = True
    return run_body


def _end_forked(run: WorkerRun) -> NoReturn:
    if run.raised is not None:
        logger.error("a process that the body forked ended: %s", describe(run.raised))
    with contextlib.suppress(Exception):  # they may be closed
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(run.raised is not None))


def _shown(returned: Any, length: int) -> Any:
    """Return what a body returned, or what is storable of it where Celery cannot show it."""
    if returned is None:
        return None
    try:
        saferepr(returned, length)
        isinstance(returned, Exception)  # as Celery asks it
    except (Exception, SystemExit):  # noqa: BLE001  # whatever it raises when it is asked what it holds
        return storable(returned)
    return returned


class Worker(Processor, CeleryTask):
    """Base class of labourers, for functions and for classes with `__call__`. See the module's text."""

    abstract = True
    # What `task_options.OURS` says of them.
    acks_late = ignore_result = typing = True
    acks_on_failure = acks_on_timeout = acks_on_failure_or_timeout = True
    reject_on_worker_lost = retry_on_worker_lost = False
    #: None, instead of `task_default_rate_limit`, which is of the app's own tasks.
    rate_limit = "0"
    #: A wanted retry is logged in one line, without a traceback.
    throws = (RetryLater,)

    #: Hard and soft limit of the body, seconds, as Celery's options and attributes give them; beside `duration`.
    own_limits: tuple[float | None, float | None] = (None, None)
    #: The app whose task a class is.
    _registered_on: Celery | None = None
    #: The process in which `__init__` has run.
    _made_in_pid = 0
    #: Whether a `__call__` of the class is a coroutine function, in which `super().__call__(event)` may be awaited.
    _is_awaited = False
    #: The run under way, in a process that has one at a time.
    _only_run: WorkerRun | None = None

    def __init__(self, custom_config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(custom_config, **kwargs)
        self._made_in_pid = os.getpid()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register a labourer that is written as a class; one made by the decorator registers itself."""
        super().__init_subclass__(**kwargs)
        # Celery keeps what belongs to a task on its class: a subclass of a labourer needs its own.
        cls.__bound__ = False
        own = vars(cls)
        is_coroutine = event_loop.is_coroutine_function(cls.__call__)
        cls._is_awaited |= is_coroutine
        if not hasattr(cls.__call__, IS_BODY):
            call = event_loop.runs_to_its_end(cls.__call__) if is_coroutine else cls.__call__
            cls.__call__ = as_body(call)  # type: ignore[method-assign]
        if own.get("_decorated") or own.get("name"):
            _check(cls)
        if own.get("_decorated"):
            cls.__init__ = _made_later  # type: ignore[assignment,method-assign]  # Celery makes the object at import
        elif not own.get("abstract") and own.get("name"):
            cls._register()

    @classmethod
    def register_as(
        cls, name: str, custom_config: Mapping[str, Any] | None = None, *, app: Celery | None = None
    ) -> Worker:
        """Make this class the labourer `name` and return its Celery task; one class may be several labourers.

        The same as naming the class in the configuration, `"labourers": {NAME: {"worker": "my_module:Class"}}`.

        Parameters:
            custom_config: As the constructor takes it; `custom_config` of the labourer's entry is laid over it.
            app: Whose task is returned, of several that have the system; by default that of the current one.
        """
        if cls.name != name:
            members = {"name": name, "__module__": cls.__module__, "__doc__": cls.__doc__, "__qualname__": name}
            type(str(cls.__name__), (cls,), members)  # registers itself
        task = cast(Worker, (app or current()).tasks[name])
        task.default_custom_config = custom_config or {}
        return task

    @classmethod
    def check_function(cls, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        """Make sure that `@app.task(base=cls, **options)` makes a labourer of this function, long before it does.

        Parameters:
            options: Its name is among them.

        Raises:
            ConfigError: Its name is not free, or an option has no effect.
            TypeError: Its body would never run.
        """
        body = function if options.get("bind") else staticmethod(function)
        members = {**options, "run": body, "_decorated": True, "__module__": function.__module__}
        check_task_options(type(function.__name__, (cls,), members), Worker)

    @classmethod
    def annotate(cls) -> None:
        """Take what `task_annotations` says of this labourer by its name; `"*"` means the app's own tasks."""
        app: Any = cls.app  # the stubs take it for a method
        for annotation in app.annotations:
            for option, value in (annotation.annotate(cls) or {}).items():
                if option.startswith("@"):
                    cls.add_around(option[1:], value)
                else:
                    setattr(cls, option, value)

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Refuse options of Celery's that would have no effect, also those of `task_annotations`; see `task_options`.

        Raises:
            ConfigError: One is stated; the labourer is not registered.
        """
        if not is_installed(app):  # a shared task is made on every app of the program
            return
        try:
            check_task_options(cls, Worker, app)
        except ConfigError:
            app.tasks.pop(cls.name, None)
            raise

    @classmethod
    def _register(cls) -> None:
        if cls.__call__ is Worker.__call__ and cls.run is Worker.run:
            raise TypeError(f"labourer {cls.name!r}: expected a method __call__(self, event) or run(self, event)")
        check_task_options(cls, Worker)
        cls.abstract = False
        _labourers.append(cls)
        for app in installed():
            if is_finalized(app):  # others take it up when they are
                cls.register_on(app)

    @classmethod
    def register_on(cls, app: Celery) -> None:
        """Register a labourer that is written as a class on an app that has the system."""
        own: type[Worker] = cls
        if vars(cls).get("_registered_on", app) is not app:  # Celery keeps a task's app on its class
            members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
            own = type(str(cls.__name__), (cls,), members)
        own._registered_on = app
        # Without __init__: that may connect, and waits for the process that runs the tasks.
        app.register_task(own.__new__(own))

    # ---- what the labourer's code uses

    #: Of `register_as`.
    default_custom_config: Mapping[str, Any] = {}

    @property
    def stats(self) -> defaultdict[str, Any]:
        """Counters of this run, 0 until set; kept on the task's row as `stat_NAME`."""
        return self._run_now().stats

    @stats.setter
    def stats(self, value: Mapping[str, Any]) -> None:
        self._run_now().stats = counters(value)

    @property
    def result(self) -> dict[str, Any]:
        """What this run found, 0 until set; kept on the task's row as `result_NAME`."""
        return self._run_now().result

    @result.setter
    def result(self, value: Mapping[str, Any]) -> None:
        self._run_now().result = counters(value)

    @as_body
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body of a labourer with `run` or of a function; in a class with `__call__` the end of it, as in sosw.

        It is called with the event, and `reset_result` where that is not to be true. A class with `__call__` counts the
        call in its stats, as `processor_calls`.

        The task is not closed by this, but when the whole body is through.

        Parameters:
            reset_result: If false, `self.result` of the next run in this process (in this thread, with threads) begins
                with what it is at the end of this one, when this one completes. Stats begin anew in any case.
        """
        event, reset_result, others = call_arguments(*args, **kwargs)
        run = self._run_now()
        run.keeps_result = not reset_result
        if type(self).__call__ is not Worker.__call__:
            run.stats["processor_calls"] += 1
        returned = self.run(event, **others)
        if event_loop.is_coroutine(returned) and event_loop.is_coroutine_function(self.run):
            return event_loop.run_here(returned)
        return event_loop.Given(returned) if self._is_awaited and event_loop.is_running() else returned

    @property
    def meta_handler(self) -> OwnMeta:
        """The history of the running task: `self.meta_handler.post(action="resized", size=9)` adds to it.

        Always there. A `meta_handler_config` in the labourer's own configuration says where that is kept, as in sosw;
        the system's own events go where the section `sosw` says. Nothing is kept where neither is configured, or
        outside of a worker process.
        """
        run = self._task_run()
        if run is None:
            return OwnMeta(None, None)
        return OwnMeta(services_of(self.app).meta_handler_of(self.config.get("meta_handler_config")), run.attempt)

    def run(self, event: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Do nothing: the end of `super().__call__(event)` in a class with `__call__`, as in sosw."""

    def mark_task_as_completed(self, task_id: str | None = None) -> None:
        """Close the running attempt as completed now, with the stats and result so far.

        What the body does after that changes nothing of the task any more; its slot is free when the body ends. If the
        tables do not answer now, the end of the body closes it. Outside of a worker process nothing happens.

        Raises:
            ValueError: `task_id` is another one than that of the running task.
        """
        run = self._run_marked(task_id)
        if run is None or run.marked_failed is not None:
            return
        try:
            self._gateway.complete_early(run, self.outcome_of(run))
        except Exception:
            logger.warning("not closed yet, its end will", exc_info=True, extra={"holder": run.attempt.holder})

    def mark_task_as_failed(self, task_id: str | None = None, reason: str = "the worker marked it as failed") -> None:
        """Have the running attempt end as failed when the body ends, however it does, unless it is completed already.

        At the end, not now: the next attempt of a task never runs beside the rest of this one.

        Parameters:
            reason: Kept on the task as its last error.

        Raises:
            ValueError: `task_id` is another one than that of the running task.
        """
        run = self._run_marked(task_id)
        if run is not None and run.marked_failed is None:
            run.marked_failed = reason

    def spawn_sibling(self, payload: Mapping[str, Any]) -> str:
        """Queue another task of this labourer with the payload as its event, and return the id of that task.

        It stands in the table when this returns; for a labourer that closes through the assistant it is written when
        the attempt ends. The sibling belongs to the same job. A payload made of the event may keep the ids that were
        added to it. Asking for the same again in another run of the same task spawns nothing twice.

        Raises:
            SiblingRefused: `max_sibling_depth` siblings came before this task, each spawned by the one before it.
            InvalidJob: The payload is not what JSON can say, or too large.
            TransitionRefused: The attempt does not run any more.
            StoreUnavailable: Whether it is spawned is not known; ask again.
            RuntimeError: There is no running task.
        """
        run = self._task_run()
        if run is None:
            raise RuntimeError("spawn_sibling: only a running task has siblings")
        depth = next_depth(run.task.task_id, run.sibling_depth, services_of(self.app).settings.max_sibling_depth)
        sibling = Sibling.of(run.task.task_id, depth, run.without_ids(payload), run.siblings)
        self._gateway.spawn(run, sibling)
        run.siblings.append(sibling)
        return sibling.task_id

    def retry(  # type: ignore[override]
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: Delay | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> RetryLater:
        """End this attempt and have the task tried again, as Celery's `retry` does, but through the task table.

        Parameters:
            countdown: Wait until the retry, as `RetryLater` takes it; None leaves it to the labourer's backoff. `eta`,
                a datetime, likewise; one without a time zone is of UTC, as Celery takes it.
            max_retries: Raises `exc` instead when that many retries have been made; the labourer's `max_attempts`
                holds in any case.

        Raises:
            RetryLater: Always, unless `throw` is false; then it is returned, for the caller to raise.
            ValueError: `countdown` or `eta` is no wait.
        """
        run = self._task_run()
        if exc is not None and max_retries is not None and run is not None and run.task.attempts > max_retries:
            raise exc
        if countdown is None:
            countdown = maybe_make_aware(eta) if isinstance(eta, datetime) else eta
        later = RetryLater(countdown, "the worker asked for a retry" if exc is None else describe(exc))
        if throw:
            raise later from exc
        return later

    # ---- how a message becomes a run

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Exchange the hint for the event, or drop it. An own `before_start` has to call this one first."""
        if self.request.is_eager:  # Celery's `apply`: called in this process, without a task
            self._make_once()
            return
        hint = Hint.from_message(args[0]) if len(args) == 1 else None
        if hint is None:
            self._pass_on(task_id, args, kwargs)
        if hint.attempt.labourer_id != self.name:
            logger.error("message dropped: a hint for another labourer than %s", self.name)
            raise Ignore
        labourer = services_of(self.app).settings.labourer(self.name)
        run = run_of(self.request)  # further down a line: begun when the one before it ended
        if run is None:
            here.ask(task_id, hint.attempt, labourer.ready_s)
            run = self._begin(hint)
            keep_run(self.request, run)
        here.make_ready(run.attempt, run.slot_from, labourer.ready_s)
        watchdog.wake()
        event = self._event_of(run)
        with run.noting_what_is_raised():
            self._make_ready(run)
        if run.waits:
            self._await_start(run)
        if watchdog.bites():  # the node stood still since the claim: the slot may be another's
            self._drop(run)
        args[:] = [event]
        hard_s, soft_s = self.own_limits
        here.run(min(labourer.duration_s, hard_s or math.inf), soft_s or math.inf)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Submit the event as a job of this labourer, so that `delay(event)` is counted, capped and kept as well.

        Raises:
            ConfigError: The system is not on its app.
            TypeError: It is not called with an event alone, or with an option that a job does not keep.
            InvalidJob: The event cannot be a job.
            StoreUnavailable: Whether it is accepted is not known: call again, with the same `task_id`.
        """
        event = calls.given_event(self.name, self._event_name, args, kwargs)
        calls.check_options(self.name, options)
        if not is_installed(self.app):
            expected = "one that has the system: sosw_celery.install(app)"
            raise ConfigError(f"the app of labourer {self.name!r}", self.app.main, expected)
        if self.app.conf.task_always_eager:
            return self.apply((event,), task_id=options.get("task_id"))
        return self.app.tasks[SCHEDULER].apply_async(args=(self._job_of(event),), **options)

    def signature(self, args: Any = None, *others: Any, **options: Any) -> calls.LabourerSignature:
        """Return the labourer with its event, to be submitted later; nothing may be made to follow it."""
        options.setdefault("app", self.app)
        return calls.LabourerSignature(self, args, *others, **options)

    subtask = signature

    def map(self, it: Any) -> NoReturn:
        """Refuse it: Celery would run the bodies one after the other in some worker, without slots and rows."""
        calls.refuse(self.name, "map, starmap or chunks", "submit one job, whose chunks are its tasks: scheduler.delay")

    starmap = map

    def chunks(self, it: Any, n: int) -> NoReturn:
        """Refuse it, as `map`."""
        self.map(it)

    def replace(self, sig: Any) -> NoReturn:
        """Refuse it: the row of a task cannot become another task.

        Raises:
            TypeError: Always, also in a body; its attempt fails with it.
        """
        calls.refuse(self.name, "replace", "the task stays this one; self.spawn_sibling(payload) queues another one")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> NoReturn:
        """Refuse it, as `replace`."""
        self.replace(sig)

    @property
    def _event_name(self) -> str:
        return calls.event_name(self.run if type(self).__call__ is Worker.__call__ else self)

    def _job_of(self, event: Mapping[str, Any]) -> dict[str, Any]:
        return {**event, "lambda_name": self.name}

    def _pass_on(self, message_id: str, args: Any, kwargs: Any) -> NoReturn:
        """Have the event of a message (`send_task`, `celery call`, Flower) become a job, under the message's id.

        By the Scheduler: a labourer's worker may have no access to the tables.
        """
        try:
            if args and Hint.is_meant_by(args[0]):
                raise TypeError(f"labourer {self.name!r}: expected a hint as this version knows it")
            event = calls.given_event(self.name, self._event_name, args, kwargs)
        except TypeError as problem:
            logger.error("message dropped: %s", problem)
            raise Ignore from problem
        try:
            self.app.send_task(SCHEDULER, [self._job_of(event)], task_id=message_id, queue=QUEUES[SCHEDULER])
        except Exception as problem:
            logger.warning("message not passed on to the Scheduler, it stays: %s", problem, exc_info=True)
            raise Reject(problem, requeue=True) from problem
        logger.info("message passed on to the Scheduler as a job", extra={"job_id": message_id})
        raise Ignore

    @property
    def _gateway(self) -> AttemptGateway:
        return gateway_of(services_of(self.app), self.name)

    def _begin(self, hint: Hint) -> WorkerRun:
        try:
            run = self._gateway.begin(hint)
        except StoreUnavailable as problem:
            logger.warning("hint dropped, the task is found again: %s", problem, extra={"holder": hint.attempt.holder})
            raise Ignore from problem
        except Exception as problem:
            troubles.note(problem)
            troubles.end_if_broken()
            raise
        troubles.clear()
        if run is None:
            raise Ignore
        return WorkerRun(run.task, run.slot_from, run.waits)

    def _await_start(self, run: WorkerRun) -> None:
        """Wait until the rate allows the body to start, with slot and task held."""
        here.wait()
        verdict = services_of(self.app).starts.wait(run.attempt, lambda: watchdog.is_stopping)
        if verdict is Verdict.LOST:
            self._drop(run)
        if verdict is Verdict.STOPPED:
            raise RetryLater(0, "the node was stopped while the body waited for the rate")

    def _drop(self, run: WorkerRun) -> NoReturn:
        """Have the body not begin, and the task be found again; the lease is left alone, which may be another's."""
        logger.warning("hint dropped: its lease may have ended", extra={"holder": run.attempt.holder})
        forget_run(self.request)
        raise Ignore

    def _event_of(self, run: WorkerRun) -> dict[str, Any]:
        try:
            return run.event()
        except ValueError as problem:
            if not self._gateway.bury(run, f"the payload cannot be read: {problem}"):
                raise  # the attempt fails
            forget_run(self.request)
            raise Ignore from problem

    def _make_ready(self, run: WorkerRun) -> None:
        """Have `__init__` run in this process, the configuration fresh, and the run begin with what lasts."""
        is_alone = threading.current_thread() is threading.main_thread()
        self._only_run = run if is_alone else None
        with _making:
            if not self._make_once():
                self.refresh_config()
        if is_alone:  # with threads, what clients count belongs to all runs under way
            self.reset_stats()
        self.stats = defaultdict(int, self._lasting.stats)
        self.result = defaultdict(int, self._lasting.result)

    def _make_once(self) -> bool:
        """Have `__init__` run in this process, unless it has; return whether it had to."""
        with _making:
            if self._made_in_pid == os.getpid():
                return False
            self._make()
            return True

    def _make(self) -> None:
        """Run `__init__`, with the configuration that the labourer was given, if it was."""
        labourers = services_of(self.app).settings.labourers
        own = labourers[self.name].custom_config if self.name in labourers else {}
        custom = merged_deeply(self.default_custom_config, own)
        cls = type(self)
        make: Any = super(cls, self).__init__ if vars(cls).get("_decorated") else self.__init__  # type: ignore[misc]
        make(**({"custom_config": custom} if custom else {}))
        self._made_in_pid = os.getpid()

    # ---- how a run ends

    def outcome_of(self, run: WorkerRun, returned: object = None) -> Outcome:
        """Return what a run leaves on its row: its result, what the body returned, and the stats of `get_stats`.

        Clients' stats are among them where the process has one run at a time; with threads they belong to no one run.
        """
        was_told_to_end = terminate_handler_fired()
        outcome = self._outcome_of(run, returned)
        if terminate_handler_fired() and not was_told_to_end:  # it was taken for an error of a value
            raise SystemExit
        return outcome

    def _outcome_of(self, run: WorkerRun, returned: object) -> Outcome:
        if self._only_run is not run:
            return run.outcome(returned)
        try:
            stats = self.get_stats()
        except Exception:
            logger.exception("get_stats failed, the run's own stats are kept", extra={"holder": run.attempt.holder})
            return run.outcome(returned)
        return run.outcome(returned, stats)

    def end_run(self, run: WorkerRun, *, completed: bool) -> None:
        """Let go of a run whose body has ended, and keep what the next one begins with."""
        self._only_run = None
        if not completed:
            return
        try:
            lasting = self.config.get("lifetime_stats_params") or ()
            self._lasting.stats = {name: value for name, value in run.stats.items() if name in lasting}
            self._lasting.result = dict(run.result) if run.keeps_result else {}
        except Exception:
            logger.exception("the next run begins anew", extra={"holder": run.attempt.holder})
            self._lasting.stats, self._lasting.result = {}, {}

    # ---- inside

    @property
    def _lasting(self) -> Lasting:
        return vars(self).setdefault("_lasting_state", Lasting())  # type: ignore[no-any-return]  # set right here

    def _task_run(self) -> WorkerRun | None:
        """Return the run under way, also in threads that the body has started, where that is no question."""
        is_bound = self.request_stack is not None  # a class that is no labourer, in its unit tests, is not
        return (run_of(self.request) if is_bound else None) or self._only_run

    def _run_now(self) -> WorkerRun:
        """Return the run under way; one of its own where the labourer is called directly, as in its unit tests."""
        run = self._task_run()
        if run is None:
            run = vars(self).setdefault("_direct_run", DirectRun())
        return run

    def _run_marked(self, task_id: str | None) -> WorkerRun | None:
        run = self._task_run()
        if run is None:
            logger.info("not marked: no task runs")
        elif task_id is not None and task_id != run.task.task_id:
            raise ValueError(f"a worker marks its own task, {run.task.task_id}, not {task_id}")
        return run


def _check(cls: type[Worker]) -> None:
    """Refuse a labourer that would take another task's place, or be called and never run.

    Raises:
        ConfigError: Its name is not free.
        TypeError: Its tasks would be closed as completed without a run.
    """
    check_labourer_name(cls.name)
    for name in (*BODY, *HOOKS):
        method = getattr(cls, name)
        if event_loop.yields(method):
            raise TypeError(f"labourer {cls.name!r}: expected {name} without `yield`: nobody would run what follows it")
        if name in HOOKS and event_loop.is_coroutine_function(method):
            raise TypeError(f"labourer {cls.name!r}: expected {name} without `async`: Celery does not await it")
    _names.add(cls.name)


def _made_later(_: Worker) -> None:
    """Stand in for `__init__` when Celery makes the object of a function."""
