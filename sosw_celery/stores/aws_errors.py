"""How botocore's errors become ours: for whichever service of AWS a store asks."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from sosw_celery.errors import ContentRefused, StoreError, StoreUnavailable

__all__ = ["RETRYABLE_CODES", "cancellation_codes", "error_code", "translated"]

#: Codes that say "not now": the call may be repeated as it is.
RETRYABLE_CODES = frozenset(
    {
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
        "TransactionInProgressException",
        "LimitExceededException",
    }
)

#: Codes that say "not this, now or ever", as reasons of a cancelled transaction too.
CONTENT_CODES = frozenset({"ValidationError", "ValidationException"})


def error_code(error: ClientError) -> str:
    """Return AWS's code of the error, as `ConditionalCheckFailedException`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def cancellation_codes(error: ClientError) -> list[str]:
    """Return the reason per item of a cancelled transaction, `None` as text where an item was not the cause."""
    reasons: list[dict[str, Any]] = error.response.get("CancellationReasons", [])  # type: ignore[assignment]  # stubs lack it
    return [str(reason.get("Code", "None")) for reason in reasons]


@contextlib.contextmanager
def translated(store: str, operation: str, *, retryable: Collection[str] = RETRYABLE_CODES) -> Iterator[None]:
    """Turn botocore's errors inside the block into `StoreUnavailable` (try again), `ContentRefused` or `StoreError`.

    Errors that a caller treats as ordinary outcomes (a failed condition) have to be caught inside the block.

    Parameters:
        store: What is asked, as the errors name it: `dynamodb`, `s3`.
        retryable: Codes that say "not now".
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        refusals = sorted(CONTENT_CODES & {code, *cancellation_codes(error)})
        if refusals:
            raise ContentRefused(store, operation, refusals[0]) from error
        kind = StoreUnavailable if code in retryable else StoreError
        raise kind(store, operation, code) from error
    except ParamValidationError as error:
        raise ContentRefused(store, operation, type(error).__name__) from error
    except BotoCoreError as error:  # no connection, time-outs, no credentials
        raise StoreUnavailable(store, operation, type(error).__name__) from error
