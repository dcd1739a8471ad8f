"""What a task costs with a long queue in the table, beside a short one.

    python -m benchmarks.queue_length [--long 100000] [--short 100] [--tasks 100] [--rounds 20]

Two labourers with tables of their own, one with a long queue and one with a short one. Each round takes so many tasks
through their whole life with the one and with the other, the services in this process and without Celery; the queues
keep their lengths. CPU time is that of this process, of the DynamoDB engine and of Redis together.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from benchmarks.aws_cost import Meter, total
from benchmarks.figures import Figure, main, median, tell
from benchmarks.life import STAGES, Life
from benchmarks.system import Servers

FULL = {"long": 100_000, "short": 100, "tasks": 100, "rounds": 20}
QUICK = {"long": 1000, "short": 100, "tasks": 50, "rounds": 2}

MOST = 1.2


@dataclass
class Times:
    """Seconds of each stage: on the clock, and on all CPUs that worked for it."""

    wall_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


class Timer:
    """Measures stages.

    Parameters:
        servers: Processes whose CPU time counts beside that of this one.
    """

    def __init__(self, *servers: int) -> None:
        self._servers = [psutil.Process(pid) for pid in servers]
        self._times = Times()

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Add to the stage's time."""
        cpu, wall = self._cpu(), time.perf_counter()
        yield
        self._times.wall_s[stage] += time.perf_counter() - wall
        self._times.cpu_s[stage] += self._cpu() - cpu

    def take(self) -> Times:
        """Return what was added since the last call."""
        taken, self._times = self._times, Times()
        return taken

    def _cpu(self) -> float:
        servers = (process.cpu_times() for process in self._servers)
        return time.process_time() + sum((times.user + times.system for times in servers), 0.0)


def measure(long: int, short: int, tasks: int, rounds: int) -> list[Figure]:
    """Return for each stage what a task costs with the long queue, as a ratio to what it costs with the short one."""
    with Servers() as servers:
        timer = Timer(servers.redis.pid, servers.dynamodb.pid)
        lives = [Life(servers.redis.url, servers.dynamodb.endpoint, servers.directory, timer.during) for _ in range(2)]
        for life, queued in zip(lives, (short, long), strict=True):
            life.queue(queued)
            _turn(life, tasks)
            tell(f"queue_length: {queued:,} queued")
        timer.take()
        measured: list[tuple[Times, Times]] = []
        for _ in range(rounds):
            both = []
            for life in lives:
                _turn(life, tasks)
                both.append(timer.take())
            measured.append((both[0], both[1]))
        few, many = (_units_read(life, tasks) for life in lives)
    detail = f"{long:,} queued to {short:,}, median of {rounds} rounds of {tasks} tasks"
    return [
        Figure("life, long queue to short", _wall(measured, STAGES), at_most=MOST, detail=detail),
        Figure("life by CPU, long queue to short", _cpu(measured, STAGES), at_most=MOST, detail="sum of all rounds"),
        *(_stage(stage, measured, tasks) for stage in STAGES),
        Figure("read units per task, long queue", many, at_most=2, detail=f"short queue {few:.2f}"),
    ]


def _turn(life: Life, tasks: int) -> None:
    """Take so many tasks through their life; as many are queued after as before."""
    life.queue(tasks)
    life.run(tasks)


def _units_read(life: Life, tasks: int) -> float:
    meter = Meter()
    for client in life.clients:
        meter.attach(client)
    _turn(life, tasks)
    return total(meter.take()).reads / tasks


def _wall(measured: Sequence[tuple[Times, Times]], stages: Sequence[str]) -> float:
    """Return the median of the rounds' ratios."""
    return median(
        sum(many.wall_s[stage] for stage in stages) / sum(few.wall_s[stage] for stage in stages)
        for few, many in measured
    )


def _cpu(measured: Sequence[tuple[Times, Times]], stages: Sequence[str]) -> float:
    """Return the ratio of the sums: the system tells CPU time in steps that are too coarse for a round."""
    few, many = (
        sum((times.cpu_s[stage] for times in side for stage in stages), 0.0) for side in zip(*measured, strict=True)
    )
    return many / few


def _stage(stage: str, measured: Sequence[tuple[Times, Times]], tasks: int) -> Figure:
    few, many = (median(times.wall_s[stage] for times in side) / tasks * 1000 for side in zip(*measured, strict=True))
    detail = f"{many:.3f} to {few:.3f} ms per task; by CPU {_cpu(measured, [stage]):.2f}"
    return Figure(f"{stage}, long queue to short", _wall(measured, [stage]), at_most=MOST, detail=detail)


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
