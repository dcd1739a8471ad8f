"""How often a whole system with nothing to do calls DynamoDB.

    python -m benchmarks.idle [--labourers 10] [--seconds 300]

Essentials, beat and one labourer's node run, as they would in production; that labourer has run some tasks before. What
is counted is every call of any process, in a proxy in front of the engine, from a minute after the start. The system's
calls are divided by its labourers.
"""

from __future__ import annotations

import time

from benchmarks.call_counter import CallCounter
from benchmarks.figures import Figure, main, tell
from benchmarks.system import LABOURER, Servers, System

FULL = {"labourers": 10, "seconds": 300}
QUICK = {"labourers": 2, "seconds": 5}

TASKS = 50
START_S = 90.0
#: Of the time that is counted: by then what the tasks have caused is over.
SETTLE_SHARE = 1 / 3


def measure(labourers: int, seconds: int) -> list[Figure]:
    """Return the calls a minute for each labourer."""
    names = [LABOURER, *(f"idle_{number}" for number in range(1, labourers))]
    entries = {name: {"max_simultaneous_invocations": 10, "duration": 60} for name in names}
    with (
        Servers() as servers,
        CallCounter(servers.dynamodb.endpoint) as counter,
        System(servers, slots=10, endpoint=counter.endpoint, labourers=entries) as system,
    ):
        job_id = system.queue(TASKS)
        system.start_own()
        system.start_node(2)
        system.wait_for_end(job_id, START_S)
        time.sleep(seconds * SETTLE_SHARE)
        tell(f"idle: counting for {seconds} s")
        before = counter.calls()
        time.sleep(seconds)
        calls = counter.calls() - before
    minutes = seconds / 60
    each = ", ".join(f"{name} {count / minutes:.1f}" for name, count in sorted(calls.items()))
    return [
        Figure(
            "idle labourer, calls of DynamoDB a minute",
            calls.total() / minutes / labourers,
            at_most=1,
            detail=f"{labourers} labourers, {seconds} s; the whole system: {each or 'none'}",
        )
    ]


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
