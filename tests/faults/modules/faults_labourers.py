"""The labourers of the fault runs: each writes down when it starts and ends, and shows that it lives in between."""

from __future__ import annotations

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
from sosw_celery.board import is_pool_process

#: Seconds between two signs of life of a body: how exactly the end of a run is known whose process was killed.
BEAT_S = 0.005


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
        name, at = f"{self.pid}-{self._runs}", time.monotonic()
        self._started_at = at
        self.beat()
        self._write(kind="start", at=at, run=name, task=event["task_id"], n=event["attempts"])
        how = "raised"
        try:
            yield name
            how = "done"
        finally:
            self._write(kind="end", at=time.monotonic(), run=name, how=how)

    def beat(self) -> None:
        """Show that the body runs now."""
        self._beat[:] = struct.pack("dd", self._started_at, time.monotonic())

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
    end = time.monotonic() + event["seconds"] * (0.5 + event["values"][0] * 7919 % 1000 / 1000)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, BEAT_S))
        diary().beat()
    # At the end, so that a body that fails uses its slot as long as any other.
    if event["attempts"] <= event.get("bad_attempts", 0):
        misbehave(event["manner"])


def misbehave(manner: str) -> None:
    """Fail in one of the ways there are."""
    if manner == "raise":
        raise ValueError("as the event says")
    if manner == "later":
        raise RetryLater(0.1, "not yet")
    if manner == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=Worker, name="note")
def note(event: dict[str, Any]) -> dict[str, Any]:
    """A labourer as a function."""
    with diary().run(event) as name:
        work(event)
    return {"run": name}


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
