"""The base of labourers: a Celery task whose runs are claimed from the task table and closed by Celery's signals.

A labourer's `name` is its `labourer_id`, the name of its queue and of its Celery task. Two forms:

    @app.task(base=Worker, name="resize")
    def resize(event): ...

    class Resize(Worker):
        name = "resize"
        def __call__(self, event):
            self.stats["images"] += 1
            super().__call__(event)

The message of a run is only a hint. Before the body starts, the hint is exchanged for a slot, the slot for a claim,
and the claim brings the event: the task's payload. What the body counts in `self.stats` and finds in `self.result`,
and what it returns, stays on the task's row. An exception ends the attempt as failed; `RetryLater` or
`self.retry(...)` choose when the next one starts.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore

from sosw_celery.celery import app as sosw_app
from sosw_celery.core.model import Hint
from sosw_celery.errors import RetryLater, StoreUnavailable
from sosw_celery.leases import watchdog
from sosw_celery.services.attempts import Run, describe
from sosw_celery.services.meta_handler import OwnMeta
from sosw_celery.wiring import SCHEDULER, services_of

if TYPE_CHECKING:
    CeleryTask = Task[..., Any]
else:
    CeleryTask = Task

__all__ = ["Worker", "run_of"]

logger = logging.getLogger(__name__)

#: Attribute of a Celery request that keeps the run: requests are kept per thread, task objects are not.
RUN = "sosw_run"


def run_of(request: Any) -> Run | None:
    """Return the run that a Celery request carries: None before its claim, and in the worker's main process."""
    run = vars(request).get(RUN) if request is not None else None
    return run if isinstance(run, Run) else None


class Worker(CeleryTask):
    """Base class of labourers, for functions and for classes with `__call__`. See the module's text."""

    abstract = True
    acks_late = True
    ignore_result = True
    reject_on_worker_lost = False
    #: A wanted retry is logged in one line, without a traceback.
    throws = (RetryLater,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register a labourer that is written as a class; one made by the decorator registers itself."""
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if own.get("_decorated") or own.get("abstract") or not own.get("name"):
            return
        if cls.__call__ is Task.__call__ and cls.run is Worker.run:
            raise TypeError(f"labourer {cls.name!r}: expected a method __call__(self, event) or run(self, event)")
        cls.abstract = False
        sosw_app.register_task(cls)

    # ---- what the labourer's code uses

    @property
    def stats(self) -> defaultdict[str, Any]:
        """Counters of this run, 0 until set; kept on the task's row as `stat_NAME`."""
        return self._run_now().stats

    @property
    def result(self) -> dict[str, Any]:
        """What this run found; kept on the task's row as `result_NAME`."""
        return self._run_now().result

    @property
    def meta_handler(self) -> OwnMeta:
        """The history of the running task: `self.meta_handler.post(action="resized", size=9)` adds to it.

        Always there; nothing is kept where `meta_handler_config` is not configured, or outside of a worker process.
        """
        run = run_of(self.request)
        return OwnMeta(None, None) if run is None else OwnMeta(services_of(self.app).meta_handler, run.attempt)

    def run(self, event: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Do nothing: the end of `super().__call__(event)` in a class with `__call__`, as in sosw."""

    def retry(  # type: ignore[override]
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> RetryLater:
        """End this attempt and have the task tried again, as Celery's `retry` does, but through the task table.

        Parameters:
            countdown: Seconds until the retry; None leaves it to the labourer's backoff. `eta`, a datetime, likewise.
            max_retries: Raises `exc` instead when that many retries have been made; the labourer's `max_attempts`
                holds in any case.

        Raises:
            RetryLater: Always, unless `throw` is false; then it is returned, for the caller to raise.
        """
        run = run_of(self.request)
        if exc is not None and max_retries is not None and run is not None and run.task.attempts > max_retries:
            raise exc
        if countdown is None and eta is not None:
            countdown = max(0.0, (eta - self.app.now()).total_seconds())
        later = RetryLater(countdown, "the worker asked for a retry" if exc is None else describe(exc))
        if throw:
            raise later from exc
        return later

    # ---- how a message becomes a run

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Exchange the hint for the event, or drop it. An own `before_start` has to call this one first."""
        hint = Hint.from_message(args[0]) if len(args) == 1 else None
        if hint is None or hint.attempt.labourer_id != self.name:
            logger.error("message dropped: labourer %s takes tasks from the task table, by hints", self.name)
            raise Ignore
        run = self._begin(hint)
        setattr(self.request, RUN, run)
        try:
            event = run.event()
        except ValueError as problem:
            services_of(self.app).attempts.bury(run.attempt, f"the payload cannot be read: {problem}")
            delattr(self.request, RUN)
            raise Ignore from problem
        watchdog.watch(run.attempt.holder)
        args[:] = [event]

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Submit the event as a job of this labourer, so that `delay(event)` is counted, capped and kept as well."""
        event = args[0] if args else {}
        job = {**event, "lambda_name": self.name}
        return self.app.tasks[SCHEDULER].apply_async(args=(job,), **options)

    def _begin(self, hint: Hint) -> Run:
        try:
            run = services_of(self.app).attempts.begin(hint)
        except StoreUnavailable as problem:
            logger.warning("hint dropped, the task is found again: %s", problem, extra={"holder": hint.attempt.holder})
            raise Ignore from problem
        if run is None:
            raise Ignore
        return run

    def _run_now(self) -> Run:
        """Return the run under way; one of its own where the labourer is called directly, as in its unit tests."""
        run = run_of(self.request)
        if run is None:
            run = vars(self).setdefault("_direct_run", _DirectRun())
        return run


class _DirectRun(Run):
    """Stats and results of calls outside a worker process; there is no task behind them."""

    def __init__(self) -> None:
        super().__init__(task=None)  # type: ignore[arg-type]
