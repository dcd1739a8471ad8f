"""One run: a system, its jobs, its faults, and the checker's verdict on what became of them."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sosw_celery.errors import SoswError
from tests.faults.checker import Verdict, check
from tests.faults.evidence import Evidence, FaultRecord, Freeze, Rate
from tests.faults.gather import expected_job, job_items, labourers_of, rows_of, runs_in, starts_in
from tests.faults.kinds import inject
from tests.faults.looks import keep_looking, looks_in
from tests.faults.plan import BURST, CAPS, MAX_ATTEMPTS, RATES, STEADY, Fault, JobPlan, Plan
from tests.faults.system import System
from tests.harness.waiting import wait_for
from tests.nursery import Nursery

__all__ = ["PROCESSES", "Outcome", "carry_out"]

#: How many of each kind of process there are.
PROCESSES = {"scheduler": 2, "orchestrator": 2, "worker": 5, "beat": 2}
#: Starts of tasks after which work is well under way, and seconds after which nobody waits for them any more.
UNDER_WAY_STARTS, UNDER_WAY_S = 25, 20.0
POLL_S = 0.3
SUBMIT_S = 120.0
#: What a plan needs in which the clock of a node is wrong.
WRONG_CLOCKS = frozenset({"clock", "fast scheduler"})

LABOURER = {"duration": 60, "cooldown": 30, "max_attempts": MAX_ATTEMPTS, "retry_backoff": 0.2, "retry_backoff_max": 1}


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Parameters:
        crashes: How many processes ended by themselves.
        trouble: What kept the run itself from being what it was to be; empty when nothing did.
    """

    plan: Plan
    verdict: Verdict
    faults: Sequence[FaultRecord]
    seconds: float
    directory: Path
    trouble: str = ""
    crashes: int = 0

    @property
    def kept(self) -> bool:
        """Whether every promise was kept, and the run was what it was to be."""
        return not self.verdict.findings and not self.trouble


@dataclass
class _Progress:
    """What the threads of a run tell each other.

    Parameters:
        began: When work was well under way; the times of the plan count from it.
        struck: A fault is about to strike, or the run ends.
    """

    began: float
    under_way: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    struck: threading.Event = field(default_factory=threading.Event)
    faults: list[FaultRecord] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)

    def end(self) -> None:
        """Have whoever waits for its time give up."""
        self.stop.set()
        self.struck.set()
        self.under_way.set()

    def reached(self, at_s: float) -> bool:
        """Wait until so many seconds after work was under way; False when the run ends before."""
        self.under_way.wait()
        return not self.stop.wait(max(0.0, self.began + at_s - time.monotonic()))


def carry_out(
    plan: Plan,
    nursery: Nursery,
    directory: Path,
    *,
    processes: Mapping[str, int] = PROCESSES,
    imports: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    prepare: Callable[[System], None] = lambda system: None,
) -> Outcome:
    """Do what a plan says and return what became of it. Whatever was started has ended then.

    Parameters:
        directory: Takes logs and history; it stays unless every promise was kept.
        imports: Modules that the processes under test import besides.
        environment: Of the processes under test, besides.
        prepare: Called before the first process starts.
    """
    began = time.monotonic()
    labourers = {name: {**LABOURER, "max_simultaneous_invocations": cap} for name, cap in CAPS.items()}
    labourers["hang"]["duration"] = plan.profile.limit_s
    for name, rate in RATES.items():
        labourers[name] |= {"rate_limit": f"{rate}/s", "rate_burst": BURST}
    section = {"job_schema": {"chunkable_attrs": ["group", "value"]}, "labourers": labourers, **plan.profile.section}
    shutil.rmtree(directory, ignore_errors=True)
    # Points last: a process is struck before and after all that a call does, what is broken in it included.
    system = System(
        *(directory, nursery, section),
        needs=plan.needs,
        imports=[*imports, "points"],
        seed=plan.seed,
        clock_off_s=plan.profile.clock_off_s,
    )
    with system:
        prepare(system)
        for role, count in processes.items():
            system.start(role, count, **(environment or {}))
        system.ready()
        system.supervise()
        evidence, trouble, crashes = _watch(plan, system)
    verdict = check(evidence)
    outcome = Outcome(plan, verdict, evidence.faults, time.monotonic() - began, directory, trouble, crashes)
    if outcome.kept:
        shutil.rmtree(directory)
    return outcome


def _watch(plan: Plan, system: System) -> tuple[Evidence, str, int]:
    """Submit the jobs, inject the faults, wait for the end of both; return evidence, trouble, and crashes."""
    progress = _Progress(time.monotonic())
    looks = system.directory / "looks.jsonl"
    with ThreadPoolExecutor(len(plan.jobs) + len(plan.faults) + 1) as pool:
        looking = pool.submit(keep_looking, system.services, list(CAPS), looks, progress.struck)
        submitted = {job.job_id: pool.submit(_submit, job, system, progress) for job in plan.jobs}
        faults = [pool.submit(_inject, fault, plan, system, progress) for fault in plan.faults]
        try:
            _await_work(plan, system, progress)
            gave_up = _await_end(plan, system, [*submitted.values(), *faults], progress)
        finally:
            progress.end()
    problems = _problems([looking, *faults, *submitted.values()])
    crashes = system.crashes
    system.stop_nodes()
    accepted = {job_id: future.result() for job_id, future in submitted.items() if not future.exception()}
    jobs = [
        expected_job(job.job, job.job_id, accepted[job.job_id], system.services)
        for job in plan.jobs
        if accepted.get(job.job_id)
    ]
    evidence = Evidence(
        caps=CAPS,
        max_attempts=MAX_ATTEMPTS,
        lease_s=system.settings.lease_s,
        jobs=jobs,
        items=job_items(system.services),
        rows=rows_of(system.services),
        runs=runs_in(system.history),
        looks=looks_in(looks),
        freezes=progress.freezes,
        faults=sorted(progress.faults, key=lambda fault: fault.at),
        gave_up=gave_up,
        labourer_of=labourers_of(jobs),
        steady=STEADY,
        rates={name: Rate(BURST, rate) for name, rate in RATES.items()},
        limits_s={"hang": plan.profile.limit_s},
    )
    return evidence, "; ".join(problems), crashes


def _submit(job: JobPlan, system: System, progress: _Progress) -> int:
    """Submit a job as often as planned and return how often that was."""
    count = 0
    for at_s in sorted(job.submit_at_s):
        if at_s > 0 and not progress.reached(at_s):
            break
        system.submit(dict(job.job), job.job_id, SUBMIT_S)
        count += 1
    return count


def _inject(fault: Fault, plan: Plan, system: System, progress: _Progress) -> None:
    if progress.reached(fault.at_s):
        progress.struck.set()
        progress.faults.append(inject(system, fault, plan.profile, progress.freezes))


def _await_work(plan: Plan, system: System, progress: _Progress) -> None:
    """Wait until work is well under way: processes have started up, as far as that shows in their first tasks."""
    starts = min(UNDER_WAY_STARTS, sum(job.tasks for job in plan.jobs if 0 in job.submit_at_s))
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: starts_in(system.history) >= starts, UNDER_WAY_S, "first tasks")
    progress.began = time.monotonic()
    progress.under_way.set()


def _await_end(plan: Plan, system: System, done: Sequence[Future[Any]], progress: _Progress) -> bool:
    """Wait until all is submitted, injected and closed; return whether that was given up."""
    # A wrong clock gives nothing away that is held, but makes somebody wait until it says that a lease has ended.
    more_s = plan.profile.clock_off_s if plan.needs & WRONG_CLOCKS else 0
    seen, moved_at = -1, time.monotonic()
    while not (all(future.done() for future in done) and _all_closed(plan, system)):
        size = sum(path.stat().st_size for path in system.history.glob("*.jsonl"))
        if size != seen:
            seen, moved_at = size, time.monotonic()
        now = time.monotonic()
        if now - more_s > min(moved_at + plan.profile.stall_s, progress.began + plan.profile.timeout_s):
            return True
        time.sleep(POLL_S)
    return False


def _all_closed(plan: Plan, system: System) -> bool:
    with contextlib.suppress(SoswError):  # not accepted yet, or the tables do not answer
        return all(system.services.job_table.record(job.job_id).state.is_ended for job in plan.jobs)
    return False


def _problems(futures: Sequence[Future[Any]] | Any) -> list[str]:
    errors = [future.exception() for future in futures if future.done()]
    return [f"{type(error).__name__}: {error}" for error in errors if error is not None]
