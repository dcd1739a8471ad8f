"""The story of the demo: workers start, jobs are submitted, a worker is killed, all tasks end all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sosw_celery.cli.demo.census.jobs import build_jobs, plain_loop
from sosw_celery.cli.demo.check import Check, Outcome, checks_of, outcome_of
from sosw_celery.cli.demo.observe import Observer, Sight
from sosw_celery.cli.demo.show import Screen
from sosw_celery.cli.init import make_places
from sosw_celery.cli.output import number
from sosw_celery.cli.processes import CeleryProcess, Processes, beat, ending_words, essentials, labourer_node
from sosw_celery.cli.runtime import load_services
from sosw_celery.cli.schedule import submit
from sosw_celery.system.exits import CommandFailed

if TYPE_CHECKING:
    from sosw_celery.wiring.container import Services

__all__ = ["Ending", "tell"]

#: Share of its job that the first labourer has done when its worker is killed.
KILL_AT = 0.4
#: Seconds from the kill to the start of the next worker.
REPLACE_S = 2.0
#: Seconds between two looks.
LOOK_S = 0.4
#: Seconds after which the demo has failed.
TIME_LIMIT_S = 240.0

ESSENTIALS_CONCURRENCY = 2

Job = Mapping[str, Any]


@dataclass(frozen=True)
class Ending:
    """How the story ended.

    Parameters:
        seconds: From the start of the servers to the last check.
    """

    outcomes: Sequence[Outcome]
    checks: Sequence[Check]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it but the rows, as JSON can hold it."""
        return {
            "holds": self.holds,
            "seconds": round(self.seconds, 1),
            "checks": [vars(check) for check in self.checks],
            "jobs": [
                {
                    **outcome.summary.as_dict(),
                    "failed_attempts": outcome.failed,
                    "retried": outcome.retried,
                    "totals": outcome.totals,
                }
                for outcome in self.outcomes
            ],
        }


def tell(processes: Processes, screen: Screen, modules: int | None = None) -> Ending:
    """Run the jobs to their end with a kill on the way, and return what became of them.

    Raises:
        CommandFailed: A process ended by itself, or the jobs did not end in time.
    """
    services = load_services()
    make_places(services)
    jobs = build_jobs(modules)
    _start_all(services, processes, screen)
    job_ids = {job["lambda_name"]: submit(job) for job in jobs}
    for job in jobs:
        screen.event(f"submitted a job for {job['lambda_name']}: {_size(job)}")
    observer = Observer(services, job_ids)
    plain = PlainLoop(jobs)
    _Watch(services, processes, screen, observer, plain).until_all_have_ended()
    outcomes = [outcome_of(services, job, job_ids[job["lambda_name"]]) for job in jobs]
    screen.event("every task is closed; comparing with a plain loop over the same files")
    checks = checks_of(services, outcomes, plain.result(), observer.most_slots_seen)
    return Ending(outcomes, checks, screen.seconds)


def _start_all(services: Services, processes: Processes, screen: Screen) -> None:
    assert processes.log_dir is not None
    processes.start(essentials(ESSENTIALS_CONCURRENCY))
    for labourer_id in services.settings.labourers:
        _start_node(services, processes, labourer_id)
    processes.start(beat(processes.log_dir / "beat-schedule"))
    screen.event(f"started {len(processes.running)} processes: {', '.join(p.role.name for p in processes.running)}")


def _start_node(services: Services, processes: Processes, labourer_id: str) -> CeleryProcess:
    slots = services.settings.labourer(labourer_id).slots
    return processes.start(labourer_node(labourer_id, slots))


def _size(job: Job) -> str:
    modules = sum(len(package["modules"]) for package in job["packages"].values())
    packages = len(job["packages"])
    return f"{number(modules)} modules in {number(packages)} package{'s' if packages > 1 else ''}"


class PlainLoop:
    """The same totals without any of what the demo shows, computed beside it."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._totals: dict[str, dict[str, Any]] = {}
        self._thread = threading.Thread(target=self._run, args=(jobs,), daemon=True)
        self._is_begun = False

    def begin(self) -> None:
        """Begin to compute, unless that was begun."""
        if not self._is_begun:
            self._is_begun = True
            self._thread.start()

    def result(self) -> dict[str, dict[str, Any]]:
        """Return the totals of each labourer; wait for them where that is necessary."""
        self.begin()
        self._thread.join()
        return self._totals

    def _run(self, jobs: Sequence[Job]) -> None:
        self._totals = plain_loop(jobs)


@dataclass
class _Watch:
    """Looks on, kills a worker when its time has come, and has it replaced."""

    services: Services
    processes: Processes
    screen: Screen
    observer: Observer
    plain: PlainLoop
    replace_at: float = 0.0
    victim: str = ""
    is_loss_noticed: bool = False

    def until_all_have_ended(self) -> None:
        """Return when both jobs have ended.

        Raises:
            CommandFailed: A process ended by itself, or the jobs did not end in time.
        """
        deadline = time.monotonic() + TIME_LIMIT_S
        sights = self.observer.look()
        while not all(sight.has_ended for sight in sights):
            self.screen.progress(sights)
            self._fail_if_any_ended()
            self._act(sights[0])
            if time.monotonic() > deadline:
                raise CommandFailed(f"the jobs have not ended after {TIME_LIMIT_S:g} s")
            time.sleep(LOOK_S)
            sights = self.observer.look()
        self.screen.progress(sights)

    def _act(self, sight: Sight) -> None:
        """Do what the story has next, at most one thing a look."""
        if not self.victim and sight.share >= KILL_AT and sight.running:
            self._kill(sight)
        elif self.replace_at and time.monotonic() >= self.replace_at:
            self.replace_at = 0.0
            _start_node(self.services, self.processes, self.victim)
            self.screen.event(f"started a new worker node for {self.victim}")
        elif self.victim and sight.failed and not self.is_loss_noticed:
            self.is_loss_noticed = True
            self.screen.event("the leases have ended: the lost attempts are noticed, their tasks are tried again")

    def _kill(self, sight: Sight) -> None:
        self.victim = sight.labourer_id
        self.replace_at = time.monotonic() + REPLACE_S
        node = next(process for process in self.processes.running if process.role.name == self.victim)
        self.processes.sacrifice(node)
        lease_s = self.services.settings.lease_s
        self.screen.event(f"killed the worker node of {self.victim} (SIGKILL), running in it: {sight.running}", "red")
        self.screen.event(f"a slot stays taken until its lease ends, {lease_s:g} s after the node's last sign of life")
        # The machine has time for it now.
        self.plain.begin()

    def _fail_if_any_ended(self) -> None:
        for process in self.processes.ended():
            raise CommandFailed(f"{process.role.name} has ended by itself ({ending_words(process.exit_status)})")
