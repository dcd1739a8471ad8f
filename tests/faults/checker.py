"""Decides from a run's evidence whether the promises were kept. Pure.

A run whose process died in it counts from its start to its last sign of life, which is a few milliseconds before its
death: so whatever is reported as too many at once did run at once. The time in which a node stood still does not count.
A node that was frozen for longer than its leases has to find that out: what its bodies do between its wake and their
end is measured, has to be short, and is not held against the cap.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sosw_celery.core.jobs.plan import task_id
from tests.faults.evidence import Evidence, FaultRecord, Job, Row, Run
from tests.faults.idling import Idling, idling_of
from tests.faults.rates import worst_span
from tests.faults.usage import Recovery, Usage, low_for, recovery_of, usage_of

__all__ = ["Finding", "Promise", "Verdict", "check"]

#: Examples that a finding names.
EXAMPLES = 3
#: Seconds that a body may run on after its node, frozen for longer than its leases, was woken.
MOST_AFTER_WAKE_S = 1.0
#: Share of a lease after which a node that stood still can not rely on it any more.
PATIENCE = 0.8
#: Before the first fault: largest share of the looks that may see a slot without a lease beside tasks on standby, and
#: of the leases that may run out. Next to none do; where slots wait for the safety net, about every second one or more.
MOST_IDLE, MOST_LAPSED = 0.1, 0.2
#: Seconds in which slots have to be in full use again, besides those of two leases.
RECOVERY_S = 30.0
#: Seconds that may pass from the start that is counted to the first line of a body.
START_S = 0.1
#: Seconds that a body may live beyond its time limit, besides those in which its main process may have stood still or
#: been cut off unnoticed; and how much less than its limit, when nothing went wrong.
MOST_BEYOND_S, MOST_SHORT_S = 2.0, 0.1
#: Seconds for which slots of a labourer may be in less than full use during a fault of another one's.
MOST_LOW_S = 5.0
#: Seconds after which a retry is due, or a lost task that was found is about to be: those of the longest backoff and of
#: some sweeps.
LATE_S = 10.0

#: Where tasks can be that are not closed.
PLACES = {"tasks": "queued", "claimed": "running or not archived", "retry": "waiting for a retry"}
FINAL_STATES = ("completed", "completed_with_dead")


class Promise(enum.Enum):
    """The six promises of docs/guarantees.md, and what `rate_limit` and `duration` of a labourer promise."""

    LOST = "nothing is lost"
    CLOSED = "closed exactly once"
    CAP = "never more than the cap"
    IDLE = "a free slot does not idle"
    TWICE = "submitting twice is submitting once"
    BROKER = "the table is the truth, the broker is a hint"
    RATE = "never more than the rate"
    LIMIT = "no body outlives its time limit"


@dataclass(frozen=True)
class Finding:
    """A promise that was broken, and how."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What the checker found and measured.

    Parameters:
        most_at_once: Of each labourer.
        after_wake_s: How long bodies ran on after their frozen node was woken, the longest one.
        recoveries: One for each fault that happened.
        starts: Runs of bodies.
        idling: Of each labourer.
    """

    findings: Sequence[Finding]
    most_at_once: Mapping[str, int]
    after_wake_s: float | None
    recoveries: Sequence[Recovery]
    starts: int = 0
    idling: Sequence[Idling] = ()

    @property
    def broken(self) -> frozenset[Promise]:
        """The promises that were not kept."""
        return frozenset(finding.promise for finding in self.findings)


def check(evidence: Evidence) -> Verdict:
    """Return whether the promises were kept, and what was measured beside that."""
    spans, after_wake = _spans(evidence)
    usages = {
        labourer_id: usage_of(labourer_id, cap, spans[labourer_id], evidence)
        for labourer_id, cap in evidence.caps.items()
    }
    idling = [idling_of(labourer_id, evidence.caps[labourer_id], evidence) for labourer_id in sorted(evidence.steady)]
    steady = [usages[labourer_id] for labourer_id in evidence.steady]
    recoveries = [recovery_of(fault, steady, evidence.faults) for fault in evidence.faults if fault.happened]
    findings = [
        *_lost(evidence),
        *_closed(evidence),
        *_over_the_cap(evidence, usages, after_wake),
        *_idle(evidence, idling, recoveries),
        *_not_spared(evidence, usages),
        *_over_the_rate(evidence),
        *_beyond_the_limit(evidence),
    ]
    return Verdict(
        findings=findings,
        most_at_once={labourer_id: usage.most for labourer_id, usage in usages.items()},
        after_wake_s=max(after_wake.values(), default=None),
        recoveries=recoveries,
        starts=len(evidence.runs),
        idling=idling,
    )


# ---- what is in the tables


def _lost(evidence: Evidence) -> Iterator[Finding]:
    by_job: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in evidence.rows:
        by_job[row.job_id][row.task_id] = row
    for job in evidence.jobs:
        rows = by_job.pop(job.job_id, {})
        yield from _of_job(job, rows, evidence)
    for job_id in by_job.keys() | (evidence.items.keys() - {job.job_id for job in evidence.jobs}):
        yield Finding(Promise.TWICE, f"job {job_id} with {len(by_job.get(job_id, {}))} tasks was never submitted")


def _of_job(job: Job, rows: Mapping[str, Row], evidence: Evidence) -> Iterator[Finding]:
    expected = {task_id(job.job_id, number): payload for number, payload in enumerate(job.payloads)}
    missing = expected.keys() - rows.keys()
    if missing:
        yield _finding(Promise.LOST, f"of {job.job_id}: rows are in no table", missing)
    strange = rows.keys() - expected.keys()
    if strange:
        yield _finding(Promise.LOST, f"of {job.job_id}: rows that chunking does not give", strange)
    changed = [name for name in rows.keys() & expected.keys() if rows[name].payload != expected[name]]
    if changed:
        yield _finding(Promise.LOST, f"of {job.job_id}: rows with another payload", changed)
    left = [row for row in rows.values() if row.where != "closed"]
    yield from _left_over(job, left, evidence)
    closed = [row for row in rows.values() if row.where == "closed"]
    yield from _counters(job, closed, evidence, missing=len(missing), complete=not (missing or left))
    innocent = [row.task_id for row in closed if row.dead and not _is_poisoned(row)]
    if innocent:
        yield _finding(Promise.LOST, f"of {job.job_id}: dead, and their bodies never fail for good", innocent)


def _left_over(job: Job, left: Sequence[Row], evidence: Evidence) -> Iterator[Finding]:
    """Tell of tasks that never end. Those that only wait for a message are the broker's, once it lost messages."""
    lost_messages = any(fault.happened and fault.loses_messages for fault in evidence.faults)
    by_place: dict[str, list[str]] = defaultdict(list)
    for row in left:
        by_place["claimed" if row.claimed else row.where].append(row.task_id)
    for place, names in by_place.items():
        promise = Promise.BROKER if place == "tasks" and lost_messages else Promise.LOST
        yield _finding(promise, f"of {job.job_id}: never closed, still {PLACES[place]}", names)


def _counters(
    job: Job, closed: Sequence[Row], evidence: Evidence, *, missing: int, complete: bool
) -> Iterator[Finding]:
    item = evidence.items.get(job.job_id)
    if item is None:
        yield Finding(Promise.LOST, f"job {job.job_id} was accepted and has no item")
        return
    dead = sum(row.dead for row in closed)
    if (item.completed, item.dead) != (len(closed) - dead, dead):
        there, counted = f"{len(closed) - dead} + {dead}", f"{item.completed} + {item.dead}"
        # What was counted and is in no table was counted once and lost.
        promise = Promise.CLOSED if item.completed + item.dead > len(closed) + missing else Promise.LOST
        yield Finding(promise, f"job {job.job_id} counts {counted} completed and dead, closed are {there}")
    if complete and (item.state not in FINAL_STATES or item.tasks != len(job.payloads)):
        what = f"job {job.job_id} stands at {item.state} with {item.tasks} tasks, all {len(job.payloads)} are closed"
        yield Finding(Promise.LOST, what)


def _is_poisoned(row: Row) -> bool:
    return bool(row.payload.get("bad_attempts", 0) >= row.attempts)


# ---- what the attempts did


def _closed(evidence: Evidence) -> Iterator[Finding]:
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(evidence.runs, key=lambda run: run.start):
        runs[run.task_id].append(run)
    submits = {job.job_id: job.submits for job in evidence.jobs}
    wrong: dict[tuple[Promise, str], list[str]] = defaultdict(list)
    known = {row.task_id: row for row in evidence.rows}
    for name, of_task in runs.items():
        row = known.get(name)
        again = row is not None and submits.get(row.job_id, 1) > 1
        for promise, what in _of_attempts([run.number for run in of_task], again=again):
            wrong[promise, what].append(name)
    for row in evidence.rows:
        if row.where == "closed":
            for what in _of_row(row, runs.get(row.task_id, ()), evidence.max_attempts):
                wrong[Promise.CLOSED, what].append(row.task_id)
    for (promise, what), names in wrong.items():
        yield _finding(promise, what, names)


def _of_attempts(numbers: Sequence[int], *, again: bool) -> Iterator[tuple[Promise, str]]:
    if again and numbers.count(1) > 1:  # a row that was written anew begins at attempt 1
        yield Promise.TWICE, "began anew, their job was submitted again"
    elif len(set(numbers)) < len(numbers):
        yield Promise.CLOSED, "one attempt ran twice"
    elif list(numbers) != sorted(numbers):
        yield Promise.CLOSED, "an earlier attempt began after a later one"


def _of_row(row: Row, runs: Sequence[Run], max_attempts: int) -> Iterator[str]:
    if any(run.number > row.attempts for run in runs):
        yield "ran again after they were closed"
    failed = row.attempts if row.dead else row.attempts - 1
    if row.failed_attempts != failed:
        yield "failed attempts are not counted once each"
    if row.dead:
        if row.attempts != max_attempts:
            yield "dead before their last attempt"
        return
    last = [run for run in runs if run.number == row.attempts and run.how == "done"]
    if not last:
        yield "completed by an attempt whose body did not end well"
    elif row.run not in {run.name for run in last}:
        yield "closed by another attempt than the one on the row"


# ---- how many ran


def _spans(evidence: Evidence) -> tuple[dict[str, list[tuple[float, float]]], dict[str, float]]:
    """Return, by labourer, when bodies ran; and by run, how long those of frozen nodes ran on after their wake."""
    spans: dict[str, list[tuple[float, float]]] = {labourer_id: [] for labourer_id in evidence.caps}
    after_wake: dict[str, float] = {}
    for run in evidence.runs:
        labourer_id = evidence.labourer_of.get(run.task_id)
        if labourer_id not in spans:
            continue
        begun, pieces = run.start, []
        for freeze in sorted(evidence.freezes, key=lambda freeze: freeze.at):
            if freeze.group != run.group or not (begun < freeze.at and freeze.woken < run.alive_at):
                continue
            pieces.append((begun, freeze.at))
            begun = freeze.woken
            if freeze.woken - freeze.at > PATIENCE * evidence.lease_s:
                after_wake[run.name] = run.alive_at - freeze.woken
                break
        if run.name not in after_wake:
            pieces.append((begun, run.alive_at))
        spans[labourer_id] += pieces
    return spans, after_wake


def _over_the_cap(
    evidence: Evidence, usages: Mapping[str, Usage], after_wake: Mapping[str, float]
) -> Iterator[Finding]:
    for labourer_id, usage in usages.items():
        if usage.most > usage.cap:
            what = f"{usage.most} of {labourer_id} at once at {usage.most_at:.3f}, its cap is {usage.cap}"
            yield Finding(Promise.CAP, what)
    late = [name for name, seconds in after_wake.items() if seconds > MOST_AFTER_WAKE_S]
    if late:
        longest = max(after_wake.values())
        yield _finding(Promise.CAP, f"ran on for up to {longest:.2f} s after their frozen node was woken", late)


# ---- how well slots were used


def _idle(evidence: Evidence, idling: Sequence[Idling], recoveries: Sequence[Recovery]) -> Iterator[Finding]:
    for seen in idling:
        if seen.idle is not None and seen.idle > MOST_IDLE:
            where = f"a free slot of {seen.labourer_id} beside tasks on standby"
            yield Finding(Promise.IDLE, f"{seen.idle:.0%} of {seen.looks} looks saw {where}, and no fault yet")
        if seen.lapsed is not None and seen.lapsed > MOST_LAPSED:
            what = f"{seen.lapsed:.0%} of {seen.leases} leases of {seen.labourer_id} ran out, and no fault yet"
            yield Finding(Promise.IDLE, what)
    if evidence.gave_up:  # what never ended is told of as such
        return
    limit_s = 2 * evidence.lease_s + RECOVERY_S
    for recovery in recoveries:
        if recovery.full_s is not None and recovery.full_s > limit_s:
            yield Finding(Promise.IDLE, f"slots in full use {recovery.full_s:.1f} s after {recovery.kind}")


def _not_spared(evidence: Evidence, usages: Mapping[str, Usage]) -> Iterator[Finding]:
    """Tell of labourers that noticed a fault which was another one's alone."""
    for fault in evidence.faults:
        if fault.spares is None or not fault.happened:
            continue
        labourer_id, until = fault.spares
        low_s = low_for(usages[labourer_id], fault.at, until)
        if low_s > MOST_LOW_S:
            yield Finding(
                Promise.IDLE, f"slots of {labourer_id} were not in full use for {low_s:.1f} s of {fault.kind}"
            )
        late = list(_seen_to_late(labourer_id, until, fault, evidence))
        if late:
            yield _finding(Promise.IDLE, f"of {labourer_id} were not tried again in time during {fault.kind}", late)


def _seen_to_late(labourer_id: str, killed_at: float, fault: FaultRecord, evidence: Evidence) -> Iterator[str]:
    """Yield the tasks of a spared labourer that were not tried again in time; some of its nodes died at `killed_at`."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(evidence.runs, key=lambda run: run.start):
        if evidence.labourer_of.get(run.task_id) == labourer_id:
            runs[run.task_id].append(run)
    for name, of_task in runs.items():
        for run, following in zip_longest(of_task, of_task[1:]):
            # A process that died in a body may have taken its node with it: that is known when its lease has ended.
            due_at = run.alive_at + (LATE_S if run.how else evidence.lease_s + LATE_S)
            if run.alive_at <= killed_at <= due_at:  # a node may have died with the next attempt before its body began
                due_at = max(due_at, killed_at + evidence.lease_s + LATE_S)
            is_judged = run.how != "done" and run.number < evidence.max_attempts
            is_judged = is_judged and fault.at <= run.alive_at and due_at <= fault.over
            if is_judged and (following is None or following.start > due_at):
                yield name


# ---- how often they started, and for how long they ran


def _over_the_rate(evidence: Evidence) -> Iterator[Finding]:
    late_s = START_S + max([fault.lag_s for fault in evidence.faults], default=0.0)
    for labourer_id, rate in evidence.rates.items():
        starts = sorted(
            run.start
            for run in evidence.runs
            if evidence.labourer_of.get(run.task_id) == labourer_id and not _stood_still_before(run, evidence)
        )
        span = worst_span(starts, rate, late_s)
        if span is not None:
            count, began_at = span.last - span.first + 1, starts[span.first]
            what = f"{count} of {labourer_id} started in {starts[span.last] - began_at:.3f} s from {began_at:.3f} on"
            yield Finding(Promise.RATE, f"{what}, its rate is {rate.per_s:g} in a second with a burst of {rate.burst}")


def _stood_still_before(run: Run, evidence: Evidence) -> bool:
    """Return whether its node stood still right before its first line: when its start was counted is not known."""
    return any(
        freeze.group == run.group and freeze.woken <= run.start < freeze.woken + MOST_AFTER_WAKE_S
        for freeze in evidence.freezes
    )


def _beyond_the_limit(evidence: Evidence) -> Iterator[Finding]:
    beyond, short = [], []
    for run in evidence.runs:
        limit_s = evidence.limits_s.get(evidence.labourer_of.get(run.task_id, ""))
        if limit_s is None:
            continue
        stood_s = sum(
            freeze.woken - freeze.at
            for freeze in evidence.freezes
            if freeze.group == run.group and run.start < freeze.woken and freeze.at < run.alive_at
        )
        lived_s = run.alive_at - run.start - stood_s
        if lived_s > limit_s + PATIENCE * evidence.lease_s + MOST_BEYOND_S:
            beyond.append(run.task_id)
        if not run.how and run.alive_at < evidence.calm_until - MOST_AFTER_WAKE_S and lived_s < limit_s - MOST_SHORT_S:
            short.append(run.task_id)
    if beyond:
        yield _finding(Promise.LIMIT, "ran on beyond their time limit", beyond)
    if short:
        yield _finding(Promise.LIMIT, "were ended before their time limit, and no fault yet", short)


def _finding(promise: Promise, what: str, names: Sequence[str] | set[str]) -> Finding:
    examples = ", ".join(sorted(names)[:EXAMPLES])
    return Finding(promise, f"{len(names)} tasks {what} ({examples})")
