"""A wrong clock is wrong in all that asks for the time, and in nothing else."""

from __future__ import annotations

import calendar
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.faults.injectors.clocks import IS_AVAILABLE, SHARED_MEMORY, ChangingClock, clean_up, wrong_clock
from tests.faults.injectors.redis_server import Redis

pytestmark = pytest.mark.skipif(not IS_AVAILABLE, reason="libfaketime's package is for Linux on x86-64 only")

MINUTES_5 = 300

# Tells how far its clocks are from those of who started it, and how long waits of 0.1 s take: in the process itself, in
# a thread, in a fork and in a fork that sets its own clock. Then it waits to be killed.
PROBE = """
import json, os, select, sys, threading, time
from datetime import datetime, timezone
from sosw_celery import clock
wall, mono = json.loads(sys.argv[1])
event, queue = threading.Event(), select.epoll()
WAITS = {
    "sleep": lambda: time.sleep(0.1),
    "event": lambda: event.wait(0.1),
    "select": lambda: select.select([], [], [], 0.1),
    "epoll": lambda: queue.poll(0.1),
}
def took(wait):
    began = time.monotonic()
    wait()
    return time.monotonic() - began
def probe(name):
    passed = time.monotonic() - mono
    found = {
        "time": time.time() - wall - passed,
        "datetime": datetime.now(timezone.utc).timestamp() - wall - passed,
        "ours": float(clock.now()) - wall - passed,
        "monotonic": passed,
        "waits": {name: took(wait) for name, wait in WAITS.items()},
    }
    print(json.dumps([name, found]), flush=True)
def in_fork(name, **environment):
    pid = os.fork()
    if not pid:
        os.environ.update(environment)
        probe(name)
        os._exit(0)
    os.waitpid(pid, 0)
probe("process")
thread = threading.Thread(target=probe, args=["thread"])
thread.start()
thread.join()
in_fork("fork")
in_fork("right fork", FAKETIME="+0")
print("[]", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("off_s", [MINUTES_5, -MINUTES_5])
def test_it_is_off_for_the_process_and_its_forks_and_spans_stay_right(off_s: int) -> None:
    """Every way to ask for the time is off by the minutes asked for; time-outs and the monotonic clock are not."""
    now = json.dumps([time.time(), time.monotonic()])
    process = subprocess.Popen(
        [sys.executable, "-c", PROBE, now],
        env={**os.environ, **wrong_clock(off_s)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [json.loads(line) for line in iter(process.stdout.readline, "[]\n")]
    process.kill()
    process.communicate()
    clean_up()
    found: dict[str, dict[str, Any]] = dict(lines)
    assert found.keys() == {"process", "thread", "fork", "right fork"}
    for name, clocks in found.items():
        expected = 0 if name == "right fork" else off_s
        assert [clocks[kind] for kind in ("time", "datetime", "ours")] == pytest.approx([expected] * 3, abs=10)
        assert 0 < clocks["monotonic"] < 100
        assert all(0.1 <= seconds < 100 for seconds in clocks["waits"].values())
    assert not list(SHARED_MEMORY.glob(f"*faketime*_{process.pid}"))


# What a request is signed with, whether it is taken, and what Redis says the time is.
CALLS = """
import json, redis, sys
from sosw_celery.stores.dynamodb import client as dynamodb_client
client = dynamodb_client.connect(endpoint_url=sys.argv[1], region_name="eu-west-1")
dates = []
client.meta.events.register("before-send", lambda request, **_: dates.append(request.headers["X-Amz-Date"].decode()))
tables = client.list_tables()["ResponseMetadata"]["HTTPStatusCode"]
with redis.from_url(sys.argv[2]) as server:
    print(json.dumps([dates[0], tables, server.time()]))
"""


@pytest.mark.parametrize("off_s", [MINUTES_5, -MINUTES_5])
def test_requests_are_signed_with_it_and_redis_has_its_own(off_s: int, dynamodb_endpoint: str, redis_url: str) -> None:
    """The signature carries the wrong time, which the engine does not mind; Redis goes by its own clock."""
    completed = subprocess.run(
        [sys.executable, "-c", CALLS, dynamodb_endpoint, redis_url],
        env={**os.environ, **wrong_clock(off_s)},
        check=True,
        capture_output=True,
        text=True,
    )
    signed, status, (seconds, _) = json.loads(completed.stdout)
    now = time.time()
    signed_at = calendar.timegm(time.strptime(signed, "%Y%m%dT%H%M%SZ"))
    assert signed_at - now == pytest.approx(off_s, abs=30)
    assert status == 200
    assert seconds == pytest.approx(now, abs=30)


def test_the_clock_of_a_redis_jumps_while_it_runs(tmp_path: Path) -> None:
    """Ahead and back: its time, that of its scripts and of its replica jump, and nothing is lost by it."""
    clock = ChangingClock(tmp_path / "clock")
    primary, replica = Redis(tmp_path / "primary", clock), Redis(tmp_path / "replica", clock)
    with primary, replica, redis.from_url(primary.url) as client, redis.from_url(replica.url) as of_replica:
        replica.follow(primary)
        script = client.register_script("return redis.call('TIME')[1]")
        client.set("kept", "yes")

        def offs() -> list[float]:
            return [seconds - time.time() for seconds in (client.time()[0], int(script()), of_replica.time()[0])]

        for jump_s, expected in ((30, 30), (-60, -30)):
            clock.jump(jump_s)
            deadline = time.monotonic() + 20
            while offs() != pytest.approx([expected] * 3, abs=2):
                assert time.monotonic() < deadline, offs()
                time.sleep(0.05)
        assert client.get("kept") == b"yes"
    clean_up()
    assert not list(SHARED_MEMORY.glob(f"*faketime*_{primary.pid}"))
