"""The Celery app, where `celery -A sosw_celery` looks for it.

Reads the module that `CELERY_CONFIG_MODULE` names, `celeryconfig` by default. What is set below are defaults that keep
the promises of the system; `celeryconfig` may override them, at its own risk where a comment says so.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from celery import Celery
from celery.signals import import_modules

from sosw_celery.wiring import QUEUES

__all__ = ["app"]

DEFAULTS: dict[str, Any] = {
    # A task is acknowledged after it was closed; a hint that comes twice is refused by the claim.
    "task_acks_late": True,
    # Hints that a busy worker keeps to itself would idle their slots.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A lost child's task is dispatched again as its next attempt; requeuing the message would loop on a poisoned one.
    "task_reject_on_worker_lost": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_ignore_result": True,
    "task_routes": {name: {"queue": queue} for name, queue in QUEUES.items()},
    # No message ends a worker.
    "worker_consumer": "sosw_celery.consumer:SturdyConsumer",
    "broker_connection_retry_on_startup": True,
    "result_expires": 86_400,
    "beat_scheduler": "sosw_celery.beat:SoswBeat",
}


def _import_tasks(**_: object) -> None:
    importlib.import_module("sosw_celery.tasks")
    importlib.import_module("sosw_celery.registration").register_configured(app)


def _unstated_defaults() -> dict[str, Any]:
    """Return our defaults for what the configuration does not state: Celery lays added defaults over it."""
    stated = app.loader.conf
    return {name: value for name, value in DEFAULTS.items() if name not in stated}


def _sign_messages(sender: Celery, **_: object) -> None:
    importlib.import_module("sosw_celery.signing").sign_messages(sender)


app = Celery("sosw_celery")
# A process that only sends needs no more than the app. What it raises here Celery logs, and then nothing can be sent.
app.on_after_configure.connect(_sign_messages, weak=False)
app.add_defaults(_unstated_defaults)
app.config_from_object(os.environ.get("CELERY_CONFIG_MODULE", "celeryconfig"))
# Not a default of `imports`, which a configuration would replace.
import_modules.connect(_import_tasks, sender=app, weak=False)
