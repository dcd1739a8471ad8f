"""How hints come to workers that cannot claim their tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Attempt, Hint
from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.redis.slots import Limits

System = Any


@pytest.fixture
def system(make_system: Callable[..., System]) -> System:
    """A system whose labourer `resize` has two slots and closes through the assistant."""
    return make_system(labourers={"resize": {"max_simultaneous_invocations": 2, "close_through": "assistant"}})


def used(system: System) -> tuple[int, int]:
    """Return how many slots are pending and running."""
    usage = system.slots.look("resize")
    return usage.pending, usage.running


def test_a_task_that_somebody_else_has_is_not_handed_out(system: System) -> None:
    """Its slot is free again, and the others are published."""
    tasks = system.queue(2)
    system.task_table.claim(tasks[0].next_attempt, now=system.now, node="other")
    holders = [(task.next_attempt.holder, task.greenfield) for task in tasks]
    system.orchestrator.dispatch("no such labourer")
    system.slots.rebuild("resize", [], limits=Limits(2), lease_s=20, settle_s=0)
    system.slots.take("resize", holders, lease_s=6)
    system.hint_publisher.publish([Hint(task.next_attempt) for task in tasks])
    assert system.ids() == ["task-002"]
    assert used(system) == (1, 0)


def test_what_is_claimed_is_published_though_the_tables_stop_answering(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest gives its slots back and stays queued."""
    claim = system.task_table.claim

    def claim_one(attempt: Attempt, **more: Any) -> Any:
        if attempt.task_id != "task-001":
            raise StoreUnavailable("dynamodb", "UpdateItem")
        return claim(attempt, **more)

    monkeypatch.setattr(system.task_table, "claim", claim_one)
    system.queue(2)
    system.orchestrator.dispatch("resize")
    assert system.ids() == ["task-001"]
    assert used(system) == (1, 0)
    assert system.task_table.find("task-002").task.attempts == 0
