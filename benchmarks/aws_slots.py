"""How full the slots are, and how long a free one waits, where a call of DynamoDB takes as long as on AWS.

    python -m benchmarks.aws_slots [--tasks 1000] [--long-tasks 150] [--rounds 5] [--delay-ms 5]

As `benchmarks.slots`, but between all processes and the engine stands a proxy that holds each answer back for 5 ms, as
in `benchmarks.aws_drain`; what a call really took longer is told with the figures. Slots have to be as full as without
the delay. What a free slot waits for is told without a target: calls of DynamoDB are part of it.
"""

from __future__ import annotations

from benchmarks import slots
from benchmarks.figures import main

FULL = {**slots.FULL, "delay_ms": 5}
QUICK = {**slots.QUICK, "delay_ms": 5}

if __name__ == "__main__":
    main(__doc__, slots.measure, FULL, QUICK)
