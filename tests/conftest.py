"""What all tests share: real servers for the session, clean state for each test, a clean environment.

The servers are the ones of the local stack, so they end with the test run, whatever ends that.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import hypothesis
import pytest
import redis
from botocore.config import Config
from moto.core.botocore_stubber import BotocoreStubber

from sosw_celery.local import DynamoServer, EngineMissing, RedisServer, engines
from sosw_celery.local.moto_server import refuse_inserts
from tests import signals
from tests.nursery import Nursery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TESTS = Path(__file__).parent

IN_CI = os.environ.get("CI") == "true"

# In CI the same examples every time, so that a red run is about the change; at home new ones, so that bugs are found.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("dev", deadline=None)
# `make fuzz`: tests/fuzz makes many thousand inputs then.
hypothesis.settings.register_profile("fuzz", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


def _clean_environment() -> None:
    """Take away what a developer's shell may say about AWS, Celery and us: no test may reach a real account."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CELERY_", "SOSW_")) and name != "SOSW_CACHE":
            del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY="127.0.0.1,localhost",
        # A developer may have a stack running in the checkout.
        SOSW_DATA=os.devnull,
    )


# Before any test module is imported: the app reads its configuration at import.
_clean_environment()

signals.pass_none_on()

# moto lets boto3 forget its session after each test: botocore would read and parse all of its models for each one anew.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def _moto_decides_one_request_after_the_other() -> None:
    """AWS does so for each key; moto lets threads in between a check and a write."""
    decide, turn = BotocoreStubber.process_request, threading.RLock()

    def in_turn(self: BotocoreStubber, request: Any) -> Any:
        with turn:
            return decide(self, request)

    BotocoreStubber.process_request = in_turn  # type: ignore[method-assign]


_moto_decides_one_request_after_the_other()


refuse_inserts()


@pytest.fixture(autouse=True)
def _environment_restored() -> Iterator[None]:
    """Undo what a test does to the environment, change by change: threads may be reading the rest."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _missing(engine: EngineMissing) -> None:
    """Skip where a developer lacks the engine; in CI that would hide the tests that matter most, so fail there."""
    if IN_CI:
        pytest.fail(str(engine))
    pytest.skip(str(engine))


#: Folders of tests that start whole systems: most of a run's time is theirs.
LONG = ("faults", "integration")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes long first, the folders of it mixed: no process has a system left when the others are through."""
    order = {}
    for folder, of_folder in itertools.groupby(items, lambda item: item.path.relative_to(TESTS).parts[0]):
        together = list(of_folder)
        order |= {item: (folder not in LONG, at / len(together)) for at, item in enumerate(together)}
    items.sort(key=order.__getitem__)


@pytest.fixture
def _nothing_left_for_other_tests() -> Iterator[None]:
    """Have what a system has left warned of in its own test, which says what may be: it turns up anywhere else."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis, in memory, for the session. Use `redis_url` for an empty one."""
    try:
        engines.redis_server()
    except EngineMissing as missing:
        _missing(missing)
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a real Redis that is empty when the test starts."""
    with redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def dynamodb_server() -> Iterator[DynamoServer]:
    """A real DynamoDB engine (dynoxide), in memory, for the session; moto's stand-in will not do."""
    try:
        engines.dynoxide()
    except EngineMissing as missing:
        _missing(missing)
    with DynamoServer() as server:
        yield server


@pytest.fixture(scope="session")
def dynamodb_endpoint(dynamodb_server: DynamoServer) -> str:
    """The address of a real DynamoDB engine. Other tests' tables are there too: use `table_prefix`."""
    return dynamodb_server.endpoint


@pytest.fixture(scope="session")
def dynamodb_client(dynamodb_endpoint: str) -> Iterator[DynamoDBClient]:
    """A client of the real DynamoDB engine, safe for threads."""
    client = boto3.client("dynamodb", endpoint_url=dynamodb_endpoint, config=Config(max_pool_connections=32))
    yield client
    client.close()


@pytest.fixture(scope="session")
def nursery(redis_server: RedisServer, dynamodb_server: DynamoServer) -> Iterator[Nursery]:
    """Starts processes under test, as forks of one that has imported everything.

    Who needs servers of its own stops them and starts others; those of the session show that there can be some.
    """
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def unique() -> str:
    """Eight hexadecimal digits that no other test has."""
    return uuid.uuid4().hex[:8]


@pytest.fixture
def table_prefix(unique: str) -> str:
    """A prefix for table names that keeps tests on one engine apart."""
    return f"t{unique}_"
