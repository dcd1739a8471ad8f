"""The Celery tasks of the system itself: each is its sentence and one call."""

from __future__ import annotations

import random
from typing import Any

from celery import Task

from sosw_celery.celery import app
from sosw_celery.celery_fixes import signing
from sosw_celery.celery_fixes.reconnect import CallsOutliveConnection
from sosw_celery.core.isolation import each_by_itself
from sosw_celery.errors import StoreError
from sosw_celery.node import close_signals, shutdown
from sosw_celery.node.heartbeat import Heartbeat
from sosw_celery.node.lease_keeper import LeaseKeeper
from sosw_celery.node.limits import LimitKeeper
from sosw_celery.node.pool_keeper import PoolKeeper
from sosw_celery.services.alerts import TELL_LIMIT_S
from sosw_celery.services.worker_assistant import wait_after
from sosw_celery.system.loading import NeededCode
from sosw_celery.system.scheduler_task import scheduler_of
from sosw_celery.system.start_checks import StartChecks
from sosw_celery.wiring.container import (
    DISPATCH,
    DISPATCH_ALL,
    SWEEP,
    SWEEP_ALL,
    SWEEP_JOBS,
    TELL_OF_DEAD,
    WORKER_ASSISTANT,
    services_of,
)

__all__ = [
    "dispatch",
    "dispatch_all",
    "scheduler",
    "sweep",
    "sweep_all",
    "sweep_jobs",
    "tell_of_dead",
    "worker_assistant",
]

#: Importing the receivers connects them.
RECEIVERS = (shutdown, close_signals)

signing.sign_messages(app)

app.steps["worker"].update(
    (NeededCode, CallsOutliveConnection, LeaseKeeper, LimitKeeper, PoolKeeper, Heartbeat, StartChecks)
)

scheduler: Task[..., Any] = scheduler_of(app)

# Keyword arguments that a task does not know are a later version's, and passed over.


@app.task(name=DISPATCH)
def dispatch(labourer_id: str, from_head: bool = False, **_: Any) -> None:
    """Hand out a labourer's queued tasks until its slots are full or its queue is dry."""
    services = services_of(app)
    services.ecology.refresh([labourer_id])
    services.orchestrator.dispatch(labourer_id, from_head=from_head)


@app.task(name=DISPATCH_ALL)
def dispatch_all(**_: Any) -> None:
    """Have a dispatch made for every labourer that needs one, in case a message was lost."""
    services = services_of(app)
    with each_by_itself("safety net") as steps:
        with steps.step("health"):
            services.ecology.refresh()
        with steps.step("dispatches"):
            services.orchestrator.tend(services.settings.labourers)


@app.task(name=SWEEP)
def sweep(labourer_id: str, thorough: bool = False, **_: Any) -> None:
    """Bring a labourer's retries back, end its lost tasks and archive its completed ones."""
    services_of(app).scavenger.sweep(labourer_id, thorough=thorough)


@app.task(name=SWEEP_ALL)
def sweep_all(thorough: bool = False, **_: Any) -> None:
    """Have every labourer swept that has something to do."""
    services_of(app).scavenger.look(thorough=thorough)


@app.task(name=SWEEP_JOBS)
def sweep_jobs(**_: Any) -> None:
    """Finish jobs whose tasks are closed, and have unfinished ones gone on with."""
    services_of(app).scavenger.sweep_jobs()


@app.task(name=TELL_OF_DEAD, time_limit=TELL_LIMIT_S)
def tell_of_dead(**_: Any) -> None:
    """Tell those who want to know of the tasks that died since the last notice."""
    services_of(app).notices.tell()


@app.task(
    bind=True,
    name=WORKER_ASSISTANT,
    max_retries=None,
    # What is refused can be seen by who sent it; `send_task(...).get()` raises it.
    store_errors_even_if_ignored=True,
)
def worker_assistant(self: Task[..., Any], /, message: dict[str, Any], **_: Any) -> None:
    """Close an attempt for a worker that could not do so itself; try again where a store does not let it."""
    try:
        services_of(app).worker_assistant.handle(message)
    except StoreError as problem:
        wait_s = wait_after(problem, self.request.retries)
        if wait_s is None:
            raise
        raise self.retry(exc=problem, countdown=random.uniform(wait_s / 2, wait_s)) from problem
