"""A labourer that adds to its tasks' history."""

from __future__ import annotations

from typing import Any

from sosw_celery import Worker


class Chronicle(Worker):
    """Posts what it does, as a worker written for sosw and as one written for us."""

    name = "chronicle"

    def __call__(self, event: dict[str, Any]) -> None:
        """Post twice, and fail in between where the event says so."""
        if self.meta_handler:
            self.meta_handler.post(event["task_id"], "opened", page=event["attempts"])
        if event["attempts"] <= event.get("bad_attempts", 0):
            raise ValueError("torn page")
        self.meta_handler.post(action="written", lines=[1, 2])
        super().__call__(event)
