"""The names of the system's own Celery tasks and queues, and those that no labourer may have. Pure.

A labourer's name is that of its task and of its queue: with one of these it would take the place of something else.
"""

from __future__ import annotations

import re

from sosw_celery.errors import ConfigError

__all__ = [
    "NAME",
    "NOT_OF_SYSTEM",
    "QUEUES",
    "UNRESERVED",
    "can_name",
    "check_labourer_name",
    "check_task_name",
    "is_reserved",
]

#: Names of the Celery tasks that services send to each other, and their queues.
DISPATCH = "sosw.dispatch"
DISPATCH_ALL = "sosw.dispatch_all"
SWEEP = "sosw.sweep"
SWEEP_ALL = "sosw.sweep_all"
SWEEP_JOBS = "sosw.sweep_jobs"
TELL_OF_DEAD = "sosw.tell_of_dead"
SCHEDULER = "scheduler"
WORKER_ASSISTANT = "worker_assistant"
QUEUES = {
    SCHEDULER: "sosw_scheduler",
    DISPATCH: "sosw_orchestrator",
    DISPATCH_ALL: "sosw_orchestrator",
    SWEEP: "sosw_scavenger",
    SWEEP_ALL: "sosw_scavenger",
    SWEEP_JOBS: "sosw_scavenger",
    TELL_OF_DEAD: "sosw_scavenger",
    WORKER_ASSISTANT: "sosw_worker_assistant",
}

#: Keys of kombu's Redis transport, which keeps each queue under its name.
BROKERS_OWN = frozenset({"unacked", "unacked_index", "unacked_mutex"})
RESERVED = frozenset({"celery", *BROKERS_OWN, *QUEUES, *QUEUES.values()})
#: Begin the names of tasks of ours and of Celery.
RESERVED_BEGINNINGS = ("sosw.", "celery.")

#: Labourer and queue names travel in DynamoDB keys, Redis keys and queue names: what AWS allows a Lambda's name to be.
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,139}"
#: What is expected of a labourer's name, for errors.
NAME = "at most 140 letters, digits, '.', '_' and '-', a letter or digit first"
UNRESERVED = "a name that no task or queue of sosw-celery or Celery has"
#: The same of the name of any other task.
NOT_OF_SYSTEM = "a name that no task of sosw-celery has"


def can_name(name: str) -> bool:
    """Return whether queues, keys and functions can have this name."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def is_reserved(name: str) -> bool:
    """Return whether a labourer of this name would take the place of something else."""
    return name in RESERVED or name.startswith(RESERVED_BEGINNINGS)


def check_labourer_name(name: str) -> None:
    """Make sure that a labourer may be called so.

    Raises:
        ConfigError: It may not.
    """
    if not can_name(name):
        raise ConfigError("name of a labourer", name, NAME)
    if is_reserved(name):
        raise ConfigError("name of a labourer", name, UNRESERVED)


def check_task_name(name: str) -> None:
    """Make sure that somebody's task is not called as one of the system's.

    Raises:
        ConfigError: It is.
    """
    if name in QUEUES:
        raise ConfigError("name of a task", name, NOT_OF_SYSTEM)
