"""Knows whether somebody follows the events of this node's tasks, and tells the processes of the pool.

Then each task has a message, and a request in the main process, of its own: Flower, `celery events` and `inspect` see
all of them. Nobody is told when `enable_events` comes in by remote control (celery 5.7 changes a set), so one looks.
The same goes for a node that was asked to end.
"""

from __future__ import annotations

from typing import Any

from celery.signals import worker_shutting_down

from sosw_celery.labourer.pool_memory import is_watched
from sosw_celery.node.step import NodeStep

__all__ = ["EventWatch", "end_lines", "sends_task_events"]

#: Seconds between two looks.
LOOK_S = 0.25


class EventWatch(NodeStep):
    """Worker bootstep: looks whether the events of tasks are sent."""

    requires = ("celery.worker.components:Hub",)

    #: Whether the node was asked to end: what a look sees does not count any more.
    is_ending = False

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._entry: Any = None

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        is_watched.value = bool(worker.task_events)  # -E; before the pool forks
        return self

    def start(self, worker: Any) -> None:
        """Look from now on; pools without an event loop run one task for each message anyway."""
        hub = getattr(worker, "hub", None)
        if hub is not None:
            self._entry = hub.timer.call_repeatedly(LOOK_S, self._look, (worker,))

    def stop(self, worker: Any) -> None:
        """Stop looking."""
        if self._entry is not None:
            self._entry.cancel()

    def terminate(self, worker: Any) -> None:
        """Stop looking."""
        self.stop(worker)

    @staticmethod
    def _look(worker: Any) -> None:
        dispatcher = getattr(worker.consumer, "event_dispatcher", None)
        if dispatcher is not None:  # else it connects
            is_watched.value = EventWatch.is_ending or sends_task_events(dispatcher)


@worker_shutting_down.connect(weak=False)
def end_lines(**_: Any) -> None:
    """Have a node that ends wait for the tasks that run, and not for those behind them in their lines."""
    EventWatch.is_ending = True
    is_watched.value = True


def sends_task_events(dispatcher: Any) -> bool:
    """Return whether a worker's dispatcher of events sends those of tasks; no groups means all."""
    return bool(dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups))
