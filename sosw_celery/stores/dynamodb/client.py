"""The client of DynamoDB: how it is made, and what keeps a request from being sent too late."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config

from sosw_celery.stores.dynamodb.fast.http_pool import CheckedBody
from sosw_celery.stores.dynamodb.fast.install import shorten

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["connect", "sent_only_if"]

#: botocore would put its own together anew for every request, which is an eighth of the time that a call takes.
USER_AGENT = f"sosw-celery/{version('sosw-celery')} Botocore/{botocore.__version__} Python/{platform.python_version()}"


def connect(
    *,
    endpoint_url: str | None,
    region_name: str | None,
    max_connections: int = 16,
    sends: int = 7,
    timeout_s: float = 10,
) -> DynamoDBClient:
    """Return a client that retries with backoff and gives up after seconds, not minutes.

    Creating it sends nothing. Requests are not checked against botocore's model: they are built by pure functions with
    tests of their own, and the check takes as long as the rest of a call.

    Parameters:
        sends: How often a request is sent at most, where errors say that it may be sent again.
        timeout_s: Seconds that the sending of a request may take, and as many for its answer; then its connection is
            reset.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": sends},
        connect_timeout=3,
        read_timeout=timeout_s,
        max_pool_connections=max_connections,
        parameter_validation=False,
        user_agent=USER_AGENT,
    )
    client = boto3.client("dynamodb", endpoint_url=endpoint_url, region_name=region_name, config=config)
    client.meta.events.register("before-send.dynamodb", _guard_sending)
    shorten(client, endpoint_is_given=endpoint_url is not None)
    return client


@contextlib.contextmanager
def sent_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` right before each request of this thread is sent inside the block, repetitions included.

    What it raises keeps the request from being sent and comes through. For writes that may be sent until some time
    only: a process may stand still at any line of Python, also between a check and a call. Works with clients that
    `connect` made.
    """
    token = _check_before_sending.set(check)
    try:
        yield
    finally:
        _check_before_sending.reset(token)


_check_before_sending: ContextVar[Callable[[], None] | None] = ContextVar("check_before_sending", default=None)


def _guard_sending(request: AWSPreparedRequest, **_: Any) -> None:
    check = _check_before_sending.get()
    if check is None:
        return
    check()
    if isinstance(request.body, bytes):
        request.body = CheckedBody(request.body, check)
