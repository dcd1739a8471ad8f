"""sosw-celery: one business job becomes a hundred thousand Celery tasks, none lost, never more than N at once.

    from sosw_celery import scheduler, Worker

The names are loaded when they are first asked for, so that `sosw_celery.core` can be used without Celery.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sosw_celery.celery import app, install
    from sosw_celery.errors import InvalidJob, RetryLater, SoswError
    from sosw_celery.labourer.processor import Processor
    from sosw_celery.labourer.worker import Worker
    from sosw_celery.sosw_compat.lambda_globals import LambdaGlobals, get_lambda_handler
    from sosw_celery.system.own_scheduler import Scheduler
    from sosw_celery.system.tasks import scheduler

__all__ = [
    "InvalidJob",
    "LambdaGlobals",
    "Processor",
    "RetryLater",
    "Scheduler",
    "SoswError",
    "Worker",
    "app",
    "errors",
    "get_lambda_handler",
    "install",
    "scheduler",
]

_HOMES = {
    "app": "sosw_celery.celery",
    "install": "sosw_celery.celery",
    "scheduler": "sosw_celery.system.tasks",
    "Scheduler": "sosw_celery.system.own_scheduler",
    "Processor": "sosw_celery.labourer.processor",
    "Worker": "sosw_celery.labourer.worker",
    "InvalidJob": "sosw_celery.errors",
    "RetryLater": "sosw_celery.errors",
    "SoswError": "sosw_celery.errors",
    "LambdaGlobals": "sosw_celery.sosw_compat.lambda_globals",
    "get_lambda_handler": "sosw_celery.sosw_compat.lambda_globals",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("sosw_celery.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
