"""Sweeping up behind workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from sosw_celery.errors import StoreUnavailable
from sosw_celery.services.scavenger import CLOCKS_DIFFER_S, IDLE_LOOK_S
from sosw_celery.stores.idle_mark import IdleMark
from sosw_celery.stores.slots import Released

System = Any


def running(system: System, count: int = 1, **fields: Any) -> list[Any]:
    """Return the runs of so many tasks that were handed out and claimed."""
    system.queue(count, **fields)
    system.orchestrator.dispatch("resize")
    runs: list[Any] = system.begin_all()
    assert len(runs) == count
    return runs


def test_completed_tasks_are_archived_and_their_job_ends(system: System) -> None:
    """A sweep moves what is completed to the closed table, counts it, and ends the job with its last task."""
    system.job_of("job-1", 2)
    for run in running(system, 2, job_id="job-1"):
        system.attempts.complete(run.attempt, run.outcome())
    system.scavenger.sweep("resize")
    summary = system.job_table.get("job-1")
    assert (summary.state.value, summary.completed, summary.dead) == ("completed", 2, 0)
    assert system.task_table.find("task-002").where == "closed"
    system.scavenger.sweep("resize", thorough=True)
    assert system.job_table.get("job-1").completed == 2


def test_a_task_that_is_closed_and_keeps_its_slot_is_archived(system: System) -> None:
    """Its body goes on, for hours perhaps: the next sweep does not wait for that."""
    (run,) = running(system)
    system.scavenger.sweep("resize")
    system.attempts.complete(run.attempt, run.outcome(), keep_slot=True)
    system.scavenger.sweep("resize")
    assert system.task_table.find("task-001").where == "closed"
    assert system.slots.look("resize").running == 1


def test_a_burst_of_closes_asks_for_a_sweep(system: System) -> None:
    """Every so many closes a sweep is sent, without waiting for beat."""
    for _ in range(5):
        for run in running(system):
            system.attempts.complete(run.attempt, run.outcome())
    assert system.sweeps == ["resize"]


def test_a_task_whose_lease_is_gone_is_lost_and_tried_again(system: System) -> None:
    """When a node died, its attempt fails as lost and the task waits for its retry."""
    (run,) = running(system)
    system.redis.zrem("sosw:{resize}:running", run.attempt.holder)
    system.scavenger.sweep("resize", thorough=True)
    found = system.task_table.find("task-001", ["resize"])
    assert found.where == "retry"
    assert found.task.extra["last_error"] == "Lost: the lease of attempt 1 ended"


def test_a_task_that_runs_keeps_running(system: System) -> None:
    """A sweep leaves an attempt with a lease alone."""
    (run,) = running(system)
    system.scavenger.sweep("resize", thorough=True)
    system.attempts.complete(run.attempt, run.outcome())
    assert system.task_table.find("task-001").task.completed_at == system.now


def test_nothing_is_lost_while_redis_comes_back(make_system: Callable[..., System]) -> None:
    """After a flush no attempt counts as lost before its node could report it."""
    system = make_system(settle_s=4)
    running(system)
    system.redis.flushall()
    system.scavenger.sweep("resize", thorough=True)
    system.orchestrator.dispatch("resize")
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001").where == "tasks"


def test_a_task_that_outlived_its_time_expires(make_system: Callable[..., System]) -> None:
    """An attempt that nobody closed within its getting ready, duration and cooldown fails, whatever its lease says."""
    system = make_system(labourers={"resize": {"duration": 60, "cooldown": 30}})
    running(system)
    system.now += 389 + CLOCKS_DIFFER_S
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001").where == "tasks"
    system.now += 2
    system.scavenger.sweep("resize", thorough=True)
    error = system.task_table.find("task-001", ["resize"]).task.extra["last_error"]
    assert error == "Expired: attempt 1 was not closed within 390 s"
    assert system.slots.look("resize").running == 0


@pytest.mark.parametrize("off_s", [-300, 300])
def test_a_claim_of_a_node_with_a_wrong_clock_does_not_expire(make_system: Callable[..., System], off_s: int) -> None:
    """An attempt runs for its whole duration, also if who claimed it is five minutes slow or fast."""
    system = make_system(labourers={"resize": {"duration": 60, "cooldown": 30}})
    system.now += off_s
    running(system)
    system.now += 60 - off_s
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001").where == "tasks"
    assert system.slots.look("resize").running == 1


def test_due_retries_are_handed_out_before_newer_tasks(system: System) -> None:
    """A retry that is due goes to the head of the queue, and a dispatch is sent."""
    run, *_ = running(system, 2)
    system.scavenger.sweep("resize")  # the first one looks at everything
    system.attempts.fail(run.attempt, ValueError("broken"))
    system.task_table.write([dataclasses.replace(run.task, task_id="task-newer", greenfield=system.now, attempts=0)])
    system.dispatches.clear()
    system.slots.begin_pass("resize", limit=2, lease_s=60)  # the pass that the failure asked for
    system.now += 2
    system.scavenger.sweep("resize")
    assert system.dispatches == ["resize"]
    system.orchestrator.dispatch("resize")
    assert system.ids()[0] == "task-001"


def test_a_job_with_open_tasks_and_none_running_has_its_queue_read(system: System) -> None:
    """Rows that were never announced do not wait for the minute's thorough pass, also where the queue is called dry."""
    system.orchestrator.dispatch("resize")
    system.now += 10
    assert system.slots.look("resize").dry
    system.job_of("job-1", 1)
    system.queue(1, job_id="job-1")
    system.orchestrator.tend("resize")
    assert system.hints == []
    system.scavenger.sweep_jobs()
    assert system.dispatches == ["resize"]
    system.orchestrator.dispatch("resize")
    (run,) = system.begin_all()
    system.scavenger.sweep_jobs()
    assert system.dispatches == ["resize"]
    system.attempts.complete(run.attempt, run.outcome())
    system.scavenger.sweep("resize", thorough=True)
    system.dispatches.clear()
    system.scavenger.sweep_jobs()
    assert system.dispatches == []


def test_an_open_task_that_nothing_explains_is_looked_for_everywhere(system: System) -> None:
    """Its attempt lost its lease and nobody counted that: the sweep of jobs finds it."""
    system.job_of("job-1", 1)
    (run,) = running(system, 1, job_id="job-1")
    system.scavenger.sweep("resize")
    system.redis.zrem("sosw:{resize}:running", run.attempt.holder)
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001").where == "tasks"
    system.scavenger.sweep_jobs()
    assert system.task_table.find("task-001", ["resize"]).where == "retry"
    calls = reads_of(system)
    system.scavenger.sweep_jobs()
    assert calls == ["Query", "GetItem"], "of the job alone: a known retry explains why its task is open"


def reads_of(system: System) -> list[str]:
    """Return a list that takes the name of each call of the tables from now on."""
    calls: list[str] = []
    system.task_table.client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    return calls


def test_an_idle_labourer_costs_no_read(system: System) -> None:
    """Without closes, running attempts or due retries a sweep does not ask the tables, a thorough one neither."""
    system.scavenger.sweep("resize")
    calls = reads_of(system)
    system.dispatches.clear()
    system.scavenger.sweep("resize")
    system.scavenger.sweep("resize", thorough=True)
    assert (calls, system.dispatches) == ([], [])


def test_an_idle_labourer_is_looked_at_now_and_then(system: System) -> None:
    """Whatever Redis does not know of is found within minutes: rows in the queue and due retries as well."""
    system.scavenger.sweep("resize")
    system.queue(1)
    long_ago = int(system.redis.hget("sosw:{resize}:state", "full_sweep_at")) - 1000 * IDLE_LOOK_S
    system.redis.hset("sosw:{resize}:state", "full_sweep_at", long_ago)
    system.dispatches.clear()
    calls = reads_of(system)
    system.scavenger.sweep("resize", thorough=True)
    assert (calls, system.dispatches) == (["Query", "Query"], ["resize"])


def test_retries_are_known_again_after_redis_came_back_empty(system: System) -> None:
    """The first sweep after a flush reads what waits for a retry."""
    (run,) = running(system)
    system.attempts.fail(run.attempt, ValueError("broken"))
    system.redis.flushall()
    system.now += 2
    system.scavenger.sweep("resize")
    assert system.task_table.find("task-001").where == "tasks"


def test_a_retry_that_redis_was_not_told_of_is_found(system: System) -> None:
    """A failure that was written while Redis was away is written again, and then its retry becomes known."""
    (run,) = running(system)
    system.scavenger.sweep("resize")
    with pytest.MonkeyPatch.context() as patch:
        down = StoreUnavailable("redis", "note_retry", "down")
        patch.setattr(system.slots, "note_retry", mock.Mock(side_effect=down))
        with pytest.raises(StoreUnavailable):
            system.attempts.fail(run.attempt, ValueError("broken"))
    assert system.attempts.fail(run.attempt, ValueError("broken")) is None
    system.now += 2
    system.scavenger.sweep("resize")
    assert system.task_table.find("task-001").where == "tasks"


def test_a_retry_of_whom_nobody_lives_to_tell_is_found(system: System) -> None:
    """When the lease of an attempt runs out, waiting retries are looked at as well: its worker may have written one."""
    (run,) = running(system)
    system.scavenger.sweep("resize")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system.slots, "note_retry", lambda *_: None)
        patch.setattr(system.slots, "release", lambda *_, **__: Released(True, False, False, ()))
        system.attempts.fail(run.attempt, ValueError("broken"))
    system.redis.zadd("sosw:{resize}:running", {run.attempt.holder: 1})
    system.now += 2
    system.scavenger.sweep("resize")
    assert system.task_table.find("task-001").where == "tasks"


def test_a_lost_hint_of_a_claimed_task_is_noticed(system: System) -> None:
    """A pending lease that runs out has the claimed tasks looked at."""
    system.scavenger.sweep("resize")
    system.queue(1)
    system.orchestrator.dispatch("resize")
    (hint,) = system.hints
    system.redis.zadd("sosw:{resize}:pending", {hint.attempt.holder: 1})
    calls = reads_of(system)
    system.scavenger.sweep("resize")
    assert "Query" in calls


def test_a_system_without_unfinished_jobs_costs_no_read(system: System) -> None:
    """Once no job was found, none is looked for until one has begun."""
    system.scavenger.sweep_jobs()
    calls = reads_of(system)
    system.scavenger.sweep_jobs()
    assert calls == []
    IdleMark(system.redis, prefix="sosw").clear()
    system.scavenger.sweep_jobs()
    assert calls == ["Query", "Query"]
    system.job_of("job-1", 1)
    IdleMark(system.redis, prefix="sosw").clear()
    for _ in range(2):
        calls.clear()
        system.scavenger.sweep_jobs()
        assert "Query" in calls


def test_the_mark_that_no_job_is_unfinished_runs_out(make_system: Callable[..., System]) -> None:
    """A job whose message was lost, in a system that did nothing else, is found after six sweeps' time."""
    system = make_system(sweep_jobs_s=10)
    system.scavenger.sweep_jobs()
    assert 59 < system.redis.pttl("sosw:no_unfinished_jobs") / 1000 <= 60
