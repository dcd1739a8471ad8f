"""Labourers whose bodies are coroutines, or should have been, or try what bodies cannot do."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from redis.asyncio import Redis

from sosw_celery import Worker, app

#: Made before there is a loop; its connection belongs to the loop of the first run, and is used again in the next.
client = Redis.from_url(os.environ["TEST_REDIS_URL"])


@app.task(base=Worker, name="fetch")
async def fetch(event: dict[str, Any]) -> dict[str, Any]:
    """Count the runs of this process by a client that stays."""
    await asyncio.sleep(0.01)
    return {"runs": await client.incr(f"runs of {os.getpid()}")}


class Gather(Worker):
    """A class, with a soft time limit."""

    name = "gather"
    soft_time_limit = 1

    async def __call__(self, event: dict[str, Any]) -> None:
        """Wait until the limit, and clean up."""
        try:
            await asyncio.gather(*(asyncio.sleep(3600) for _ in range(3)))
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            self.result["ended"] = "at its limit"
            self.stats["task_ids"] += event["task_id"] == self._run_now().task.task_id
        await super().__call__(event)


@app.task(base=Worker, name="forget")
def forget(event: dict[str, Any]) -> Awaitable[None]:
    """Make a coroutine that nobody awaits."""
    return asyncio.sleep(0)


@app.task(base=Worker, name="try_out", bind=True)
def try_out(self: Worker, event: dict[str, Any]) -> dict[str, str]:
    """Return what is said of each thing that a body cannot do."""
    tries: dict[str, Callable[[], Any]] = {
        "process": multiprocessing.Process(target=print).start,
        "fileno": lambda: sys.stdout.fileno(),
        "replace": lambda: self.replace(fetch.s({})),
        "get": lambda: app.AsyncResult("any").get(timeout=1),
    }
    return {name: _error_of(attempt) for name, attempt in tries.items()}


def _error_of(attempt: Callable[[], Any]) -> str:
    try:
        return f"no error: {attempt()!r}"
    except Exception as error:  # noqa: BLE001  # what it says is what is asked for
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
