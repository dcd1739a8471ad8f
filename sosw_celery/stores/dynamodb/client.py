"""One door to DynamoDB: how clients are made, and how calls are repeated that met other ones."""

from __future__ import annotations

import contextlib
import platform
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from sosw_celery.errors import StoreUnavailable, TransactionRefused
from sosw_celery.stores import aws_errors
from sosw_celery.stores.aws_errors import cancellation_codes, error_code
from sosw_celery.stores.dynamodb.fast.http_pool import CheckedBody
from sosw_celery.stores.dynamodb.fast.install import shorten

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

__all__ = [
    "NO_STATEMENTS_CODES",
    "TransactionRefused",
    "connect",
    "patiently",
    "sent_only_if",
    "transact",
    "translated",
]

T = TypeVar("T")

#: Codes that say "another transaction was at the same item": the call did nothing and may be repeated at once.
CONFLICT_CODES = frozenset({"TransactionConflictException", "TransactionInProgressException"})

#: The same, and the throttles, as reasons per item of a cancelled transaction; botocore does not repeat these.
PASSING_REASONS = frozenset({"None", "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})

#: Codes that say that this process may send no statements of PartiQL (it needs the permissions `PartiQLInsert` and
#: `PartiQLUpdate`), or that the engine knows none, or not these; of a batch as a whole, or of each statement in it.
NO_STATEMENTS_CODES = frozenset(
    ["AccessDenied", "AccessDeniedException", "UnknownOperationException", "ValidationError", "ValidationException"]
)

#: Sends of a call that meets conflicts: with the waits below it gives up after about 4 s.
ATTEMPTS = 14
FIRST_WAIT_S = 0.01
LONGEST_WAIT_S = 0.8


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


def translated(operation: str) -> contextlib.AbstractContextManager[None]:
    """Turn botocore's errors inside the block into ours, as errors of DynamoDB; see `aws_errors.translated`."""
    return aws_errors.translated("dynamodb", operation)


def patiently(operation: str, call: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `call` returns, sent again with jittered backoff while other transactions hold the same item.

    For single writes to items that transactions write as well, as a job's counters. A failed condition comes through
    as botocore's `ConditionalCheckFailedException`, for the caller to take as an ordinary outcome.

    Raises:
        StoreUnavailable: Every send met a conflict, or the store did not answer.
        StoreError: The store refused the call.
    """
    with _conditions_pass(operation):
        for wait_s in _waits():
            try:
                return call()
            except ClientError as error:
                if not _passes(error):
                    raise
            sleep(wait_s)
        return call()


def transact(
    client: DynamoDBClient,
    items: Sequence[TransactWriteItemTypeDef],
    operation: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write all of `items` (at most 100, as TransactWriteItems takes them) or none.

    Sent again with jittered backoff while other transactions hold one of the items. All sends of one call carry one
    token, so a send whose answer was lost does not take effect twice.

    Parameters:
        operation: What the transaction is for, as the errors name it: `FinishPart`.

    Raises:
        TransactionRefused: A condition failed; tells which.
        StoreUnavailable: Every send met a conflict, or the store did not answer; whether it took effect is unknown.
        ContentRefused: It can never take effect, for what one of the items says.
        StoreError: The store refused the call.
    """
    token = str(uuid.uuid4())
    try:
        patiently(
            operation,
            lambda: client.transact_write_items(TransactItems=items, ClientRequestToken=token),
            sleep=sleep,
        )
    except ClientError as error:  # only a failed condition comes through
        raise TransactionRefused(operation, cancellation_codes(error)) from error


def _waits() -> Iterator[float]:
    """Yield the seconds before each further send: "full jitter", so that writers that collided once part."""
    for step in range(ATTEMPTS - 1):
        yield random.uniform(0, min(FIRST_WAIT_S * 2**step, LONGEST_WAIT_S))


def _passes(error: ClientError) -> bool:
    """Return whether the call was only in another transaction's way."""
    code = error_code(error)
    if code == "TransactionCanceledException":
        return PASSING_REASONS.issuperset(cancellation_codes(error))
    return code in CONFLICT_CODES


def _condition_failed(error: ClientError) -> bool:
    code = error_code(error)
    if code == "TransactionCanceledException":
        return "ConditionalCheckFailed" in cancellation_codes(error)
    return code == "ConditionalCheckFailedException"


@contextlib.contextmanager
def _conditions_pass(operation: str) -> Iterator[None]:
    """Like `translated`, but a failed condition stays botocore's, and a conflict that did not pass is "try later"."""
    try:
        yield
    except ClientError as error:
        if _condition_failed(error):
            raise
        if _passes(error):
            raise StoreUnavailable("dynamodb", operation, error_code(error)) from error
        with translated(operation):
            raise
    except (BotoCoreError, ParamValidationError):
        with translated(operation):
            raise
