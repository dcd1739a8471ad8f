"""How full the slots are while tasks are queued, and how long a free one waits for the next task.

    python -m benchmarks.slots [--tasks 1000] [--long-tasks 150] [--rounds 5]

Each round runs so many tasks of 100 ms, and so many of 1 s, at a cap of 10, by one worker of 12 processes; a task is
asleep for its time. Looked at is the time while tasks are queued: from the start after the first 40 runs, when every
process has its connections, to the start of the last task.

- *Free slot to next start*: from the last line of a task to the first line of the one that follows it, so with the
  close of the one, the way of the hint and the claim of the other. The Nth end is followed by the start N + 10.
- *In use*, by the glossary: a slot with a lease, seen by looking into Redis at random times. The lease is that of a
  hint under way or of an attempt that runs; *by attempts* leaves the hints out, and is judged by the same target.
- *In bodies* leaves out the claim and the close too: the time within the labourer's own code, of all the time there is.
- *At once*: bodies that overlap, exactly, and leases, as far as seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.delay import CallTimes, delay_figures, more_per_call
from benchmarks.figures import Figure, main, median, percentile, tell
from benchmarks.sampling import sampling
from benchmarks.spans import Span
from benchmarks.system import LABOURER, Servers, System
from tests.harness.overlap import most_at_once

FULL = {"tasks": 1000, "long_tasks": 150, "rounds": 5}
QUICK = {"tasks": 100, "long_tasks": 60, "rounds": 1}

SLOTS = 10
#: More than slots, so that no slot waits for a process.
PROCESSES = 12
SHORT_MS, LONG_MS = 100, 1000
#: Runs before the clock starts.
WARM = 40
#: Seconds between two looks into Redis, on average.
LOOK_S = 0.02
START_S = 60.0
#: No run takes longer than so many times what the tasks alone take.
PATIENCE = 5


@dataclass(frozen=True)
class Look:
    """What Redis told at a time, monotonic seconds."""

    at: float
    pending: int
    running: int


@dataclass(frozen=True)
class Filled:
    """What one round showed.

    Parameters:
        gaps_s: From the end of each task to the start of the one that follows it.
        leased, running, in_bodies: Share of the slots that had a lease, an attempt, a body.
        bodies_at_once, leases_at_once: The most that were seen.
        calls: Of DynamoDB, timed meanwhile where they are delayed.
    """

    gaps_s: Sequence[float]
    leased: float
    running: float
    in_bodies: float
    bodies_at_once: int
    leases_at_once: int
    calls: CallTimes = field(default_factory=CallTimes)


def measure(tasks: int, long_tasks: int, rounds: int, delay_ms: int = 0) -> list[Figure]:
    """Return the figures of both lengths.

    Parameters:
        delay_ms: That a call of DynamoDB takes more. What a free slot waits for has no target then.
    """
    short, long, more = [], [], more_per_call(delay_ms)
    with Servers(delay_ms) as servers:
        for number in range(rounds):
            short.append(fill(servers, tasks, SHORT_MS))
            long.append(fill(servers, long_tasks, LONG_MS))
            shares = ", ".join(
                f"{one.leased:.1%} / {one.running:.1%} / {one.in_bodies:.1%}" for one in (short[-1], long[-1])
            )
            tell(f"slots{more}, round {number + 1} of {rounds}: leased / running / in bodies {shares}")
    return [
        Figure(
            f"free slot to next start{more}, median",
            1000 * median(median(one.gaps_s) for one in short),
            "ms",
            at_most=None if delay_ms else 15,
            detail=f"cap {SLOTS}, tasks of {SHORT_MS} ms, median of {rounds} rounds",
        ),
        Figure(
            f"free slot to next start{more}, 99th percentile",
            1000 * median(percentile(one.gaps_s, 0.99) for one in short),
            "ms",
            at_most=None if delay_ms else 60,
            detail=f"worst {1000 * max(max(one.gaps_s) for one in short):.0f} ms",
        ),
        *_shares(short, f"{SHORT_MS} ms{more}"),
        *_shares(long, f"{LONG_MS // 1000} s{more}"),
        *delay_figures(delay_ms, [one.calls for one in (*short, *long)]),
    ]


def _shares(filled: Sequence[Filled], length: str) -> list[Figure]:
    def share(name: str, values: Sequence[float], at_least: float | None = 97.0) -> Figure:
        detail = f"rounds from {100 * min(values):.1f} to {100 * max(values):.1f} %"
        return Figure(f"slots {name}, tasks of {length}", 100 * median(values), "%", at_least=at_least, detail=detail)

    bodies, leases = max(one.bodies_at_once for one in filled), max(one.leases_at_once for one in filled)
    return [
        share("in use", [one.leased for one in filled]),
        share("in use by attempts", [one.running for one in filled]),
        share("in bodies", [one.in_bodies for one in filled], at_least=None),
        Figure(
            f"at once, tasks of {length}",
            max(bodies, leases),
            at_most=SLOTS,
            detail=f"{bodies} bodies, {leases} leases",
        ),
    ]


def fill(servers: Servers, tasks: int, milliseconds: int) -> Filled:
    """Run so many tasks of that length."""
    looks: list[Look] = []
    timeout_s = START_S + PATIENCE * tasks * milliseconds / 1000 / SLOTS
    with System(servers, slots=SLOTS) as system:

        def look() -> None:
            at, usage = time.monotonic(), system.services.slots.look(LABOURER)
            looks.append(Look(at, usage.pending, usage.running))

        job_id = system.queue(tasks, milliseconds)
        system.start_own()
        system.start_node(PROCESSES)
        with sampling(look, LOOK_S):
            system.wait_for_runs(WARM, timeout_s)
            with servers.timing_calls() as calls:
                system.wait_for_runs(tasks, timeout_s)
        system.wait_for_end(job_id, timeout_s)
        spans = system.spans.read()
    assert len(spans) == tasks, f"{len(spans)} runs of {tasks} tasks"
    return replace(judge(spans, looks), calls=calls)


def judge(spans: Sequence[Span], looks: Sequence[Look]) -> Filled:
    """Return what the runs and the looks show of the time while tasks were queued."""
    starts, ends = sorted(span.start for span in spans), sorted(span.end for span in spans)
    begin, end = starts[WARM], starts[-1]
    within = [look for look in looks if begin <= look.at <= end]
    inside = sum(max(0.0, min(span.end, end) - max(span.start, begin)) for span in spans)
    return Filled(
        gaps_s=[start - ended for ended, start in zip(ends, starts[SLOTS:], strict=False) if start > begin],
        leased=sum(look.pending + look.running for look in within) / len(within) / SLOTS,
        running=sum(look.running for look in within) / len(within) / SLOTS,
        in_bodies=inside / (end - begin) / SLOTS,
        bodies_at_once=most_at_once((span.start, span.end) for span in spans),
        leases_at_once=max(look.pending + look.running for look in looks),
    )


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
