"""The mark that no job is unfinished, on the twin of Redis and on a real one."""

from __future__ import annotations

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.redis.idle_flag import IdleFlag


@pytest.fixture
def mark(slots_redis: redis.Redis) -> IdleFlag:
    """Nothing is known yet."""
    return IdleFlag(slots_redis, prefix="a")


def test_is_there_until_a_job_begins(mark: IdleFlag, slots_redis: redis.Redis) -> None:
    """Other configurations in the same Redis have marks of their own."""
    assert mark.look() == (False, 0)
    mark.set(0, 60)
    assert mark.look() == (True, 0)
    assert IdleFlag(slots_redis, prefix="b").look() == (False, 0)
    mark.clear()
    assert mark.look() == (False, 1)


def test_a_job_that_begins_during_the_look_is_not_missed(mark: IdleFlag) -> None:
    """Who saw no job before it began does not say afterwards that there is none."""
    _, begun = mark.look()
    mark.clear()
    mark.set(begun, 60)
    assert mark.look() == (False, 1)


def test_runs_out(mark: IdleFlag, slots_redis: redis.Redis) -> None:
    """Nobody has to clear it."""
    mark.set(0, 0.5)
    assert 0 < int(slots_redis.pttl("a:no_unfinished_jobs")) <= 500


def test_no_redis() -> None:
    """Redis that does not answer is a store that does not."""
    with redis.Redis(port=1, retry=Retry(NoBackoff(), 0)) as client:
        mark = IdleFlag(client, prefix="a")
        for call in (mark.look, mark.clear, lambda: mark.set(0, 1)):
            with pytest.raises(StoreUnavailable):
                call()
