"""Labourers whose bodies are coroutines, or should have been."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
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
