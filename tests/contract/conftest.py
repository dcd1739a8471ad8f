"""Redis as the slot store meets it: the twin and the real server, answering in bytes or in text."""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from sosw_celery.stores.redis.slots import Limits, Slots
from tests.contract.shares import CAP


@pytest.fixture(params=["twin", "twin, text", "real", "real, text"])
def slots_redis(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """An empty Redis."""
    kind, _, text = request.param.partition(", ")
    if kind == "twin":
        client: redis.Redis = fakeredis.FakeRedis(decode_responses=bool(text))
    else:
        client = redis.Redis.from_url(request.getfixturevalue("redis_url"), decode_responses=bool(text))
    with client:
        yield client


@pytest.fixture
def missing(slots_redis: redis.Redis) -> Slots:
    """A slot store on an empty Redis."""
    return Slots(slots_redis, archive_every=3)


@pytest.fixture
def slots(missing: Slots) -> Slots:
    """A slot store that is ready for the labourer `resize`."""
    missing.rebuild("resize", [], limits=Limits(CAP), lease_s=60, settle_s=0)
    return missing
