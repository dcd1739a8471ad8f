"""How many inputs a fuzz run made, and the real servers that it throws them at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sosw_celery.config.settings import load_settings
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from tests.fuzz.hostile import COUNTED

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many inputs were made."""
    if COUNTED:
        terminalreporter.write_line(f"fuzz: {sum(COUNTED.values()):,} inputs")
        for name, count in sorted(COUNTED.items()):
            terminalreporter.write_line(f"fuzz: {count:>8,} {name}")


@pytest.fixture(scope="module")
def tables(dynamodb_client: DynamoDBClient) -> Tables:
    """Tables of their own in the real engine, for the module."""
    import uuid

    prefix = f"fuzz{uuid.uuid4().hex[:8]}_"
    names = {"dynamo_db_config": {"table_name": f"{prefix}tasks"}}
    others = {f"sosw_{name}_table": f"{prefix}{name}" for name in ("closed_tasks", "retry_tasks", "jobs")}
    found = Tables.from_settings(load_settings({"task_config": {**names, **others}}))
    create_tables(dynamodb_client, found)
    return found


@pytest.fixture(scope="module")
def slots_redis(redis_server: Any) -> Iterator[redis.Redis]:
    """A client of the session's real Redis; each test has a prefix of its own there."""
    with redis.from_url(redis_server.url) as client:
        yield client
