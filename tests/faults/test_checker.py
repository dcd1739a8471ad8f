"""The checker on made-up histories: it keeps quiet about a good run, and names each promise that a bad one breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sosw_celery.core.jobs.plan import task_id
from tests.faults.checker import LATE_S, MOST_BEYOND_S, PATIENCE, Promise, check
from tests.faults.evidence import Evidence, FaultRecord, Freeze, Job, JobItem, Look, Rate, Row, Run
from tests.faults.idling import LEAST_LEASES, LEAST_LOOKS

CAP = 2
SECONDS = 0.1
LOOK_EVERY_S = 0.05


def good(tasks: int = 100) -> Evidence:
    """Return the evidence of a run in which two tasks ran at a time, one after the other, and all were closed."""
    payloads = [{"values": [number]} for number in range(tasks)]
    names = [task_id("job", number) for number in range(tasks)]
    rows = [
        Row(name, "job", "note", payloads[number], "closed", attempts=1, failed_attempts=0, run=f"run {number}")
        for number, name in enumerate(names)
    ]
    runs = [
        Run(f"run {number}", name, 1, group=7, start=number // CAP * SECONDS, alive_at=(number // CAP + 1) * SECONDS)
        for number, name in enumerate(names)
    ]
    looks = [
        Look("note", number * LOOK_EVERY_S, pending=number % 2, running=CAP - number % 2, standby=9, lapses=0)
        for number in range(tasks)
    ]
    return Evidence(
        caps={"note": CAP},
        max_attempts=3,
        lease_s=1.0,
        jobs=[Job("job", "note", payloads)],
        items={"job": JobItem("job", "completed", tasks, tasks, 0)},
        rows=rows,
        runs=runs,
        looks=looks,
        labourer_of=dict.fromkeys(names, "note"),
        steady=frozenset({"note"}),
    )


def with_row(evidence: Evidence, number: int, **changes: Any) -> Evidence:
    """Return the evidence with another row of one task."""
    rows = list(evidence.rows)
    rows[number] = replace(rows[number], **changes)
    return replace(evidence, rows=rows)


def with_runs(evidence: Evidence, runs: Sequence[Run]) -> Evidence:
    """Return the evidence with more runs."""
    return replace(evidence, runs=[*evidence.runs, *runs])


def again(evidence: Evidence, task: int, **changes: Any) -> Run:
    """Return a second run of a task, after everything else."""
    return replace(evidence.runs[task], **{"name": "again", "start": 90.0, "alive_at": 90.1, **changes})


def broken(evidence: Evidence) -> set[Promise]:
    """Return the promises that the checker finds broken."""
    return set(check(evidence).broken)


def test_a_good_run_breaks_no_promise() -> None:
    """Nothing is found, and what is measured is what happened."""
    verdict = check(good())
    assert not verdict.findings
    assert verdict.most_at_once == {"note": CAP}
    (idling,) = verdict.idling
    assert (idling.looks, idling.idle, idling.lapsed) == (100, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"where": "tasks", "claimed": True},
        {"where": "tasks"},
        {"where": "retry"},
        {"payload": {"values": [-1]}},
        {"task_id": "of nobody"},
        {"dead": True, "attempts": 3, "failed_attempts": 3},
    ],
    ids=str,
)
def test_a_task_that_is_not_what_it_has_to_be_is_lost(changes: dict[str, Any]) -> None:
    """Rows that never end, have another payload, belong to no row of the job, or died without a reason are found."""
    assert Promise.LOST in broken(with_row(good(), 4, **changes))


def test_a_row_in_no_table_is_lost() -> None:
    """A task of which there is no row is found, also if the job's counters say that it is closed."""
    evidence = good()
    assert Promise.LOST in broken(replace(evidence, rows=evidence.rows[1:]))


@pytest.mark.parametrize(
    ("item", "promise"),
    [
        (JobItem("job", "completed", 100, 99, 0), Promise.LOST),
        (JobItem("job", "completed", 100, 99, 1), Promise.LOST),
        (JobItem("job", "scheduled", 100, 100, 0), Promise.LOST),
        (JobItem("job", "completed", 100, 101, 0), Promise.CLOSED),
    ],
    ids=str,
)
def test_counters_and_state_of_a_job_have_to_be_exact(item: JobItem, promise: Promise) -> None:
    """A job that counts too few is not done, one that counts too many counted a close twice."""
    assert broken(replace(good(), items={"job": item})) == {promise}


def test_a_poisoned_task_may_die_after_its_last_attempt_and_not_before() -> None:
    """A task whose body never ends well is dead after `max_attempts`, each counted once."""
    evidence = good()
    poisoned = {"values": [4], "bad_attempts": 99}
    jobs = [
        replace(evidence.jobs[0], payloads=[*evidence.jobs[0].payloads[:4], poisoned, *evidence.jobs[0].payloads[5:]])
    ]
    items = {"job": JobItem("job", "completed_with_dead", 100, 99, 1)}
    evidence = replace(evidence, jobs=jobs, items=items)
    dead = {"payload": poisoned, "dead": True, "run": ""}
    assert not broken(with_row(evidence, 4, **dead, attempts=3, failed_attempts=3))
    assert broken(with_row(evidence, 4, **dead, attempts=2, failed_attempts=2)) == {Promise.CLOSED}
    assert broken(with_row(evidence, 4, **dead, attempts=3, failed_attempts=2)) == {Promise.CLOSED}


@pytest.mark.parametrize(
    "changes",
    [
        {"attempts": 2},
        {"attempts": 2, "failed_attempts": 1},
        {"failed_attempts": 1},
        {"run": "another"},
        {"run": "run 5"},
    ],
    ids=str,
)
def test_a_close_has_to_be_that_of_the_last_attempt(changes: dict[str, Any]) -> None:
    """A row whose result is of another run, or whose attempts are not those of the history, was closed wrongly."""
    assert broken(with_row(good(), 4, **changes)) == {Promise.CLOSED}


def test_an_attempt_after_the_close_is_found() -> None:
    """A run of a later attempt than the one on the closed row, and a second run of the same, are found."""
    evidence = good()
    assert broken(with_runs(evidence, [again(evidence, 4, number=2)])) == {Promise.CLOSED}
    assert broken(with_runs(evidence, [again(evidence, 4)])) == {Promise.CLOSED}


def test_a_job_that_begins_anew_was_submitted_twice() -> None:
    """The same second run is laid to the second submit where there was one."""
    evidence = good()
    twice = replace(evidence, jobs=[replace(evidence.jobs[0], submits=2)])
    assert not broken(twice)
    assert broken(with_runs(twice, [again(twice, 4)])) == {Promise.TWICE}


def test_a_job_of_nobody_is_a_second_one() -> None:
    """A job in the table that was never submitted is found."""
    evidence = good()
    items = {**evidence.items, "other": JobItem("other", "completed", 0, 0, 0)}
    assert broken(replace(evidence, items=items)) == {Promise.TWICE}


def test_a_run_beyond_the_cap_is_found() -> None:
    """A third run beside two others is found, also if its process died in it; one right after them is not."""
    evidence = good()
    beside = again(evidence, 4, number=2, start=0.25, alive_at=0.26, how="")
    assert Promise.CAP in broken(with_runs(evidence, [beside]))
    assert Promise.CAP not in broken(with_runs(evidence, [replace(beside, start=50.0, alive_at=50.1)]))


def frozen(evidence: Evidence, *, after_s: float, long_s: float) -> Evidence:
    """Return the evidence with two runs of a node that was frozen at 0.25 s, and the seconds they ran on after it."""
    woken = 0.25 + long_s
    runs = [
        replace(run, group=8, alive_at=woken + after_s) if number in (4, 5) else run
        for number, run in enumerate(evidence.runs)
    ]
    return replace(evidence, runs=runs, freezes=[Freeze(8, 0.25, woken)])


def test_a_frozen_node_may_run_on_for_an_instant_only() -> None:
    """What bodies do after a freeze longer than their leases is measured, and too much of it is over the cap."""
    short = check(frozen(good(), after_s=0.2, long_s=3.0))
    assert short.after_wake_s == pytest.approx(0.2)
    assert not short.findings
    assert broken(frozen(good(), after_s=1.5, long_s=3.0)) == {Promise.CAP}


def test_a_node_frozen_for_less_than_its_leases_keeps_its_slots() -> None:
    """Its bodies count when it goes on, and beside them two others are too many."""
    assert broken(frozen(good(), after_s=0.2, long_s=0.5)) == {Promise.CAP}


def with_looks(evidence: Evidence, first: int, count: int, **changes: Any) -> Evidence:
    """Return the evidence with so many looks that saw something else."""
    looks = list(evidence.looks)
    looks[first : first + count] = [replace(look, **changes) for look in looks[first : first + count]]
    return replace(evidence, looks=looks)


def test_slots_without_a_lease_beside_tasks_on_standby_are_found() -> None:
    """A slot that is free beside tasks on standby in more than a tenth of the looks idles."""
    assert broken(with_looks(good(), 0, 11, pending=0, running=CAP - 1)) == {Promise.IDLE}
    assert not broken(with_looks(good(), 0, 10, pending=0, running=CAP - 1))


def test_bodies_of_a_slow_machine_do_not_idle() -> None:
    """Bodies that use a tenth of the time are no matter, as long as every slot has a lease."""
    evidence = good()
    slow = [replace(run, start=run.start * 10, alive_at=run.start * 10 + SECONDS) for run in evidence.runs]
    looks = [replace(look, at=look.at * 10) for look in evidence.looks]
    assert not broken(replace(evidence, runs=slow, looks=looks))


def test_only_slots_beside_tasks_on_standby_before_the_first_fault_idle() -> None:
    """A slot without a lease is no matter when nobody waits for it, and after a fault."""
    evidence = good(200)
    assert not broken(with_looks(evidence, 0, 100, pending=0, running=0, standby=0))
    fault = FaultRecord("node killed", 5.0, 5.0)
    late = with_looks(evidence, 100, 100, pending=0, running=0, lapses=200)
    assert not broken(replace(late, faults=[fault]))
    assert broken(replace(late, faults=[replace(fault, happened=False)])) == {Promise.IDLE}


def test_leases_that_run_out_are_found() -> None:
    """Hints that nobody takes up hold slots in vain: more than a fifth of the leases that run out are too many."""
    assert broken(with_looks(good(), 99, 1, lapses=26)) == {Promise.IDLE}
    assert not broken(with_looks(good(), 99, 1, lapses=24))


def test_of_too_few_looks_and_leases_nothing_is_judged() -> None:
    """Below the least number of looks with tasks on standby, and of leases, the shares are not known."""
    evidence = good()
    few = replace(evidence, looks=with_looks(evidence, 0, 100, running=0).looks[: LEAST_LOOKS - 1])
    (idling,) = check(few).idling
    assert (idling.looks, idling.idle) == (LEAST_LOOKS - 1, None)
    assert Promise.IDLE not in broken(few)
    start = replace(evidence, looks=[replace(evidence.looks[0], lapses=LEAST_LEASES - CAP - 1)])
    (idling,) = check(start).idling
    assert (idling.leases, idling.lapsed) == (LEAST_LEASES - 1, None)
    assert not broken(start)


def held_up(gap_s: float) -> Evidence:
    """Return the evidence of a run with a fault at 3.05 s after which nothing starts for some seconds."""
    evidence = good(200)
    runs = [
        replace(run, start=run.start + gap_s, alive_at=run.alive_at + gap_s) if run.start > 3.05 else run
        for run in evidence.runs
    ]
    return replace(evidence, runs=runs, faults=[FaultRecord("node killed", 3.05, 3.05)])


def test_recovery_is_measured_from_the_fault() -> None:
    """The next start and the full use of the slots are told in seconds from the fault."""
    verdict = check(held_up(5.0))
    (recovery,) = verdict.recoveries
    assert recovery.first_s == pytest.approx(5.05, abs=0.11)
    assert recovery.full_s == pytest.approx(5.0, abs=0.6)
    assert not verdict.findings


def test_a_fault_that_costs_nothing_is_recovered_from_at_once() -> None:
    """Slots that stay in use are in full use 0 s after the fault."""
    (recovery,) = check(held_up(0.0)).recoveries
    assert recovery.full_s == 0.0


def test_slots_that_come_back_too_late_are_found() -> None:
    """More than two leases and half a minute until full use breaks the promise that slots do not idle."""
    assert broken(held_up(40.0)) == {Promise.IDLE}


def test_tasks_that_wait_for_a_lost_message_are_laid_to_the_broker() -> None:
    """Queued tasks that never end are the broker's fault where it lost messages; claimed ones never are."""
    evidence = replace(with_row(good(), 99, where="tasks", attempts=0), runs=good().runs[:-1], gave_up=True)
    items = {"job": JobItem("job", "scheduled", 100, 99, 0)}
    evidence = replace(evidence, items=items)
    fault = FaultRecord("Redis emptied", 2.0, 2.5, loses_messages=True)
    assert broken(evidence) == {Promise.LOST}
    assert broken(replace(evidence, faults=[fault])) == {Promise.BROKER}
    claimed = with_row(evidence, 99, claimed=True)
    assert broken(replace(claimed, faults=[fault])) == {Promise.LOST}


def test_more_starts_than_the_rate_allows_are_found() -> None:
    """Two bodies that start every 0.1 s keep a rate of 20 with a burst of 2, and break one of 18."""
    evidence = good()
    assert not broken(replace(evidence, rates={"note": Rate(2, 20)}))
    assert broken(replace(evidence, rates={"note": Rate(2, 18)})) == {Promise.RATE}


def test_starts_of_a_node_that_stood_still_before_do_not_count() -> None:
    """When they were counted is not known: a body that began right after its node was woken breaks no rate."""
    evidence = replace(good(10), rates={"note": Rate(2, 20)})
    late = [
        replace(run, start=run.start + 0.08, group=8 if number == 4 else 7) for number, run in enumerate(evidence.runs)
    ]
    late[4] = replace(late[4], start=0.47, alive_at=0.48)
    heap = replace(evidence, caps={"note": 9}, runs=[*late[:6], *(replace(run, start=0.48) for run in late[6:])])
    assert Promise.RATE in broken(heap)
    woken = [Freeze(run_group, 0.2, 0.45) for run_group in (7, 8)]
    assert Promise.RATE not in broken(replace(heap, freezes=woken))


def with_limit(limit_s: float, **changes: Any) -> Evidence:
    """Return the evidence with a time limit, and one run that is different."""
    evidence = good()
    runs = list(evidence.runs)
    runs[5] = replace(runs[5], **changes)
    return replace(evidence, runs=runs, caps={"note": 9}, looks=(), limits_s={"note": limit_s})


def test_a_body_that_outlives_its_time_limit_is_found() -> None:
    """It may live as long as its node may be cut off unnoticed; the time in which that stood still does not count."""
    longest_s = 1 + PATIENCE * good().lease_s + MOST_BEYOND_S
    start = good().runs[5].start
    assert not broken(with_limit(1, alive_at=start + longest_s - 0.1))
    evidence = with_limit(1, alive_at=start + longest_s + 0.1)
    assert broken(evidence) == {Promise.LIMIT}
    assert not broken(replace(evidence, freezes=[Freeze(7, start + 0.1, start + 0.6)]))


def test_a_body_that_is_ended_before_its_time_limit_is_found() -> None:
    """One that died in its body too early broke it, unless it did so by itself: those are not of such a labourer."""
    start = good().runs[5].start
    late = {"number": 2, "how": "", "start": start}
    dead = [with_limit(1.0, alive_at=start + lived_s, **late) for lived_s in (0.5, 0.95)]
    assert [Promise.LIMIT in broken(evidence) for evidence in dead] == [True, False]
    struck = replace(dead[0], faults=[FaultRecord("node killed", start + 0.4, start + 0.4)])
    assert Promise.LIMIT not in broken(struck)


def with_another_labourer(fault_s: float) -> Evidence:
    """Return the evidence of a long run with a fault from 5 s on that another labourer had to notice nothing of."""
    evidence = good(1000)
    fault = FaultRecord("another one throttled", 5.0, 5.0 + fault_s, spares=("note", 5.0 + fault_s))
    return replace(evidence, faults=[fault])


def test_slots_of_a_labourer_that_another_ones_fault_empties_are_found() -> None:
    """A labourer whose slots are not in use while another one is throttled was not spared; a short dip is chance."""
    evidence = with_another_labourer(20.0)
    assert not broken(evidence)
    for until, expected in ((11, False), (18, True)):
        fewer = [run for number, run in enumerate(evidence.runs) if not (8 < run.start < until and number % 2)]
        assert (Promise.IDLE in broken(replace(evidence, runs=fewer))) is expected


@pytest.mark.parametrize(("how", "due_s"), [("raised", LATE_S), ("", LATE_S + 1.0)])
def test_retries_and_lost_tasks_that_another_ones_fault_holds_up_are_found(how: str, due_s: float) -> None:
    """They are tried again in time while another labourer is throttled; a lost task is one when its lease has ended."""
    evidence = replace(with_another_labourer(40.0), caps={"note": 3}, looks=())
    number = 200
    failed = replace(evidence.runs[number], how=how)
    for again_s, expected in ((due_s - 1, False), (due_s + 1, True)):
        at = failed.alive_at + again_s
        second = replace(failed, name="second", number=2, start=at, alive_at=at + 0.01, how="done")
        runs = [*evidence.runs[:number], failed, *evidence.runs[number + 1 :], second]
        tried = with_row(replace(evidence, runs=runs), number, attempts=2, failed_attempts=1, run="second")
        assert broken(tried) == ({Promise.IDLE} if expected else set())


@pytest.mark.parametrize(("more_s", "is_late"), [(-1.0, False), (1.0, True)])
def test_a_retry_that_a_node_took_with_it_is_due_when_its_lease_has_ended(more_s: float, is_late: bool) -> None:
    """Its hint may have been in a node of the spared labourer that died before the body began."""
    evidence = replace(with_another_labourer(40.0), caps={"note": 3}, looks=())
    number = 200
    failed = replace(evidence.runs[number], how="raised")
    killed_at = failed.alive_at + LATE_S - 0.5
    fault = replace(evidence.faults[0], spares=("note", killed_at))
    at = killed_at + evidence.lease_s + LATE_S + more_s
    second = replace(failed, name="second", number=2, start=at, alive_at=at + 0.01, how="done")
    runs = [*evidence.runs[:number], failed, *evidence.runs[number + 1 :], second]
    tried = with_row(replace(evidence, runs=runs, faults=[fault]), number, attempts=2, failed_attempts=1, run="second")
    assert broken(tried) == ({Promise.IDLE} if is_late else set())
