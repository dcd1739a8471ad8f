"""Labourers whose bodies do not end when they should, and who look around for each other.

Whoever begins a body writes down which of those before, or of what they started, still run on this machine: processes
that have not said that they are through. A zombie does not run.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from cluster_labourers import record

from sosw_celery import Worker, app

LONG_S = 3600


def present() -> Path:
    """Return the directory with a file for each process of which a body has not ended well."""
    path = Path(os.environ["TEST_HISTORY"], "present")
    path.mkdir(exist_ok=True)
    return path


def started_at(pid: int) -> str | None:
    """Return when a process was started, which no later one of its number was; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def appear(pid: int) -> None:
    """Say that a process is there."""
    (present() / str(pid)).write_text(started_at(pid) or "")


def others() -> Iterator[int]:
    """Yield the processes that have appeared and run."""
    for path in present().iterdir():
        if path.read_text() == started_at(int(path.name)):
            yield int(path.name)


def last(event: dict[str, Any]) -> None:
    """Take longer than allowed, in the manner of the event."""
    manner = event["manner"]
    if manner in ("child", "orphan"):
        appear(subprocess.Popen(["sleep", str(LONG_S)]).pid)
    if manner == "orphan":
        os._exit(3)
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manner == "in C":
        ctypes.PyDLL(None).sleep(LONG_S)  # keeps the lock of the interpreter
    time.sleep(LONG_S)


def begin(event: dict[str, Any]) -> None:
    """Look around, and misbehave in the first attempt."""
    beside = sorted(others())
    record("start", event)
    with Path(os.environ["TEST_HISTORY"], f"{os.getpid()}.beside").open("a") as file:
        file.write(json.dumps(beside) + "\n")
    appear(os.getpid())
    if event.get("manner") and event["attempts"] == 1:
        last(event)


def end(event: dict[str, Any]) -> None:
    """Say that the body is through."""
    record("end", event)
    (present() / str(os.getpid())).unlink()


@app.task(base=Worker, name="strict")
def strict(event: dict[str, Any]) -> None:
    """A labourer with a cap of 1."""
    begin(event)
    time.sleep(event.get("seconds", 0))
    end(event)


class Slow(Worker):
    """A labourer that takes long to be made ready."""

    name = "slow"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(float(os.environ.get("TEST_READY_S", "0")))
        super().__init__(*args, **kwargs)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Take so many seconds; tell how many it had, if it was stopped."""
        record("start", event)
        began = time.monotonic()
        try:
            time.sleep(event["seconds"])
        except SoftTimeLimitExceeded:
            return {"stopped_after": time.monotonic() - began}
        super().__call__(event)
        return {}
