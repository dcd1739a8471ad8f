"""Plain Celery to compare with: an app of one task, with Celery's own defaults throughout."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.spans import run_for

app = Celery("plain", broker=os.environ.get("BENCHMARK_BROKER", "redis://127.0.0.1:6379/0"))


@app.task(name="timed")
def timed(milliseconds: int) -> None:
    """Take so long."""
    run_for(milliseconds / 1000)
