"""The mark that no job is unfinished, on the twin of Redis and on a real one."""

from __future__ import annotations

import pytest
import redis

from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.idle_mark import IdleMark


def test_is_there_until_it_is_cleared(slots_redis: redis.Redis) -> None:
    """Other configurations in the same Redis have marks of their own."""
    mark = IdleMark(slots_redis, prefix="a")
    assert not mark.is_set()
    mark.set(60)
    assert mark.is_set()
    assert not IdleMark(slots_redis, prefix="b").is_set()
    mark.clear()
    assert not mark.is_set()


def test_runs_out(slots_redis: redis.Redis) -> None:
    """Nobody has to clear it."""
    IdleMark(slots_redis, prefix="a").set(0.5)
    (key,) = slots_redis.keys()
    assert 0 < int(slots_redis.pttl(key)) <= 500


def test_no_redis() -> None:
    """Redis that does not answer is a store that does not."""
    with redis.Redis(port=1) as client:
        mark = IdleMark(client, prefix="a")
        for call in (mark.is_set, mark.clear, lambda: mark.set(1)):
            with pytest.raises(StoreUnavailable):
                call()
