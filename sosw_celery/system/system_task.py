"""What all tasks of the system have in common, whatever the app says of its own tasks."""

from __future__ import annotations

from celery import Task

__all__ = ["SystemTask"]

#: Seconds that a run may take: none comes near. Celery would take the app's own limit where a task has none.
LONGEST_RUN_S = 86_400


class SystemTask(Task):  # type: ignore[type-arg]  # generic in its stubs only
    """A task of the system, of Celery's class: not of the app's (`task_cls`), with nothing of its annotations.

    What is asked of the app's own tasks there (arguments, a rate, a time limit) is not meant for these, and would stop
    the system.
    """

    #: By this mark the system's tasks are known where their class must not be imported.
    is_of_system = True
    # What keeps the promises.
    acks_late = True
    reject_on_worker_lost = False
    ignore_result = True
    #: None, instead of `task_default_rate_limit`.
    rate_limit = "0"
    time_limit = soft_time_limit = LONGEST_RUN_S

    @classmethod
    def annotate(cls) -> None:
        """Take nothing of `task_annotations`."""
