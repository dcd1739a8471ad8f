"""A task as the project had it, and labourers of both forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proj.celery import app
from sosw_celery import Worker


@app.task
def add(x: int, y: int) -> int:
    """Return a sum."""
    return x + y


@app.task(base=Worker, name="fetch_prices")
def fetch_prices(event: Mapping[str, Any]) -> dict[str, int]:
    """Return how many shops were asked."""
    return {"asked": len(event["shops"])}


class CountShops(Worker):
    """Counts shops."""

    name = "count_shops"

    def __call__(self, event: Mapping[str, Any]) -> Any:
        """Count."""
        self.stats["shops"] += len(event["shops"])
        return super().__call__(event)
