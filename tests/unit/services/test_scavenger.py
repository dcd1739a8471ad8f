"""Sweeping up behind workers."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest

from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import StoreUnavailable
from sosw_celery.services import scavenger
from sosw_celery.services.scavenger import CLOCKS_DIFFER_S, IDLE_LOOK_S
from sosw_celery.stores.dynamodb.task_rows import to_item
from sosw_celery.stores.redis.idle_flag import IdleFlag
from sosw_celery.stores.redis.slots import Limits, Released
from sosw_celery.stores.redis.turns import Turns

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
    assert system.sweeps == [("resize", False)]


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


def test_nothing_expires_because_the_clock_of_redis_jumped(make_system: Callable[..., System]) -> None:
    """An attempt that is ended for its age has to be old by the clock of the sweeping node, too."""
    system = make_system(labourers={"resize": {"duration": 60, "cooldown": 30}})
    running(system)
    system.shared_clock_off_s = 10_000
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001").where == "tasks"
    system.now += 10_000
    system.scavenger.sweep("resize", thorough=True)
    assert system.task_table.find("task-001", ["resize"]).where == "retry"


def test_due_retries_are_handed_out_before_newer_tasks(system: System) -> None:
    """A retry that is due goes to the head of the queue, and a dispatch is sent."""
    run, *_ = running(system, 2)
    system.scavenger.sweep("resize")  # the first one looks at everything
    system.attempts.fail(run.attempt, ValueError("broken"))
    system.task_table.write([dataclasses.replace(run.task, task_id="task-newer", greenfield=system.now, attempts=0)])
    system.dispatches.clear()
    system.slots.begin_pass("resize", limits=Limits(2), lease_s=60)  # the pass that the failure asked for
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
    system.tend()
    assert system.hints == []
    system.scavenger.sweep_jobs()
    system.make_sweeps()
    assert system.dispatches == ["resize"]
    system.orchestrator.dispatch("resize")
    (run,) = system.begin_all()
    system.scavenger.sweep_jobs()
    assert (system.sweeps, system.dispatches) == ([], ["resize"])
    system.attempts.complete(run.attempt, run.outcome())
    system.scavenger.sweep("resize", thorough=True)
    system.dispatches.clear()
    system.scavenger.sweep_jobs()
    assert (system.sweeps, system.dispatches) == ([], [])


def test_an_open_task_that_nothing_explains_is_looked_for_everywhere(system: System) -> None:
    """Its attempt lost its lease and nobody counted that: the sweep of jobs finds it."""
    system.job_of("job-1", 1)
    (run,) = running(system, 1, job_id="job-1")
    system.scavenger.sweep("resize")
    system.redis.zrem("sosw:{resize}:running", run.attempt.holder)
    system.scavenger.look(thorough=True)
    assert system.sweeps == []
    system.scavenger.sweep_jobs()
    assert system.sweeps == [("resize", True)]
    system.make_sweeps()
    assert system.task_table.find("task-001", ["resize"]).where == "retry"
    calls = reads_of(system)
    system.scavenger.sweep_jobs()
    assert calls == ["Query", "Query", "Query", "BatchGetItem"], (
        "of the job alone: a known retry explains why its task is open"
    )


def reads_of(system: System) -> list[str]:
    """Return a list that takes the name of each call of the tables from now on."""
    calls: list[str] = []
    system.task_table.client.meta.events.register("before-call.dynamodb", lambda model, **_: calls.append(model.name))
    return calls


def test_an_idle_labourer_costs_no_read(system: System) -> None:
    """Without closes, running attempts or due retries nobody is asked for a sweep, a thorough one neither."""
    system.sweep()
    calls = reads_of(system)
    system.dispatches.clear()
    system.scavenger.look()
    system.scavenger.look(thorough=True)
    system.scavenger.sweep("resize")
    assert (calls, system.sweeps, system.dispatches) == ([], [], [])


def test_an_idle_labourer_is_looked_at_now_and_then(system: System) -> None:
    """Whatever Redis does not know of is found within minutes: rows in the queue and due retries as well."""
    system.scavenger.sweep("resize")
    system.queue(1)
    long_ago = int(system.redis.hget("sosw:{resize}:state", "full_sweep_at")) - 1000 * IDLE_LOOK_S
    system.redis.hset("sosw:{resize}:state", "full_sweep_at", long_ago)
    system.dispatches.clear()
    calls = reads_of(system)
    system.scavenger.look()
    assert system.sweeps == []
    system.scavenger.look(thorough=True)
    system.make_sweeps()
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
    IdleFlag(system.redis, prefix="sosw").clear()
    system.scavenger.sweep_jobs()
    assert calls == ["Query", "Query", "Query"]
    system.job_of("job-1", 1)
    IdleFlag(system.redis, prefix="sosw").clear()
    for _ in range(2):
        calls.clear()
        system.scavenger.sweep_jobs()
        assert "Query" in calls


def test_the_mark_that_no_job_is_unfinished_runs_out(make_system: Callable[..., System]) -> None:
    """A job whose message was lost, in a system that did nothing else, is found after six sweeps' time."""
    system = make_system(sweep_jobs_s=10)
    system.scavenger.sweep_jobs()
    assert 59 < system.redis.pttl("sosw:no_unfinished_jobs") / 1000 <= 60


# ---- one that fails, or has very much to do, and the others


def labourers(make_system: Callable[..., System], count: int = 4) -> System:
    """Return a system of so many labourers, each with one completed task and one whose lease is gone."""
    names = [f"resize-{number}" for number in range(count)]
    system = make_system(labourers={name: {"max_simultaneous_invocations": 2} for name in names})
    for name in names:
        system.scavenger.sweep(name)
        tasks = [
            Task(f"{name}-{number}", name, system.now - number, system.now, attempts=0, payload="{}")
            for number in range(2)
        ]
        system.task_table.write(tasks)
        system.orchestrator.dispatch(name)
        done, lost = system.begin_all()
        system.attempts.complete(done.attempt, done.outcome())
        system.redis.zadd(f"sosw:{{{name}}}:running", {lost.attempt.holder: 1})
    return system


def throttle(system: System, monkeypatch: pytest.MonkeyPatch, labourer_id: str) -> None:
    """Have every look into the tables fail that is about a labourer."""
    whole = system.task_table.running

    def running(name: str, **options: Any) -> Any:
        if name == labourer_id:
            raise StoreUnavailable("dynamodb", "Query", "ThrottlingException")
        return whole(name, **options)

    monkeypatch.setattr(system.task_table, "running", running)


def test_a_labourer_whose_tables_are_throttled_holds_up_no_other(
    make_system: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the others gets its sweep, whatever their order; the throttled one is left alone for seconds."""
    system = labourers(make_system)
    throttle(system, monkeypatch, "resize-1")
    system.scavenger.look()
    assert system.sweeps == [(f"resize-{number}", False) for number in range(4)]
    for name, thorough in system.sweeps:
        with pytest.raises(StoreUnavailable) if name == "resize-1" else nullcontext():
            system.scavenger.sweep(name, thorough=thorough)
    system.sweeps.clear()
    for number in (0, 2, 3):
        assert system.task_table.find(f"resize-{number}-1").where == "closed"
        assert system.task_table.find(f"resize-{number}-0", [f"resize-{number}"]).where == "retry"
    system.scavenger.look()
    assert "resize-1" not in dict(system.sweeps)
    monkeypatch.undo()
    system.redis.delete("sosw:turn:resize-1")  # some seconds later
    system.sweep()
    assert system.task_table.find("resize-1-0", ["resize-1"]).where == "retry"


def test_a_look_at_labourers_reads_no_table_and_asks_for_each_once(make_system: Callable[..., System]) -> None:
    """While a sweep is asked for, or under way, no other one is: looks that piled up do not sweep again and again."""
    system = labourers(make_system, 2)
    calls = reads_of(system)
    for _ in range(3):
        system.scavenger.look()
    assert system.sweeps == [("resize-0", False), ("resize-1", False)]
    turn = Turns(system.redis, prefix="sosw").begin("resize-0", 20)
    system.scavenger.look()
    system.scavenger.sweep("resize-0")
    assert (calls, len(system.sweeps)) == ([], 2)
    assert turn is not None
    Turns(system.redis, prefix="sosw").end(turn)
    system.make_sweeps()
    system.scavenger.look()
    system.scavenger.look()
    assert system.sweeps == [("resize-0", False), ("resize-1", False)], "of the ends of the lost ones"
    system.make_sweeps()
    system.scavenger.look()
    assert system.sweeps == []


def test_a_message_that_cannot_be_sent_keeps_no_other_from_being_sent(make_system: Callable[..., System]) -> None:
    """It is asked for again by the next look."""
    system = labourers(make_system, 3)
    whole = system.request_sweep

    def request(labourer_id: str, *, thorough: bool) -> None:
        if labourer_id == "resize-1":
            raise OSError("no broker")
        whole(labourer_id, thorough=thorough)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "request_sweep", request)
        with pytest.raises(OSError, match="no broker"):
            system.scavenger.look()
    system.scavenger.look()
    assert system.sweeps == [("resize-0", False), ("resize-2", False), ("resize-1", False)]


def test_a_sweep_ends_in_time_and_what_is_left_is_asked_for_again(
    make_system: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost tasks and retries come first; of the archive as much is done as there is time for, and nothing forgotten."""
    system = make_system(labourers={"resize": {"max_simultaneous_invocations": 7}})
    monkeypatch.setattr(scavenger, "SWEEP_BATCH", 2)
    system.scavenger.sweep("resize")
    *done, lost, failed = running(system, 7)
    for run in done:
        system.attempts.complete(run.attempt, run.outcome())
    system.redis.zadd("sosw:{resize}:running", {lost.attempt.holder: 1})
    system.attempts.fail(failed.attempt, ValueError("broken"))
    system.now += 2
    archive = system.task_table.archive

    def take_long(*args: Any, **options: Any) -> int:
        system.monotonic += 6
        return int(archive(*args, **options))

    monkeypatch.setattr(system.task_table, "archive", take_long)
    system.sweeps.clear()  # of the ends
    system.scavenger.sweep("resize")
    where = [system.task_table.find(f"task-00{number}", ["resize"]).where for number in range(1, 8)]
    assert where == ["closed", "closed", "tasks", "tasks", "tasks", "retry", "tasks"]
    assert system.task_table.find("task-007").task.greenfield < system.now - 300_000_000, "it is at the head again"
    assert system.sweeps == [("resize", False)]
    system.sweeps.clear()  # the message is lost
    system.redis.delete("sosw:turn:resize")  # and a minute later
    system.sweep()
    assert [task.task_id for task in system.task_table.closed("resize", status=1)] == [
        f"task-00{number}" for number in range(1, 6)
    ]
    system.scavenger.look()
    assert system.sweeps == []


def test_more_retries_than_one_batch_come_back_in_one_sweep(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch by batch as long as there is time; the rest with the next sweep, which is asked for."""
    monkeypatch.setattr(scavenger, "RETRY_BATCH", 2)
    system.scavenger.sweep("resize")
    for number in range(7):
        task = Task(f"task-{number}", "resize", system.now, system.now, attempts=1, desired_launch_time=system.now)
        system.task_table.client.put_item(
            TableName=system.task_table.tables.retry, Item=to_item(task, system.task_table.tables)
        )
    system.slots.note_retry("resize", system.now)
    due = system.task_table.due

    def take_long(*args: Any, **options: Any) -> Any:
        system.monotonic += 2
        return due(*args, **options)

    monkeypatch.setattr(system.task_table, "due", take_long)
    system.scavenger.sweep("resize")
    assert system.task_table.count_queued("resize", now=system.now) == 6
    assert system.sweeps == [("resize", False)]
    system.make_sweeps()
    assert system.task_table.count_queued("resize", now=system.now) == 7
    assert system.slots.begin_sweep("resize").next_retry_at is None


def test_a_lost_task_that_cannot_be_ended_stops_no_other_one(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are lost all the same, what is completed is archived, and the error is raised once."""
    (first, second) = running(system, 2)
    for run in (first, second):
        system.redis.zadd("sosw:{resize}:running", {run.attempt.holder: 1})
    fail = system.attempts.fail

    def odd(attempt: Any, *args: Any) -> Any:
        if attempt == first.attempt:
            raise RuntimeError("odd")
        return fail(attempt, *args)

    monkeypatch.setattr(system.attempts, "fail", odd)
    with pytest.raises(RuntimeError, match="odd"):
        system.scavenger.sweep("resize")
    assert system.task_table.find("task-001").where == "tasks"
    assert system.task_table.find("task-002", ["resize"]).where == "retry"


def test_a_job_that_fails_stops_no_other_one(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs behind it are finished and gone on with, and the error is raised once."""
    for name in ("a", "b", "c"):
        system.job_of(f"job-{name}", 1)
        system.job_table.client.update_item(
            TableName="sosw_jobs",
            Key={"job_id": {"S": f"job-{name}"}},
            UpdateExpression="SET completed = :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    system.job_table.accept("job-new", {"lambda_name": "resize"}, "resize", system.now, datetime.date(2026, 11, 23))
    finish = system.job_table.finish_if_done

    def odd(job_id: str, now: Any) -> bool:
        if job_id == "job-a":
            raise RuntimeError("odd")
        return bool(finish(job_id, now))

    monkeypatch.setattr(system.job_table, "finish_if_done", odd)
    with pytest.raises(RuntimeError, match="odd"):
        system.scavenger.sweep_jobs()
    assert [system.job_table.get(f"job-{name}").state.value for name in "abc"] == [
        "scheduled",
        "completed",
        "completed",
    ]
    assert system.resumed == ["job-new"]


def test_the_sweep_of_jobs_goes_on_where_the_last_one_stopped(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs do not move, those behind them have their turn; and then it begins anew."""
    monkeypatch.setattr(scavenger, "JOBS_PER_SWEEP", 2)
    for number in range(5):
        system.now += 1
        system.job_table.accept(
            f"job-{number}", {"lambda_name": "gone"}, "gone", system.now, datetime.date(2026, 11, 23)
        )
    for _ in range(5):
        system.scavenger.sweep_jobs()
        system.resumed.append("|")
    assert "".join(name[-1] for name in system.resumed) == "01|23|4|01|23|"


def test_two_sweeps_of_jobs_do_not_pile_up(system: System) -> None:
    """While one is under way no other one begins."""
    system.job_of("job-1", 1)
    turn = Turns(system.redis, prefix="sosw").begin("#jobs", 20)
    assert turn is not None
    calls = reads_of(system)
    system.scavenger.sweep_jobs()
    assert calls == []
    Turns(system.redis, prefix="sosw").end(turn)
    system.scavenger.sweep_jobs()
    assert calls == ["Query", "Query", "Query", "BatchGetItem"]


def test_jobs_of_a_labourer_that_is_not_configured_are_warned_of_now_and_then(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of them is lost, and somebody is told; not with every sweep."""
    for number in range(2):
        system.job_of(f"job-{number}", 1, labourer_id="renamed")
    for _ in range(3):
        system.scavenger.sweep_jobs()
    assert caplog.text.count("labourer renamed is not configured, 2 unfinished jobs of it were seen") == 1
    system.monotonic += scavenger.WARN_AGAIN_S
    system.scavenger.sweep_jobs()
    assert caplog.text.count("labourer renamed is not configured") == 2
    assert (system.sweeps, system.dispatches) == ([], [])


def test_jobs_that_wait_are_begun_with_in_time_and_cost_nothing_before(make_system: Callable[..., System]) -> None:
    """While nothing else is unfinished no table is looked at until the first of them is due."""
    system = make_system(sweep_jobs_s=10)
    accepted = datetime.date(2026, 11, 23)
    system.job_table.accept("soon", {}, "resize", system.now, accepted, not_before=system.now + 25)
    system.scavenger.sweep_jobs()
    assert system.resumed == []
    assert 24_000 < system.redis.pttl("sosw:no_unfinished_jobs") <= 25_000
    system.redis.delete("sosw:no_unfinished_jobs")  # as after that time
    system.now += 25
    system.scavenger.sweep_jobs()
    assert system.resumed == ["soon"]
    assert system.redis.pttl("sosw:no_unfinished_jobs") == -2
