"""How requests are sent to DynamoDB: page by page, in batches, and again when they were not done, or not all of them.

Every wait between two sends is a random part of a ceiling that doubles.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from sosw_celery.errors import StoreUnavailable, TransactionRefused
from sosw_celery.stores import aws_errors
from sosw_celery.stores.aws_errors import cancellation_codes, error_code
from sosw_celery.stores.dynamodb.attributes import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

__all__ = [
    "NO_STATEMENTS_CODES",
    "WRITES_PER_BATCH",
    "backoff",
    "batches",
    "get_all",
    "pages",
    "patiently",
    "query_items",
    "transact",
    "translated",
    "write_batch",
]

Row = TypeVar("Row")
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

#: Limits of DynamoDB's batch calls.
READS_PER_BATCH, WRITES_PER_BATCH = 100, 25
#: Tries for what a batch call leaves over, and the waits after them.
BATCH_TRIES, FIRST_BATCH_WAIT_S, LONGEST_BATCH_WAIT_S = 12, 0.05, 5.0


def translated(operation: str) -> contextlib.AbstractContextManager[None]:
    """Turn botocore's errors inside the block into ours, as errors of DynamoDB; see `aws_errors.translated`."""
    return aws_errors.translated("dynamodb", operation)


def backoff(tries: int, first_s: float, longest_s: float) -> Iterator[float]:
    """Yield, for each try, the seconds to wait after it: "full jitter", so that writers that collided once part.

    Parameters:
        first_s: What the first wait is at most; each further one may be twice as long.
        longest_s: What no wait is longer than.
    """
    ceiling_s = first_s
    for _ in range(tries):
        yield random.uniform(0, min(ceiling_s, longest_s))
        ceiling_s *= 2


# ---- pages and batches


def pages(client: DynamoDBClient, query: Item) -> Iterator[Any]:
    """Yield the answers to a query page by page, each of them sent when it is asked for.

    Without boto3's paginator, which would add a quarter to the CPU time of a Query.

    Raises:
        StoreUnavailable: Try again later.
        StoreError: The store refuses; the table may be missing.
    """
    query = dict(query)
    while True:
        with translated("Query"):
            page = client.query(**query)
        yield page
        if "LastEvaluatedKey" not in page:
            return
        query["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def query_items(client: DynamoDBClient, query: Item) -> Iterator[Item]:
    """Yield the items that a query finds, read as by `pages`."""
    for page in pages(client, query):
        yield from page["Items"]


def batches(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    """Return the rows in slices of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def get_all(client: DynamoDBClient, table: str, keys: Sequence[Item], **projection: Any) -> Iterator[Item]:
    """Yield the items of those keys that the table holds, in no order. Reads are consistent.

    A batch is read when its items are asked for; what DynamoDB leaves unprocessed of it is asked for again.

    Parameters:
        projection: Arguments of BatchGetItem that say which attributes are read; else all of them are.

    Raises:
        StoreUnavailable: Keys were left over in every try, or the store did not answer.
        StoreError: The store refuses.
    """
    for batch in batches(keys, READS_PER_BATCH):
        request: Any = {table: {"Keys": list(batch), "ConsistentRead": True, **projection}}
        for wait_s in backoff(BATCH_TRIES, FIRST_BATCH_WAIT_S, LONGEST_BATCH_WAIT_S):
            with translated("BatchGetItem"):
                answer = client.batch_get_item(RequestItems=request)
            yield from answer["Responses"].get(table, [])
            request = answer.get("UnprocessedKeys")
            if not request:
                break
            time.sleep(wait_s)
        else:
            raise StoreUnavailable("dynamodb", "BatchGetItem", "UnprocessedKeys")


def write_batch(client: DynamoDBClient, table: str, writes: Sequence[Item]) -> None:
    """Make at most 25 puts and deletes, in no order; what DynamoDB leaves unprocessed is sent again.

    Raises:
        StoreUnavailable: Some may not be made; make them all again.
        ContentRefused: For what one of them says; some may be made.
        StoreError: The store refuses.
    """
    request: Any = {table: writes}
    for wait_s in backoff(BATCH_TRIES, FIRST_BATCH_WAIT_S, LONGEST_BATCH_WAIT_S):
        with translated("BatchWriteItem"):
            request = client.batch_write_item(RequestItems=request).get("UnprocessedItems")
        if not request:
            return
        time.sleep(wait_s)
    raise StoreUnavailable("dynamodb", "BatchWriteItem", "UnprocessedItems")


# ---- writes that meet transactions


def patiently(operation: str, call: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `call` returns, sent again with jittered backoff while other transactions hold the same item.

    For single writes to items that transactions write as well, as a job's counters. A failed condition comes through
    as botocore's `ConditionalCheckFailedException`, for the caller to take as an ordinary outcome.

    Raises:
        StoreUnavailable: Every send met a conflict, or the store did not answer.
        StoreError: The store refused the call.
    """
    with _conditions_pass(operation):
        for wait_s in backoff(ATTEMPTS - 1, FIRST_WAIT_S, LONGEST_WAIT_S):
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
