"""Which queue a message goes to when its sender does not say: each labourer's to its own, the system's to theirs.

For `app.send_task("resize", [event])`, `celery -A proj call resize` and Flower.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import Celery

from sosw_celery.labourer.worker import is_labourer
from sosw_celery.names import QUEUES
from sosw_celery.wiring.container import settings_of

__all__ = ["define_queues", "is_private", "queue_of"]


def queue_of(app: Celery, name: str) -> str | None:
    """Return the queue of a task of the system or of a labourer; None for any other task."""
    if name in QUEUES:
        return QUEUES[name]
    return name if name in settings_of(app).labourers or is_labourer(name) else None


def is_private(name: str) -> bool:
    """Return whether what a task is called with is not to be logged: it is the system's, or a labourer."""
    return name in QUEUES or is_labourer(name)


def define_queues(app: Celery, names: Iterable[str]) -> None:
    """Have these queues known to an app whose `task_create_missing_queues` is off; another one makes them as needed.

    They are for routing, and for `-Q`: a worker without that option takes from the queues of `task_queues` as before.
    """
    queues: Any = app.amqp.queues  # the stubs do not know what it makes
    if queues.create_missing:
        return
    for name in names:
        if name not in queues:
            queues.add(queues.new_missing(name))
