"""The labourer of the benchmarks."""

from __future__ import annotations

from typing import Any

from benchmarks.spans import run_for
from sosw_celery import Worker, app


@app.task(base=Worker, name="timed")
def timed(event: dict[str, Any]) -> None:
    """Take as long as the event says."""
    run_for(event["milliseconds"] / 1000)
