"""The client of DynamoDB: how it is made, and what keeps a request from being sent too late."""

from __future__ import annotations

import contextlib
import io
import platform
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError

from sosw_celery.errors import ConfigError
from sosw_celery.stores.dynamodb.botocore_fixes.item_parser import read_items_as_they_stand
from sosw_celery.stores.dynamodb.botocore_fixes.reset_at_close import reset_at_close

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["connect", "sent_only_if"]

#: botocore would put its own together anew for every request, which is an eighth of the time that a call takes.
USER_AGENT = f"sosw-celery/{version('sosw-celery')} Botocore/{botocore.__version__} Python/{platform.python_version()}"

#: What is expected where no region is known.
REGION = "a region of AWS, here or in AWS_DEFAULT_REGION, or a running `sosw-celery up`"
#: Seconds that connecting may take.
CONNECT_S = 3


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
        timeout_s: Seconds that an answer may keep a client waiting; then its connection is reset. The sending may stand
            still for `CONNECT_S`.

    Raises:
        ConfigError: Nothing says in which region of AWS the tables are, or what boto3 reads of AWS cannot be used.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": sends},
        connect_timeout=CONNECT_S,
        read_timeout=timeout_s,
        max_pool_connections=max_connections,
        parameter_validation=False,
        user_agent=USER_AGENT,
    )
    try:
        client = boto3.client("dynamodb", endpoint_url=endpoint_url, region_name=region_name, config=config)
    except NoRegionError as problem:
        raise ConfigError("sosw.aws_region", region_name, REGION) from problem
    except BotoCoreError as problem:  # an AWS_PROFILE that is not there, a file that cannot be read
        raise ConfigError("configuration of AWS", str(problem), "one that boto3 can use") from problem
    client.meta.events.register("before-send.dynamodb", _guard_sending)
    read_items_as_they_stand(client)
    reset_at_close(client)
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


class _CheckedBody(io.BytesIO):
    """A request's body that `check` lets go right before the socket takes it; what that raises keeps it back.

    That is later than botocore's last event by a look at the connection, perhaps the making of one, and a few turns of
    other threads. The head of the request has gone by then, but one that breaks off before its body is no request.
    botocore takes what the check raises here for an error of the connection; where it repeats that, its last event asks
    the check again, whose error comes through then.
    """

    def __init__(self, body: bytes, check: Callable[[], None]) -> None:
        super().__init__(body)
        self.check = check

    def read(self, size: int | None = -1, /) -> bytes:
        """Return some of the body, if it may go. At its end there is nothing left to keep back."""
        data = super().read(size)
        if data:
            self.check()
        return data


_check_before_sending: ContextVar[Callable[[], None] | None] = ContextVar("check_before_sending", default=None)


def _guard_sending(request: AWSPreparedRequest, **_: Any) -> None:
    check = _check_before_sending.get()
    if check is None:
        return
    check()
    if isinstance(request.body, bytes):
        request.body = _CheckedBody(request.body, check)
