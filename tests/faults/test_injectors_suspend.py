"""An imitated suspend is one for who asks `time.monotonic`, and for nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.injectors import suspend
from tests.nursery import ROOT

# Tells what its clocks say, in the process itself and in a fork of it, whenever it is asked to.
PROBE = """
import json, os, sys, time
from tests.faults.injectors import suspend
from sosw_celery import clock
def tell():
    print(json.dumps([time.monotonic(), clock.steady(), time.time()]), flush=True)
for _ in sys.stdin:
    tell()
    pid = os.fork()
    if not pid:
        tell()
        os._exit(0)
    os.waitpid(pid, 0)
"""
MISSING_S = 1000.0


def test_the_monotonic_clock_of_a_node_misses_the_time_of_the_suspend(tmp_path: Path) -> None:
    """It does in the node's processes alone; the clock by which leases are judged, and the time of day, go on."""
    environment = {**os.environ, "TEST_POINTS": str(tmp_path), "TEST_NODE": "worker1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    tell, found = process.stdin, process.stdout

    def clocks() -> list[list[float]]:
        tell.write("\n")
        tell.flush()
        here = [time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time()]
        return [[clock - own for clock, own in zip(json.loads(found.readline()), here, strict=True)] for _ in range(2)]

    for missing_s in (0.0, MISSING_S, 2 * MISSING_S):
        for monotonic, steady, wall in clocks():
            assert abs(monotonic + missing_s) < 100
            assert abs(steady) < 100
            assert abs(wall) < 100
        suspend.add(tmp_path, "worker1", MISSING_S)
        suspend.add(tmp_path, "worker2", 7 * MISSING_S)
    process.communicate()
