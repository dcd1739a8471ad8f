"""The checker can fail: each promise is broken on purpose in real processes, and it reports exactly that one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sosw_celery.stores.dynamodb.job_table import JobTable
from tests.faults.checker import Promise
from tests.faults.plan import SHORT, Fault, JobPlan, Plan, Profile
from tests.faults.run import Outcome, carry_out
from tests.faults.system import System
from tests.nursery import Nursery

pytestmark = [
    *(pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("_nothing_left_for_other_tests")),
    # Of what Celery has in the process of the test when Redis goes away.
    pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

#: One scheduler, orchestrator and beat are enough to break things; frozen and killed nodes need others beside them.
FEW = {"scheduler": 1, "orchestrator": 1, "worker": 2, "beat": 1}

SECONDS = 0.05


def job(
    name: str,
    labourer_id: str,
    tasks: int,
    seconds: float = SECONDS,
    *submit_at_s: float,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
) -> JobPlan:
    """Return a job whose tasks take about so long each, and never fail.

    Parameters:
        groups: More of them, which may.
    """
    all_groups = {**(groups or {}), "fine": {"values": list(range(tasks))}}
    definition = {"lambda_name": labourer_id, "isolate_values": True, "seconds": seconds, "groups": all_groups}
    return JobPlan(name, definition, sum(len(group["values"]) for group in all_groups.values()), submit_at_s or (0,))


def carry_out_broken(
    nursery: Nursery,
    directory: Path,
    broken: str,
    jobs: Sequence[JobPlan],
    *faults: Fault,
    **options: Any,
) -> Outcome:
    """Carry out a run in whose processes something is broken."""
    plan = Plan(0, options.pop("profile", SHORT), faults, jobs)
    environment = {"TEST_BROKEN": broken}
    return carry_out(
        plan, nursery, directory / "run", processes=FEW, imports=["broken"], environment=environment, **options
    )


def quick(stall_s: float) -> Profile:
    """Return the profile of the tests, in which a run that stands still is given up after so many seconds."""
    return replace(SHORT, stall_s=stall_s)


def test_nothing_is_reported_where_nothing_is_broken(nursery: Nursery, tmp_path: Path) -> None:
    """The same small run, with nothing broken, keeps every promise: the tests below break what they say they do."""
    outcome = carry_out_broken(nursery, tmp_path, "", [job("a", "note", 200), job("b", "count", 80)])
    assert outcome.kept, outcome
    assert outcome.verdict.starts == 280
    assert 1 < outcome.verdict.most_at_once["note"] <= 5
    assert outcome.verdict.most_at_once["count"] <= 2
    # Not kept for want of looks: they were enough to judge.
    assert None not in [share for idling in outcome.verdict.idling for share in (idling.idle, idling.lapsed)]


@pytest.mark.parametrize("broken", ["scheduler_skips_a_row", "archive_drops_a_row"])
def test_a_lost_task_is_reported(nursery: Nursery, tmp_path: Path, broken: str) -> None:
    """A Scheduler that skips a row, and an archive that drops one, lose tasks."""
    outcome = carry_out_broken(nursery, tmp_path, broken, [job("a", "note", 60)], profile=quick(4))
    assert outcome.verdict.broken == {Promise.LOST}


def test_a_lost_attempt_is_reported(nursery: Nursery, tmp_path: Path) -> None:
    """When nobody looks for attempts whose node died, their tasks never end."""
    killed = Fault("worker node killed", 1.0, "0/0")
    jobs = [job("a", "note", 40, 0.5)]
    outcome = carry_out_broken(nursery, tmp_path, "no_sweeps", jobs, killed, profile=quick(8))
    assert outcome.verdict.broken == {Promise.LOST}


def test_a_close_by_a_stale_attempt_is_reported(nursery: Nursery, tmp_path: Path) -> None:
    """A node that was frozen right before a close closes the attempt of another node, when closes have no fence.

    The other node begins its attempt when the lease has ended, after some 4 s, and the body takes 6 s: so it runs when
    the frozen node wakes in between.
    """
    frozen = Fault("worker node frozen at a point", 3.0, "0/0", "before TaskTable.complete")
    jobs = [job("a", "note", 1, 12.0, 0.5)]
    broken = "close_without_fence nobody_watches_leases"
    outcome = carry_out_broken(nursery, tmp_path, broken, jobs, frozen, profile=replace(SHORT, freeze_s=8))
    assert outcome.verdict.broken == {Promise.CLOSED}


def test_too_many_at_once_are_reported(nursery: Nursery, tmp_path: Path) -> None:
    """Without counting in the Lua scripts more run at once than the cap allows.

    They are few, so that none waits for a process for longer than its lease lasts.
    """
    outcome = carry_out_broken(nursery, tmp_path, "cap_not_counted", [job("a", "note", 30, 0.3)])
    assert outcome.verdict.broken == {Promise.CAP}


def test_a_node_that_runs_on_without_its_leases_is_reported(nursery: Nursery, tmp_path: Path) -> None:
    """Bodies of a frozen node that nobody ends when it wakes run beside those that have their slots now."""
    frozen = Fault("worker node frozen", 1.5, "0/0")
    jobs = [job("a", "note", 5, 10.0)]
    outcome = carry_out_broken(nursery, tmp_path, "nobody_watches_leases", jobs, frozen)
    assert outcome.verdict.broken == {Promise.CAP}
    assert (outcome.verdict.after_wake_s or 0) > 1


def test_idle_slots_are_reported(nursery: Nursery, tmp_path: Path) -> None:
    """When whoever frees a slot tells nobody, it waits for the safety net with tasks queued."""
    jobs = [job("a", "note", 60)]
    outcome = carry_out_broken(nursery, tmp_path, "nothing_handed_over", jobs)
    assert outcome.verdict.broken == {Promise.IDLE}


def test_slots_that_wait_for_lost_hints_are_reported(nursery: Nursery, tmp_path: Path) -> None:
    """When whoever hands a slot over does not publish its hint, the slot has a lease that nobody takes up."""
    jobs = [job("a", "note", 30)]
    outcome = carry_out_broken(nursery, tmp_path, "hints_not_published", jobs)
    assert outcome.verdict.broken == {Promise.IDLE}


def test_a_job_that_runs_again_is_reported(nursery: Nursery, tmp_path: Path) -> None:
    """A job that is accepted anew when it is submitted again has all of its tasks run again."""
    jobs = [job("a", "note", 40, SECONDS, 0, 6)]
    outcome = carry_out_broken(nursery, tmp_path, "", jobs, prepare=_forget_known_jobs)
    assert outcome.verdict.broken == {Promise.TWICE}


def _forget_known_jobs(system: System) -> None:
    table: JobTable = system.services.job_table
    accept = table.accept

    def accept_anew(job_id: str, *args: Any, **options: Any) -> bool:
        name, client = table.tables.jobs, table.client
        for item in client.scan(TableName=name, ConsistentRead=True)["Items"]:
            client.delete_item(TableName=name, Key={"job_id": item["job_id"]})
        return accept(job_id, *args, **options)

    table.accept = accept_anew  # type: ignore[assignment,method-assign]


def test_tasks_that_need_their_messages_are_reported(nursery: Nursery, tmp_path: Path) -> None:
    """With a Redis that comes back empty and nobody who rebuilds its slots, queued tasks never run."""
    emptied = Fault("Redis emptied", 2.0, "0/0")
    jobs = [job("a", "note", 300, 0.2)]
    outcome = carry_out_broken(nursery, tmp_path, "no_safety_net", jobs, emptied, profile=quick(6))
    assert outcome.verdict.broken == {Promise.BROKER}


def test_more_starts_than_the_rate_allows_are_reported(nursery: Nursery, tmp_path: Path) -> None:
    """When the time between two starts is forgotten, bodies start as often as slots are free."""
    outcome = carry_out_broken(nursery, tmp_path, "rates_forgotten", [job("a", "paced", 40)])
    assert outcome.verdict.broken == {Promise.RATE}


def test_a_body_that_outlives_its_time_limit_is_reported(nursery: Nursery, tmp_path: Path) -> None:
    """When nobody ends a body at its time limit, it runs on until it ends by itself."""
    endless = {"values": [99], "manner": "hang", "bad_attempts": 1, "hangs_s": 9}
    jobs = [job("a", "hang", 20, 0.2, groups={"hanging": endless})]
    outcome = carry_out_broken(nursery, tmp_path, "no_time_limits", jobs)
    assert outcome.verdict.broken == {Promise.LIMIT}


def test_a_broken_promise_keeps_the_logs(nursery: Nursery, tmp_path: Path) -> None:
    """Logs and history of a run that broke a promise stay; those of a good one go."""
    good = carry_out_broken(nursery, tmp_path, "", [job("a", "note", 10)])
    assert not good.directory.exists()
    bad = carry_out_broken(nursery, tmp_path, "scheduler_skips_a_row", [job("a", "note", 30)], profile=quick(2))
    assert not bad.kept
    names: Mapping[str, Any] = {path.name: path for path in bad.directory.iterdir()}
    assert {"history", "worker1.1.log", "beat1.1.log"} <= names.keys()
    assert os.listdir(names["history"])
