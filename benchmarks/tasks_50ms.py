"""How fast tasks of 50 ms are worked off where a call of DynamoDB takes as long as on AWS, beside plain Celery.

    python -m benchmarks.tasks_50ms [--tasks 2000] [--rounds 5] [--processes 4] [--slots 4] [--delay-ms 5]
    python -m benchmarks.tasks_50ms --without item_parser

Both sides run the same bodies at the same concurrency: one worker of 4 processes each, a body is asleep for 50 ms, and
our cap is the number of processes. So what is left of a process's time counts, not of a core's: with 10 processes the
engine and the proxy, which run on the same two cores, keep a process waiting for a core now and then, and the ratio is
0.02 lower. All else is as in `benchmarks.aws_drain`: the delay and how it is measured, the turns, `--without`.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.aws_drain import compare
from benchmarks.drain import Load
from benchmarks.figures import Figure, main
from benchmarks.parts import PARTS

FULL = {"tasks": 2000, "rounds": 5, "processes": 4, "slots": 4, "delay_ms": 5}
QUICK = {"tasks": 200, "rounds": 1, "processes": 4, "slots": 4, "delay_ms": 5}

MILLISECONDS = 50
#: Of plain Celery's rate.
TARGET = 0.85


def measure(tasks: int, rounds: int, processes: int, slots: int, delay_ms: int, without: Sequence[str]) -> list[Figure]:
    """Return the ratio of the rates, the rates, the CPU time of all processes, and the delay."""
    load = Load(tasks, processes=processes, slots=slots, milliseconds=MILLISECONDS)
    return compare(f"tasks of {MILLISECONDS} ms", load, rounds, delay_ms, without, at_least=TARGET)


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK, parts=PARTS)
