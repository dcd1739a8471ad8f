"""Handing tasks out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.model import Hint

System = Any


def test_a_pass_hands_out_as_many_tasks_as_there_are_slots_oldest_first(system: System) -> None:
    """Two slots: the two oldest tasks, and no more however often a pass is made."""
    system.queue(5)
    assert system.orchestrator.dispatch("resize").hints == 2
    assert system.orchestrator.dispatch("resize").hints == 0
    assert system.orchestrator.dispatch("resize", from_head=True).hints == 0
    assert system.ids() == ["task-001", "task-002"]


def test_a_freed_slot_goes_to_the_next_task_in_the_queue(system: System) -> None:
    """When a task ends, a dispatch is sent, and the pass reads on from where the last one stopped."""
    system.queue(3)
    system.orchestrator.dispatch("resize")
    first, _ = system.begin_all()
    system.attempts.complete(first.attempt, first.outcome())
    assert system.dispatches == ["resize"]
    system.orchestrator.dispatch("resize")
    assert system.ids() == ["task-003"]


def test_a_burst_of_closes_asks_for_one_pass(system: System) -> None:
    """Only the first of several closes sends a dispatch; the pass serves them all."""
    system.queue(6)
    system.orchestrator.dispatch("resize")
    for run in system.begin_all():
        system.attempts.complete(run.attempt, run.outcome())
    assert system.dispatches == ["resize"]
    assert system.orchestrator.dispatch("resize").hints == 2


def test_a_row_behind_the_cursor_is_handed_out(system: System) -> None:
    """A sibling may write a row with an earlier greenfield after later ones were handed out: it is found."""
    late, *_ = system.queue(3)
    system.task_table.client.delete_item(TableName="sosw_tasks", Key={"task_id": {"S": late.task_id}})
    system.orchestrator.dispatch("resize")
    system.task_table.write([late])
    (run, _) = system.begin_all()
    system.attempts.complete(run.attempt, run.outcome())
    system.orchestrator.dispatch("resize")
    assert system.ids() == [late.task_id]


def test_hints_that_could_not_be_published_free_their_slots(system: System) -> None:
    """When the broker refuses, nothing is lost and the next pass hands the same tasks out."""
    system.queue(3)
    system.broker_error = ConnectionError("broker is away")
    with pytest.raises(ConnectionError):
        system.orchestrator.dispatch("resize")
    system.broker_error = None
    assert system.orchestrator.dispatch("resize").hints == 2
    assert system.ids() == ["task-001", "task-002"]


def test_an_empty_redis_is_rebuilt_before_anything_is_granted(make_system: Callable[..., System]) -> None:
    """After a flush running attempts have their slots again, and for a while nothing new starts."""
    system = make_system(settle_s=4)
    system.queue(5)
    system.orchestrator.dispatch("resize")
    assert len(system.begin_all()) == 2
    system.redis.flushall()
    assert system.orchestrator.dispatch("resize").hints == 0
    assert system.slots.look("resize").running == 2
    hint_under_way = Hint(system.task_table.find("task-003").task.next_attempt)
    assert system.attempts.begin(hint_under_way) is None


def test_an_empty_redis_with_nothing_running_grants_at_once(system: System) -> None:
    """A fresh start does not wait for nodes that cannot exist."""
    system.queue(1)
    assert system.orchestrator.dispatch("resize").hints == 1


def test_the_rate_limit_tells_when_the_next_pass_is_due(make_system: Callable[..., System]) -> None:
    """At 6 a minute the second task has to wait some ten seconds, and its slot is not taken."""
    system = make_system(labourers={"resize": {"max_simultaneous_invocations": 5, "rate_limit": "6/m"}})
    system.queue(3)
    dispatched = system.orchestrator.dispatch("resize")
    assert dispatched.hints == 1
    assert 9 < dispatched.again_after_s <= 10
    assert system.slots.look("resize").pending == 1


def test_the_safety_net_passes_over_a_queue_that_is_known_to_be_dry(system: System) -> None:
    """An idle labourer costs no read of the table, unless the look is a thorough one."""
    system.orchestrator.dispatch("resize")
    system.queue(1)  # behind Redis's back
    assert system.orchestrator.tend("resize", thorough=False).hints == 0
    assert system.orchestrator.tend("resize", thorough=True).hints == 1


@pytest.mark.parametrize(("depth", "kept"), [(2, True), (1, False)])
def test_slots_of_hints_are_kept_while_the_broker_has_them(
    make_system: Callable[..., System], depth: int, kept: bool
) -> None:
    """Hints that wait for a worker keep their slots; where the broker holds fewer, some are lost and all run out."""
    system = make_system(hint_lease_s=30)
    system.queue(2)
    system.orchestrator.dispatch("resize")
    for key in ("task-001/1", "task-002/1"):
        system.redis.zincrby("sosw:{resize}:pending", -20_000, key)  # 20 of 30 seconds have gone by
    system.depth = depth
    system.orchestrator.tend("resize", thorough=False)
    pending, _ = system.slots.holders("resize")
    assert all((left > 15) is kept for left in pending.values())
