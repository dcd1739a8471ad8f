"""A mark in Redis that no job is unfinished, so that a system with nothing to do need not look for forgotten ones."""

from __future__ import annotations

from redis import Redis

from sosw_celery.stores.redis_errors import translated

__all__ = ["IdleMark"]


class IdleMark:
    """The mark of one configuration. It runs out by itself: whoever should have cleared it may have died.

    Every method raises `StoreUnavailable` when Redis does not answer.

    Parameters:
        prefix: Of its key.
    """

    def __init__(self, redis_client: Redis, *, prefix: str) -> None:
        self._redis = redis_client
        self._key = f"{prefix}:no_unfinished_jobs"

    def is_set(self) -> bool:
        """Whether no job was unfinished a short time ago."""
        with translated("is_set"):
            return bool(self._redis.exists(self._key))

    def set(self, seconds: float) -> None:
        """Note for so many seconds that no job is unfinished."""
        with translated("set"):
            self._redis.set(self._key, 1, px=max(1, round(seconds * 1000)))

    def clear(self) -> None:
        """Note that a job has begun."""
        with translated("clear"):
            self._redis.delete(self._key)
