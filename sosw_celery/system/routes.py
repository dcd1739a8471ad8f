"""Which queue a message goes to when its sender does not say: each labourer's to its own, the system's to theirs.

The default of `task_routes`, for `app.send_task("resize", [event])`, `celery -A sosw_celery call resize` and Flower.
"""

from __future__ import annotations

from typing import Any

from sosw_celery.celery import app
from sosw_celery.wiring.container import QUEUES, settings_of

__all__ = ["route"]


def route(name: str, *_: Any, **__: Any) -> dict[str, str] | None:
    """Return where Celery has to send a task of this name; None leaves it to Celery."""
    queue = QUEUES.get(name)
    if queue is None and (name in settings_of(app).labourers or hasattr(app.tasks.get(name), "register_as")):
        queue = name
    return None if queue is None else {"queue": queue}
