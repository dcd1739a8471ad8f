"""The Celery tasks of the system itself: each is its sentence and one call."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.local import Proxy

from sosw_celery.celery import current
from sosw_celery.core.isolation import each_by_itself
from sosw_celery.errors import StoreError
from sosw_celery.names import (
    DISPATCH,
    DISPATCH_ALL,
    SWEEP,
    SWEEP_ALL,
    SWEEP_JOBS,
    TELL_OF_DEAD,
    WORKER_ASSISTANT,
    check_task_name,
)
from sosw_celery.services.alerts import TELL_LIMIT_S
from sosw_celery.services.worker_assistant import wait_after
from sosw_celery.system.scheduler_task import scheduler_of
from sosw_celery.system.system_task import SystemTask
from sosw_celery.wiring.container import services_of

__all__ = ["TASKS", "add_tasks", "scheduler"]

#: `scheduler.delay(job)`: that of the app which is meant when it is called.
scheduler: Any = Proxy(lambda: scheduler_of(current()))

# Keyword arguments that a task does not know are a later version's, and passed over.


def dispatch(task: Task[..., Any], /, labourer_id: str, from_head: bool = False, **_: Any) -> None:
    """Hand out a labourer's queued tasks until its slots are full or its queue is dry."""
    services = services_of(task.app)
    services.ecology.refresh([labourer_id])
    services.orchestrator.dispatch(labourer_id, from_head=from_head)


def dispatch_all(task: Task[..., Any], /, **_: Any) -> None:
    """Have a dispatch made for every labourer that needs one, in case a message was lost."""
    services = services_of(task.app)
    with each_by_itself("safety net") as steps:
        with steps.step("health"):
            services.ecology.refresh()
        with steps.step("dispatches"):
            services.orchestrator.tend(services.settings.labourers)


def sweep(task: Task[..., Any], /, labourer_id: str, thorough: bool = False, **_: Any) -> None:
    """Bring a labourer's retries back, end its lost tasks and archive its completed ones."""
    services_of(task.app).scavenger.sweep(labourer_id, thorough=thorough)


def sweep_all(task: Task[..., Any], /, thorough: bool = False, **_: Any) -> None:
    """Have every labourer swept that has something to do."""
    services_of(task.app).scavenger.look(thorough=thorough)


def sweep_jobs(task: Task[..., Any], /, **_: Any) -> None:
    """Finish jobs whose tasks are closed, and have unfinished ones gone on with."""
    services_of(task.app).scavenger.sweep_jobs()


def tell_of_dead(task: Task[..., Any], /, **_: Any) -> None:
    """Tell those who want to know of the tasks that died since the last notice."""
    services_of(task.app).notices.tell()


def worker_assistant(task: Task[..., Any], /, message: dict[str, Any], **_: Any) -> None:
    """Close an attempt for a worker that could not do so itself; try again where a store does not let it."""
    try:
        services_of(task.app).worker_assistant.handle(message)
    except StoreError as problem:
        wait_s = wait_after(problem, task.request.retries)
        if wait_s is None:
            raise
        raise task.retry(exc=problem, countdown=random.uniform(wait_s / 2, wait_s)) from problem


#: Name -> what it does, and its own options.
TASKS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    DISPATCH: (dispatch, {}),
    DISPATCH_ALL: (dispatch_all, {}),
    SWEEP: (sweep, {}),
    SWEEP_ALL: (sweep_all, {}),
    SWEEP_JOBS: (sweep_jobs, {}),
    TELL_OF_DEAD: (tell_of_dead, {"time_limit": TELL_LIMIT_S, "soft_time_limit": TELL_LIMIT_S}),
    # What is refused can be seen by who sent it; `send_task(...).get()` raises it.
    WORKER_ASSISTANT: (worker_assistant, {"max_retries": None, "store_errors_even_if_ignored": True}),
}


def add_tasks(app: Celery) -> None:
    """Register the tasks of the system on an app, and on no other one.

    Raises:
        ConfigError: The app has another task of such a name: one that it had before the system, or a shared one.
    """
    scheduler_of(app)
    for name, (run, options) in TASKS.items():
        if not isinstance(app.tasks.get(name), SystemTask | None):
            check_task_name(name)
        make: Any = app.task(name=name, bind=True, base=SystemTask, shared=False, lazy=False, **options)
        make(run)
