"""Keeps a worker alive that loses its broker while acknowledgements wait to be sent.

When the connection is lost, the worker's event loop closes and first makes the calls that are still due. Those that
acknowledge messages of the lost connection raise `AttributeError` in kombu 5.7, since its channel has no connection
any more; nobody catches that, and the worker ends with "Unrecoverable error" where it should connect again. Such an
acknowledgement has no use: the message comes again, and the claim refuses it.

Seen with celery 5.7 and kombu 5.7; https://github.com/celery/celery/issues/9250 is a brother of it. Delete it when a
worker outlives `tests/integration/test_redis_lives.py` without.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from celery import bootsteps

__all__ = ["CallsOutliveConnection", "forgive"]

logger = logging.getLogger(__name__)


class CallsOutliveConnection(bootsteps.StartStopStep):
    """Worker bootstep: a call that fails while the event loop closes ends nothing but itself."""

    requires = ("celery.worker.components:Hub",)

    def create(self, worker: Any) -> Any:
        """Return the step itself as what is started and stopped."""
        return self

    def start(self, worker: Any) -> None:
        """Look after the calls that are due whenever the loop closes; pools without a loop have none."""
        hub = getattr(worker, "hub", None)
        if hub is not None:
            hub.on_close.add(forgive)

    def stop(self, worker: Any) -> None:
        """Keep on: the loop closes once more at the end."""

    def terminate(self, worker: Any) -> None:
        """Keep on, as in `stop`."""


def forgive(hub: Any) -> None:
    """Have each call that is due be made without harm to the others."""
    for call in hub._pop_ready():
        hub.call_soon(functools.partial(_make, call))


def _make(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as problem:  # noqa: BLE001  # whatever a lost connection makes of it
        logger.warning("not done, the connection to the broker is lost: %r", problem)
