"""Replaces dead processes of a node's pool soon: until then their slots idle."""

from __future__ import annotations

from typing import Any

from sosw_celery.node.step import NodeStep

__all__ = ["PoolKeeper"]

#: Seconds between two looks for dead children; Celery's own 5 s would idle their slots.
MAINTAIN_POOL_S = 0.25


class PoolKeeper(NodeStep):
    """Worker bootstep: replaces dead children within a quarter of a second."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._entry: Any = None

    def start(self, worker: Any) -> None:
        """Look for dead children often, where the pool has children and the worker a timer."""
        maintain = getattr(getattr(worker.pool, "_pool", None), "maintain_pool", None)
        hub = getattr(worker, "hub", None)
        if maintain is not None and hub is not None:
            self._entry = hub.timer.call_repeatedly(MAINTAIN_POOL_S, maintain)

    def stop(self, worker: Any) -> None:
        """Stop looking."""
        if self._entry is not None:
            self._entry.cancel()
