"""A mark in Redis that no job is unfinished, so that a system with nothing to do need not look for forgotten ones.

| key                         | holds                                                     | until                |
| --------------------------- | --------------------------------------------------------- | -------------------- |
| `PREFIX:jobs_begun`         | how often a Scheduler has begun with a job                | Redis is flushed     |
| `PREFIX:no_unfinished_jobs` | the same number, as it was before the jobs were looked at | the time of the mark |
"""

from __future__ import annotations

from redis import Redis

from sosw_celery.stores.redis.errors import translated

__all__ = ["IdleFlag"]


class IdleFlag:
    """The mark of one configuration. It runs out by itself, since not every job begins with a message that arrives.

    Every method raises `StoreUnavailable` when Redis does not answer.

    Parameters:
        prefix: Of its keys.
    """

    def __init__(self, redis_client: Redis, *, prefix: str) -> None:
        self._redis = redis_client
        self._begun = f"{prefix}:jobs_begun"
        self._mark = f"{prefix}:no_unfinished_jobs"

    def look(self) -> tuple[bool, int]:
        """Return whether no job was unfinished a short time ago, and how many had begun by now."""
        with translated("look"):
            begun, mark = self._redis.mget(self._begun, self._mark)
        count = int(begun or 0)
        return mark is not None and int(mark) == count, count

    def set(self, begun: int, seconds: float) -> None:
        """Note for so many seconds that no job is unfinished; it counts for nothing if one has begun since the look.

        Parameters:
            begun: As `look` gave it, before the jobs were looked at.
        """
        with translated("set"):
            self._redis.set(self._mark, begun, px=max(1, round(seconds * 1000)))

    def clear(self) -> None:
        """Note that a job has begun."""
        with translated("clear"):
            self._redis.incr(self._begun)
