"""One door to DynamoDB: how clients are made and how botocore's errors become ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from sosw_celery.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["cancellation_codes", "connect", "error_code", "translated"]

#: Codes that say "not now": the call may be repeated as it is.
RETRYABLE_CODES = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
        "LimitExceededException",
    }
)


def connect(*, endpoint_url: str | None, region_name: str | None, max_connections: int = 16) -> DynamoDBClient:
    """Return a client that retries with backoff and gives up after seconds, not minutes.

    Creating it sends nothing. Requests are not checked against botocore's model: they are built by pure functions with
    tests of their own, and the check takes as long as the rest of a call.
    """
    config = Config(
        retries={"mode": "standard", "max_attempts": 6},
        connect_timeout=3,
        read_timeout=10,
        max_pool_connections=max_connections,
        parameter_validation=False,
    )
    return boto3.client("dynamodb", endpoint_url=endpoint_url, region_name=region_name, config=config)


def error_code(error: ClientError) -> str:
    """Return AWS's code of the error, as `ConditionalCheckFailedException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def cancellation_codes(error: ClientError) -> list[str]:
    """Return the reason per item of a cancelled transaction, `None` as text where an item was not the cause."""
    reasons: list[dict[str, Any]] = error.response.get("CancellationReasons", [])  # type: ignore[assignment]  # stubs lack it
    return [str(reason.get("Code", "None")) for reason in reasons]


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn botocore's errors inside the block into `StoreUnavailable` (try again) or `StoreError`.

    Errors that a caller treats as ordinary outcomes (a failed condition) have to be caught inside the block.
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        kind = StoreUnavailable if code in RETRYABLE_CODES else StoreError
        raise kind("dynamodb", operation, code) from error
    except ParamValidationError as error:
        raise StoreError("dynamodb", operation, type(error).__name__) from error
    except BotoCoreError as error:  # no connection, time-outs, no credentials
        raise StoreUnavailable("dynamodb", operation, type(error).__name__) from error
