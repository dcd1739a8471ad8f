"""The labourers of the fault runs: each writes down when it starts and ends, and shows that it lives in between.

Times are of the clock that the run has as well, whatever is done to `time.monotonic` in a process. How long a body
works is a matter of its own clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.signals import worker_process_init

from sosw_celery import RetryLater, Worker, app
from sosw_celery.labourer.pool_memory import is_pool_process

#: Seconds between two signs of life of a body: how exactly the end of a run is known whose process was killed.
BEAT_S = 0.005
#: Seconds after which a body that hangs gives up. Its time limit is far below.
HANGS_S = 300
#: Calls of it keep the GIL: nothing of Python runs in the process until they return.
KEEPING_THE_GIL = ctypes.PyDLL(None)


def now() -> float:
    """Return the time of the run, monotonic seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Diary:
    """What one process writes down of the bodies that it runs; it survives every kind of death.

    A line is handed to the kernel in one piece before the body goes on. The last sign of life stands in a file of its
    own that is mapped into memory: the start of the run, and the time.
    """

    def __init__(self) -> None:
        name = os.path.join(os.environ["TEST_HISTORY"], str(os.getpid()))
        self._lines = os.open(f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with open(f"{name}.beat", "w+b") as file:
            file.truncate(16)
            self._beat = mmap.mmap(file.fileno(), 16)
        self.pid = os.getpid()
        self._runs = 0
        self._write(kind="process", pid=self.pid, group=os.getppid() if is_pool_process() else self.pid)

    @contextmanager
    def run(self, event: dict[str, Any]) -> Iterator[str]:
        """Write down a run of the event's body, and give it a name that no other run has."""
        self._runs += 1
        name, at = f"{self.pid}-{self._runs}", now()
        self._started_at = at
        self.beat()
        self._write(kind="start", at=at, run=name, task=event["task_id"], n=event["attempts"])
        how = "raised"
        try:
            yield name
            how = "done"
        finally:
            self._write(kind="end", at=now(), run=name, how=how)

    def beat(self) -> None:
        """Show that the body runs now."""
        self._beat[:] = struct.pack("dd", self._started_at, now())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have another process show that the body runs, while nothing of Python runs in this one."""
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.closerange(0, os.sysconf("SC_OPEN_MAX"))  # a pipe that only the pool's process may hold open
                while True:
                    at = now()
                    if os.getppid() != parent:
                        break
                    self._beat[:] = struct.pack("dd", self._started_at, at)
                    time.sleep(BEAT_S)
            os._exit(0)
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _write(self, **line: Any) -> None:
        os.write(self._lines, (json.dumps(line) + "\n").encode())


_diary: Diary | None = None


def diary() -> Diary:
    """Return the diary of this process."""
    global _diary
    if _diary is None or _diary.pid != os.getpid():
        _diary = Diary()
    return _diary


@worker_process_init.connect
def open_diary(**_: Any) -> None:
    """Have it at hand when the first body begins: opening it takes a while."""
    diary()


def work(event: dict[str, Any]) -> None:
    """Be busy for as long as the event's value says, and misbehave as the event says in its first attempts."""
    seconds = event["seconds"] * (0.5 + event["values"][0] * 7919 % 1000 / 1000)
    manner = event.get("manner") if event["attempts"] <= event.get("bad_attempts", 0) else None
    if "in_c_s" in event and event["attempts"] == 1:
        work_in_c(event["in_c_s"])
    elif manner == "hang":
        hang(event.get("hangs_s", HANGS_S))
    elif manner == "hang in C":
        work_in_c(HANGS_S)
    else:
        work_for(seconds)
        # At the end, so that a body that fails uses its slot as long as any other.
        if manner:
            misbehave(manner)


def work_for(seconds: float) -> None:
    """Be busy for so long by the clock of the process, and show it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, BEAT_S))
        diary().beat()


def hang(seconds: float) -> None:
    """Go on and on, whatever a SIGTERM says."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work_for(seconds)


def work_in_c(seconds: float) -> None:
    """Be in calls that keep the GIL: no handler of a signal runs meanwhile, and no other thread."""
    end = time.monotonic() + seconds
    with diary().watched():
        while (left := end - time.monotonic()) > 0:
            KEEPING_THE_GIL.usleep(int(min(left, seconds) * 1_000_000))


def misbehave(manner: str) -> None:
    """Fail in one of the ways there are."""
    if manner == "raise":
        raise ValueError("as the event says")
    if manner == "later":
        raise RetryLater(0.1, "not yet")
    if manner == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


def labour(event: dict[str, Any]) -> dict[str, Any]:
    """A labourer as a function."""
    with diary().run(event) as name:
        work(event)
    return {"run": name}


for name in ("note", "hang", "long", "paced"):
    app.task(base=Worker, name=name)(labour)


class Count(Worker):
    """A labourer as a class."""

    name = "count"

    def __call__(self, event: dict[str, Any]) -> None:
        """Count one value."""
        with diary().run(event) as name:
            work(event)
            self.stats["values"] += len(event["values"])
            self.result["run"] = name
        super().__call__(event)
