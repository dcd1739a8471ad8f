"""Labourers of the tests: each writes down when it starts and ends, and misbehaves where its event says so."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from celery.exceptions import Ignore

from sosw_celery import RetryLater, Worker, app


def record(kind: str, event: dict[str, Any]) -> None:
    """Append one line to this process's history; a line is whole or not there."""
    line = {"kind": kind, "at": time.monotonic(), "pid": os.getpid(), "task": event["task_id"], "n": event["attempts"]}
    path = os.path.join(os.environ["TEST_HISTORY"], f"{os.getpid()}.jsonl")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def misbehave(event: dict[str, Any]) -> None:
    """Do what the event asks for in its first attempts."""
    if event["attempts"] > event.get("bad_attempts", 1):
        return
    manner = event.get("manner", "")
    if manner == "raise":
        raise ValueError("as the event says")
    if manner == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if manner == "exit":
        os._exit(3)
    if manner == "later":
        raise RetryLater(0.1, "not yet")
    if manner == "ignore":
        raise Ignore
    if manner == "hang":
        time.sleep(3600)


@app.task(base=Worker, name="note")
def note(event: dict[str, Any]) -> dict[str, Any]:
    """A labourer as a function."""
    record("start", event)
    misbehave(event)
    time.sleep(event.get("seconds", 0))
    record("end", event)
    return {"doubled": [2 * value for value in event.get("values", []) if isinstance(value, int)]}


class Count(Worker):
    """A labourer as a class."""

    name = "count"

    def __call__(self, event: dict[str, Any]) -> None:
        """Count the values and remember the last one."""
        record("start", event)
        if event.get("manner") == "retry" and event["attempts"] == 1:
            self.retry(exc=ValueError("once more"), countdown=0.05)
        for value in event.get("values", []):
            self.stats["values"] += 1
            time.sleep(event.get("seconds", 0))
            self.result["last"] = value
        super().__call__(event)
        record("end", event)
