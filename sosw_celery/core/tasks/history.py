"""The history of a task: what happened to it, who did it, and when. Values only; see `services/history.py`."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from sosw_celery.core.tasks.model import Attempt, Task

__all__ = ["RESERVED", "Action", "Event", "Observer", "Origin", "nobody"]


class Action(str, enum.Enum):
    """What the system itself notes about a task, in the order of its life. The names are sosw's where it has one."""

    CREATED = "created"  # its row is in the table
    DISPATCHED = "dispatched"  # a hint for the attempt is on the labourer's queue
    INVOKED = "invoked"  # a worker has claimed it
    COMPLETED = "completed"  # the attempt was closed
    FAILED = "failed"  # the attempt ended; `error` says how
    SCHEDULED_FOR_RETRY = "scheduled_for_retry"  # it waits until `desired_launch_time`
    READY_FOR_RETRY = "ready_for_retry"  # it is back at the head of the queue
    ARCHIVED = "archived"  # completed, in the closed table
    ARCHIVED_DEAD = "archived_dead"  # dead, in the closed table
    CLOSED_LATE = "closed_late"  # an attempt's close was refused; `found` says what was there instead


#: Fields of an event that are never posted: they tell who posts.
RESERVED = ("author", "invocation_id", "log_stream_name")


@dataclass(frozen=True)
class Origin:
    """Who did something: the Celery task's name, the id of its message, and the node that ran it."""

    author: str
    invocation_id: str
    log_stream_name: str


@dataclass(frozen=True)
class Event:
    """One row of the history.

    Parameters:
        created_at: When, in seconds since the epoch; no other event of the task has the same.
        extra: Everything else on the row: `labourer_id`, `attempts`, what a worker posted.
    """

    task_id: str
    created_at: Decimal
    action: str
    origin: Origin
    extra: Mapping[str, Any] = field(default_factory=dict)


class Observer(Protocol):
    """Is told, after the fact, what has happened to tasks. Does not raise and does not wait."""

    def __call__(self, action: Action, tasks: Sequence[Task | Attempt], at: Decimal, **fields: Any) -> None:
        """Note that `action` happened to the tasks at the time `at`."""


def nobody(action: Action, tasks: Sequence[Task | Attempt], at: Decimal, **fields: Any) -> None:
    """Note nothing: the observer where no history is kept."""
