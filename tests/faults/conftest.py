"""What fault runs need in a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sosw_celery.local import DynamoServer, RedisServer
from tests.faults.nursery import Nursery


@pytest.fixture(scope="session")
def nursery(redis_server: RedisServer, dynamodb_server: DynamoServer) -> Iterator[Nursery]:
    """Forks processes under test. Each run has servers of its own; those of the session show that there can be some."""
    with Nursery() as nursery:
        yield nursery
