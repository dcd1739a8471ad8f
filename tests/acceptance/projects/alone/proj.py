"""A project with one task and no labourer in its worker; `INSTALL` says whether the system is on its app.

The worker writes down what it is like, and each signal that its task sends.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from typing import Any

from celery import Celery, current_app, signals

app = Celery("proj", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.update(task_default_queue=os.environ["NAME"], worker_prefetch_multiplier=3, task_track_started=True)
if "INSTALL" in os.environ:
    from sosw_celery import install

    install(app, {"redis_url": os.environ["REDIS"], "labourers": {"resize": {}}})

OF_TASKS = ("task_received", "task_prerun", "task_success", "task_failure", "task_retry", "task_postrun")
LOGGERS = ("", "celery", "celery.app.trace", "celery.worker.strategy", "celery.worker.consumer.consumer", "celery.pool")


def note(name: str, **fields: Any) -> None:
    """Write a line about something that happened here."""
    with open("told.jsonl", "a") as file:
        file.write(json.dumps({"what": name, **fields}, default=str) + "\n")


def note_signal(name: str, **fields: Any) -> None:
    """Write down that a signal came, and with what."""
    note(name, told=sorted(fields))


for each in OF_TASKS:
    getattr(signals, each).connect(functools.partial(note_signal, each), weak=False)


@signals.worker_ready.connect
def note_worker(sender: Any, **_: object) -> None:
    """Write down what the worker is like when it is ready."""
    note(
        "worker",
        settings={name: str(value) for name, value in app.conf.table(with_defaults=True).items()},
        consumer=f"{type(sender).__module__}.{type(sender).__qualname__}",
        prefetch=sender.prefetch_multiplier,
        steps=[type(step).__name__ for step in sender.controller.steps],
    )


@app.task(bind=True, max_retries=1)
def add(self: Any, x: int, y: int) -> dict[str, Any]:
    """Return what a body sees; the second time it runs."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    options = ("acks_late", "ignore_result", "reject_on_worker_lost", "serializer", "time_limit", "track_started")
    return {
        "sum": x + y,
        "options": {name: getattr(self, name) for name in options},
        "app": current_app.main,
        "leads_a_session": os.getsid(0) == os.getpid(),
        "logs": {name: [log.level, len(log.filters)] for name in LOGGERS for log in [logging.getLogger(name)]},
        "shown": self.request.argsrepr,
        "headers": sorted(self.request.headers or {}),
    }
