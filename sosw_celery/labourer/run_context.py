"""A run as a worker process keeps it: on the Celery request, which there is one of per thread."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sosw_celery.core.tasks.model import Task
from sosw_celery.core.tasks.siblings import DEPTH, Sibling
from sosw_celery.services.attempts import Run

__all__ = ["DirectRun", "Lasting", "WorkerRun", "forget_run", "keep_run", "run_of"]

#: Attribute of a Celery request that keeps the run: requests are kept per thread, task objects are not.
RUN = "sosw_run"


@dataclass
class WorkerRun(Run):
    """A run with what its body has asked for.

    Parameters:
        marked_failed: The reason that the body gave for ending as failed; None if it gave none.
        keeps_result: Whether the next run begins with the result of this one.
        siblings: What the body has spawned, in this order.
        unspawned: Those of them that are to be written when the attempt ends.
        is_in_body: Whether the body has begun.
        raised: What ended the attempt, as it was raised: Celery tells of an exception that cannot be pickled by
            another one, and of one that ends the process by a process that was lost.
    """

    marked_failed: str | None = None
    keeps_result: bool = False
    siblings: list[Sibling] = field(default_factory=list)
    unspawned: list[Sibling] = field(default_factory=list)
    is_in_body: bool = False
    raised: BaseException | None = None

    @contextlib.contextmanager
    def noting_what_is_raised(self) -> Iterator[None]:
        """Keep in `raised` what the block raises."""
        try:
            yield
        except BaseException as error:
            self.raised = error
            raise

    @property
    def sibling_depth(self) -> int:
        """How many siblings came before this task in its line; 0 when it is none."""
        return int(self.task.extra.get(DEPTH, 0))

    def without_ids(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return a payload without the ids that `event` added, if it was made of the event."""
        own = json.loads(self.task.payload)
        event = self.event()
        added = {key for key in event.keys() - own.keys() if payload.get(key) == event[key]}
        return {key: value for key, value in payload.items() if key not in added}


class DirectRun(WorkerRun):
    """Stats and results of calls outside a worker process; there is no task behind them."""

    def __init__(self) -> None:
        super().__init__(task=Task("", "", greenfield=Decimal(0), created_at=Decimal(0)))


class Lasting(threading.local):
    """What the next run of the same thread begins with."""

    def __init__(self) -> None:
        self.stats: dict[str, Any] = {}
        self.result: dict[str, Any] = {}


def run_of(request: Any) -> WorkerRun | None:
    """Return the run that a Celery request carries: None before its claim, and in the worker's main process."""
    run = vars(request).get(RUN) if request is not None else None
    return run if isinstance(run, WorkerRun) else None


def keep_run(request: Any, run: WorkerRun) -> None:
    """Have the request carry the run."""
    setattr(request, RUN, run)


def forget_run(request: Any) -> None:
    """Have the request carry no run any more."""
    if run_of(request) is not None:
        delattr(request, RUN)
