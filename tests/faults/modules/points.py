"""Strikes a process at a chosen line of its work: right before or right after a call of ours.

The run says where by a file in `TEST_POINTS`: `NAME.armed` holds `{"at": "TaskTable.claim", "when": "after", "nth": 3,
"do": "kill"}`. The first process that makes this call so often takes the file away, leaves `NAME.struck` with the time
in its place, and does to itself what it says. So one order strikes once.

`do`: `kill` (this process), `kill all` (with its whole node), `freeze` (the whole node stands still).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sosw_celery.labourer.pool_memory import is_pool_process
from tests.nursery import signal_node

__all__ = ["PLACES"]

#: Which calls can be chosen, and where they are.
PLACES = {
    "JobTable": (
        "sosw_celery.stores.dynamodb.job_table",
        ("claim_chunking", "begin_writing", "claim_part", "checkpoint", "finish_part", "finish_writing"),
    ),
    "PartWriter": ("sosw_celery.services.part_writer", ("write", "_send", "_put", "_advance")),
    "Scheduler": ("sosw_celery.services.scheduler", ("parse_job_to_file", "process_file")),
    "Slots": ("sosw_celery.stores.redis.slots", ("confirm", "hand_on", "release", "take", "begin_pass", "rebuild")),
    "TaskTable": (
        "sosw_celery.stores.dynamodb.task_table",
        ("claim", "complete", "complete_and_claim", "fail", "archive", "requeue", "_delete_counted", "_put_all"),
    ),
    "Worker": ("sosw_celery.labourer.worker", ("_make_ready",)),
}

DIRECTORY = Path(os.environ["TEST_POINTS"])
ROLE = os.environ.get("TEST_ROLE", "")

_calls: Counter[str] = Counter()


def install() -> None:
    """Have every place in `PLACES` look for orders."""
    for name, (module, methods) in PLACES.items():
        cls = getattr(importlib.import_module(module), name)
        for method in methods:
            setattr(cls, method, _watched(f"{name}.{method}", getattr(cls, method)))


def _watched(place: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def watched(*args: Any, **kwargs: Any) -> Any:
        _strike_if_ordered(place, "before")
        result = call(*args, **kwargs)
        _strike_if_ordered(place, "after")
        return result

    return watched


def _strike_if_ordered(place: str, when: str) -> None:
    path = DIRECTORY / f"{ROLE}.armed"
    if not os.path.exists(path):
        return
    try:
        order = json.loads(path.read_text())
    except FileNotFoundError:  # another process was first
        return
    if (order["at"], order["when"]) != (place, when):
        return
    key = f"{order['name']} {os.getpid()}"
    _calls[key] += 1
    if _calls[key] < order["nth"]:
        return
    try:
        os.rename(path, DIRECTORY / f"{order['name']}.taken")
    except FileNotFoundError:
        return
    struck = DIRECTORY / f"{order['name']}.struck"
    node = os.getppid() if is_pool_process() else os.getpid()
    if order["do"] == "freeze":  # the others first: until the whole node stands still, bodies begin on it
        signal_node(node, signal.SIGSTOP, but=os.getpgrp())
    text = json.dumps({"at": time.monotonic(), "pid": os.getpid(), "group": node})
    struck.with_suffix(".new").write_text(text)
    struck.with_suffix(".new").replace(struck)
    if order["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    signal_node(node, signal.SIGKILL if order["do"] == "kill all" else signal.SIGSTOP)


install()
