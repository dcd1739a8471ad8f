"""The base of the steps that a worker node of ours takes beside Celery's."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from sosw_celery.labourer.serving import serves_ours

__all__ = ["NodeStep"]


class NodeStep(bootsteps.StartStopStep):
    """A step that only workers take which serve a labourer or the system; in others nothing of it happens."""

    def include_if(self, worker: Any) -> bool:
        """Return whether the worker takes messages of ours."""
        return serves_ours(worker.app)
