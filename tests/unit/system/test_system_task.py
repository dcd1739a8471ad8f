"""Tasks of the system on an app that says much of its own tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from celery.utils.time import rate

from sosw_celery.names import QUEUES
from sosw_celery.system.system_task import LONGEST_RUN_S
from tests.apps import theirs


class Demanding(Task):  # type: ignore[type-arg]
    """What a project's tasks may be: bound to a tenant, slow, and often tried again."""

    rate_limit = "1/m"
    time_limit = 5
    serializer = "pickle"
    autoretry_for = (Exception,)

    def __call__(self, *args: Any, tenant: str, **kwargs: Any) -> Any:
        """Refuse to run for nobody."""
        return super().__call__(*args, **kwargs)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A project's app with a base class, annotations and limits for its tasks."""
    with theirs(monkeypatch, {"labourers": {}}, task_cls=Demanding) as app:
        app.conf.update(
            task_annotations={"*": {"rate_limit": "1/m", "time_limit": 2}}, task_time_limit=2, task_soft_time_limit=1
        )
        app.finalize()
        yield app


def test_what_an_app_asks_of_its_own_tasks_is_not_asked_of_the_systems(app: Celery) -> None:
    """A base class, annotations, a rate or a time limit would stop it: no task of any labourer would run."""
    tasks = [task for name, task in app.tasks.items() if name in QUEUES]
    assert len(tasks) == len(QUEUES)
    for task in tasks:
        assert not isinstance(task, Demanding), task.name
        assert not rate(task.rate_limit), task.name
        assert 10 < task.time_limit <= LONGEST_RUN_S, task.name
        assert task.soft_time_limit == task.time_limit, task.name
        assert task.acks_late, task.name

    @app.task(name="plain", shared=False)
    def plain() -> None: ...

    assert isinstance(plain, Demanding)
    assert (plain.rate_limit, plain.time_limit) == ("1/m", 2)


def test_a_rate_of_every_task_is_none_of_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """`task_default_rate_limit` holds for tasks that state none."""
    with theirs(monkeypatch, {"labourers": {}}) as app:
        app.conf.task_default_rate_limit = "1/m"
        app.finalize()
        assert not any(rate(task.rate_limit) for name, task in app.tasks.items() if name in QUEUES)
