"""How fast queued no-op tasks are drained, beside plain Celery.

    python -m benchmarks.drain [--tasks 4000] [--rounds 5]

Each round drains so many tasks with plain Celery, then with ours, on the same Redis, both by one worker of two
processes (prefork). All tasks are queued before a worker starts: messages in the broker there, rows in the table here.
The clock runs from the run that ends the first tenth, when everything is warm, to the last. Plain Celery has its own
defaults (messages are acknowledged early, four are prefetched per process, no results are kept). On our side the
system's own worker and beat run on the same cores, and archive what was closed meanwhile; the cap is 10.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from benchmarks.figures import Figure, main, median, tell
from benchmarks.system import Plain, Servers, Side, System
from benchmarks.usage import cpu_between

FULL = {"tasks": 4000, "rounds": 5}
QUICK = {"tasks": 300, "rounds": 1}

PROCESSES = 2
SLOTS = 10
#: A drain that is slower than this hangs.
SLOWEST_PER_S = 20
START_S = 60.0


@dataclass(frozen=True)
class Drained:
    """One side of a round.

    Parameters:
        tasks: Runs that ended after `started_at`.
        started_at, ended_at: Monotonic seconds at which the clock began, and at which the last run ended.
        cpu_ms: CPU milliseconds per task of each process.
        archived_at: When the last task was archived; ours only.
    """

    tasks: int
    started_at: float
    ended_at: float
    cpu_ms: dict[str, float]
    archived_at: float = math.inf

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.tasks / (self.ended_at - self.started_at)

    @property
    def archived_rate(self) -> float:
        """Tasks per second until the last one was archived."""
        return self.tasks / (self.archived_at - self.started_at)


def measure(tasks: int, rounds: int) -> list[Figure]:
    """Return the ratio of the rates, the rates, and the CPU time of our processes."""
    ours, plain = [], []
    with Servers() as servers:
        for number in range(rounds):
            plain.append(drain_plain(servers, tasks))
            ours.append(drain_ours(servers, tasks))
            rates = (
                f"{plain[-1].rate:.0f} tasks/s plain, {ours[-1].rate:.0f} ours, {ours[-1].archived_rate:.0f} archived"
            )
            tell(f"drain, round {number + 1} of {rounds}: {rates}")
    ratio = median(us.rate / them.rate for us, them in zip(ours, plain, strict=True))
    archived = median(us.archived_rate / them.rate for us, them in zip(ours, plain, strict=True))
    sizes = f"median of {rounds} rounds of {tasks:,} tasks"
    return [
        Figure("drain, ours to plain Celery", ratio, at_least=0.5, detail=sizes),
        Figure("drain until archived, ours to plain Celery", archived, detail=sizes),
        Figure("drain, plain Celery", median(them.rate for them in plain), "tasks/s"),
        Figure("drain, ours", median(us.rate for us in ours), "tasks/s"),
        *_cpu_figures("plain Celery", plain),
        *_cpu_figures("ours", ours),
    ]


def drain_plain(servers: Servers, tasks: int) -> Drained:
    """Drain so many messages with plain Celery."""
    with Plain(servers) as plain:
        plain.queue(tasks)
        plain.start_worker(PROCESSES)
        return _drained(plain, tasks)


def drain_ours(servers: Servers, tasks: int) -> Drained:
    """Drain so many rows with ours."""
    with System(servers, slots=SLOTS) as system:
        job_id = system.queue(tasks)
        system.start_own()
        system.start_node(PROCESSES)
        drained = _drained(system, tasks)
        system.wait_for_end(job_id, timeout_s(tasks))
        return replace(drained, archived_at=time.monotonic())


def timeout_s(tasks: int) -> float:
    """Return how long a drain may take."""
    return START_S + tasks / SLOWEST_PER_S


def _drained(side: Side, tasks: int) -> Drained:
    """Return how it went, once all tasks have run."""
    warm = tasks // 10
    side.wait_for_runs(warm, timeout_s(tasks))
    before, counted = side.usage(), tasks - side.spans.count()
    side.wait_for_runs(tasks, timeout_s(tasks))
    cpu = cpu_between(before, side.usage())
    ends = sorted(span.end for span in side.spans.read())
    assert len(ends) == tasks, f"{len(ends)} runs of {tasks} tasks"
    cpu_ms = {name: value / counted * 1000 for name, value in cpu.items()}
    return Drained(tasks - warm, ends[warm - 1], ends[-1], cpu_ms)


def _cpu_figures(side: str, drained: list[Drained]) -> list[Figure]:
    """Return the CPU time of each process and of all."""
    names = sorted({name for one in drained for name in one.cpu_ms})
    each = {name: median(one.cpu_ms.get(name, 0.0) for one in drained) for name in names}
    detail = ", ".join(f"{name} {value:.2f}" for name, value in each.items())
    return [Figure(f"CPU per task, {side}", sum(each.values()), "ms", detail=detail)]


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
