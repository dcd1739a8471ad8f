"""How fast queued no-op tasks are drained, beside plain Celery.

    python -m benchmarks.drain [--tasks 20000] [--rounds 5]

Each round drains so many tasks with plain Celery, then with ours, on the same Redis, each side by one worker of two
processes (prefork). All tasks are queued before a worker starts: messages in the broker there, rows in the table here.
The clock runs from the run that ends the first tenth, when everything is warm, to the last. Plain Celery has its own
defaults (messages are acknowledged early, four are prefetched per process, no results are kept, no task is logged). On
our side the system's own worker and beat run on the same cores, and archive meanwhile what was closed; the cap is 10.

What bounds our side is measured beside it: two processes that claim and close rows in a bare loop and do nothing else,
and two that archive them as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.bare_writes import drain_bare
from benchmarks.delay import CallTimes
from benchmarks.figures import Figure, main, median, tell
from benchmarks.system import Plain, Servers, Side, System
from benchmarks.usage import cpu_between

__all__ = ["Drained", "Load", "cpu_figure", "drain_ours", "drain_plain", "rate_figure", "round_by_round"]

FULL = {"tasks": 20_000, "rounds": 5}
QUICK = {"tasks": 300, "rounds": 1}

PROCESSES = 2
SLOTS = 10
#: A drain that is slower than this hangs.
SLOWEST_PER_S = 20
START_S = 60.0


@dataclass(frozen=True)
class Load:
    """What is drained.

    Parameters:
        processes: Of the worker, on either side.
        slots: The cap of our labourer.
        milliseconds: That each body is asleep.
    """

    tasks: int
    processes: int = PROCESSES
    slots: int = SLOTS
    milliseconds: int = 0

    @property
    def timeout_s(self) -> float:
        """How long the drain may take."""
        return START_S + self.tasks * (1 / SLOWEST_PER_S + self.milliseconds / 1000 / self.processes)


@dataclass(frozen=True)
class Drained:
    """One side of a round.

    Parameters:
        tasks: Runs that ended after `started_at`.
        started_at, ended_at: Monotonic seconds at which the clock began, and at which the last run ended.
        cpu_ms: CPU milliseconds per task of each process.
        archived_at: When the last task was archived; ours only.
        calls: Of DynamoDB, timed meanwhile where they are delayed.
    """

    tasks: int
    started_at: float
    ended_at: float
    cpu_ms: dict[str, float]
    archived_at: float = math.inf
    calls: CallTimes = field(default_factory=CallTimes)

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / (self.ended_at - self.started_at)

    @property
    def archived_rate(self) -> float:
        """Tasks per second until the last one was archived."""
        return self.tasks / (self.archived_at - self.started_at)


@dataclass(frozen=True)
class Round:
    """One drain of each kind, all of as many tasks.

    Parameters:
        bare, bare_archived: Tasks per second of bare loops that claim and close, and of those that archive as well.
    """

    plain: Drained
    ours: Drained
    bare: float
    bare_archived: float


def measure(tasks: int, rounds: int) -> list[Figure]:
    """Return the ratio of the rates, the rates, and the CPU time of all processes."""
    drained = [_round(tasks) for _ in range(rounds)]
    plain, ours = [one.plain for one in drained], [one.ours for one in drained]
    ratios = [one.ours.rate / one.plain.rate for one in drained]
    return [
        Figure(
            "drain, ours to plain Celery",
            median(ratios),
            at_least=0.5,
            detail=f"{tasks:,} tasks, median of {round_by_round(ratios)}",
        ),
        Figure(
            "drain until archived, ours to plain Celery",
            median(one.ours.archived_rate / one.plain.rate for one in drained),
        ),
        Figure(
            "claims and closes alone to plain Celery",
            median(one.bare / one.plain.rate for one in drained),
            detail=f"bare loops of {PROCESSES} processes, {median(one.bare for one in drained):,.0f} tasks/s",
        ),
        Figure(
            "claims, closes and archiving alone to plain Celery",
            median(one.bare_archived / one.plain.rate for one in drained),
            detail=f"the same, {median(one.bare_archived for one in drained):,.0f} tasks/s",
        ),
        rate_figure("drain, plain Celery", plain),
        rate_figure("drain, ours", ours),
        cpu_figure("CPU per task, plain Celery", plain),
        cpu_figure("CPU per task, ours", ours),
    ]


def round_by_round(ratios: Sequence[float]) -> str:
    """Return the ratio of each round, in their order."""
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)


def _round(tasks: int) -> Round:
    """Drain with plain Celery, with ours, and with bare loops.

    The engine gets slower with what it holds, several times over in a few rounds. So each drain has it to itself.
    """
    with Servers() as servers:
        plain, ours = drain_plain(servers, Load(tasks)), drain_ours(servers, Load(tasks))
    tell(f"drain, {tasks:,}: plain {plain.rate:.0f}/s, ours {ours.rate:.0f}/s, archived {ours.archived_rate:.0f}/s")
    bare, bare_archived = (_bare(tasks, archive=archive) for archive in (False, True))
    tell(f"drain, {tasks:,}: bare claims and closes {bare:.0f}/s, archived as well {bare_archived:.0f}/s")
    return Round(plain, ours, bare, bare_archived)


def _bare(tasks: int, *, archive: bool) -> float:
    with Servers() as servers:
        return drain_bare(servers, tasks, PROCESSES, archive=archive)


def drain_plain(servers: Servers, load: Load) -> Drained:
    """Drain messages with plain Celery."""
    with Plain(servers) as plain:
        plain.queue(load.tasks, load.milliseconds)
        plain.start_worker(load.processes)
        return _drained(plain, load)


def drain_ours(servers: Servers, load: Load, without: Sequence[str] = ()) -> Drained:
    """Drain rows with ours.

    Parameters:
        without: Parts that the system does without (`benchmarks.parts`).
    """
    with System(servers, slots=load.slots, without=without) as system:
        job_id = system.queue(load.tasks, load.milliseconds)
        system.start_own()
        system.start_node(load.processes)
        drained = _drained(system, load)
        system.wait_for_end(job_id, load.timeout_s)
        return replace(drained, archived_at=time.monotonic())


def _drained(side: Side, load: Load) -> Drained:
    """Return how it went, once all tasks have run."""
    warm = load.tasks // 10
    side.wait_for_runs(warm, load.timeout_s)
    before, counted = side.usage(), load.tasks - side.spans.count()
    with side.servers.timing_calls() as calls:
        side.wait_for_runs(load.tasks, load.timeout_s)
    cpu = cpu_between(before, side.usage())
    ends = sorted(span.end for span in side.spans.read())
    assert len(ends) == load.tasks, f"{len(ends)} runs of {load.tasks} tasks"
    # With a handful of tasks all may have run before the first look.
    cpu_ms = {name: value / counted * 1000 for name, value in cpu.items() if counted}
    return Drained(load.tasks - warm, ends[warm - 1], ends[-1], cpu_ms, calls=calls)


def rate_figure(name: str, drained: Sequence[Drained]) -> Figure:
    """Return the rate of all rounds."""
    rates = [one.rate for one in drained]
    return Figure(name, median(rates), "tasks/s", detail=f"rounds from {min(rates):,.0f} to {max(rates):,.0f}")


def cpu_figure(name: str, drained: Sequence[Drained]) -> Figure:
    """Return the CPU time of all processes, with that of each."""
    names = sorted({name for one in drained for name in one.cpu_ms})
    each = {name: median(one.cpu_ms.get(name, 0.0) for one in drained) for name in names}
    return Figure(
        name, sum(each.values()), "ms", detail=", ".join(f"{name} {value:.2f}" for name, value in each.items())
    )


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
