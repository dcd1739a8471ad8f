"""Names that no labourer may have."""

from __future__ import annotations

import pytest

from sosw_celery import Worker
from sosw_celery import app as sosw_app
from sosw_celery.names import QUEUES, is_reserved


@pytest.mark.parametrize("name", [*QUEUES, *QUEUES.values(), "sosw.new", "celery", "celery.map", "unacked_index"])
def test_names_of_tasks_and_queues_are_reserved(name: str) -> None:
    """Ours, Celery's, and the keys beside which the broker keeps a queue."""
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["resize", "sosw", "sosw_report", "scheduler2", "Scheduler", "celery_report"])
def test_other_names_are_free(name: str) -> None:
    """Whatever they look like."""
    assert not is_reserved(name)


def test_every_task_of_the_system_is_reserved() -> None:
    """So a new one is noticed."""
    homes = ("sosw_celery", "celery")  # other tests may have registered tasks of their own
    system = [
        name
        for name, task in sosw_app.tasks.items()
        if not isinstance(task, Worker) and type(task).__module__.partition(".")[0] in homes
    ]
    assert {"scheduler", "sosw.sweep_jobs", "celery.chain"} <= set(system)
    assert [name for name in system if not is_reserved(name)] == []
