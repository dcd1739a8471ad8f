"""Puts the rows of new tasks into the tasks table, each unless one of its id stands there.

A row is put by a statement of PartiQL, INSERT, 25 of them in one request, of which each succeeds or not by itself: at
the price of a plain put, with the condition that a plain batch cannot have. Where statements are refused, or the engine
knows none, each row is a PutItem with the same condition, several at once.

The condition keeps a row from being put over one that stands there, whatever has become of that meanwhile. It does not
see a row that has left the table, for the retry table or the closed one. So no request for a row may reach the table
after another one has put it and its task has run. Whoever sends them here is the only one at these rows
(`services.part_writer` says why), and puts a row a second time only once the first request is over, and after a look
into all tables for what it left:

- a request that was answered is over; throttled or in conflict means that it did nothing, and it is repeated as it is;
- one that was not answered, or by an error of the service, may have been done, or may be about to. Its connection is
  reset, so that our kernel sends nothing more of it, and the network and the service are given `held_back_s` seconds.

When `put` has returned or raised, none of its requests is on its way any more.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as NotConnected

from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import StoreUnavailable
from sosw_celery.stores.aws_errors import error_code
from sosw_celery.stores.dynamodb import task_rows
from sosw_celery.stores.dynamodb.attributes import Item
from sosw_celery.stores.dynamodb.requests import NO_STATEMENTS_CODES, backoff, translated
from sosw_celery.stores.dynamodb.tables import Tables

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["NewRows"]

logger = logging.getLogger(__name__)

#: Limits of one request: of its rows by DynamoDB, of their payloads by us, so that it is sent within its time.
ROWS_PER_REQUEST, BYTES_PER_REQUEST = 25, 1_000_000
#: Single puts under way at once.
PUTS_AT_ONCE = 16
#: Sends of a row at most, and the waits after them.
SENDS, FIRST_WAIT_S, LONGEST_WAIT_S = 12, 0.05, 5.0

#: Codes of a row, or of a whole request, by what they say of it.
THERE_CODES = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException", "DuplicateItem"})
NOT_NOW_CODES = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
        "TransactionConflict",
        "TransactionConflictException",
    }
)
UNKNOWN_CODES = frozenset({"InternalServerError", "ServiceUnavailable"})
FIRST_SERVER_ERROR = 500

Existing = Callable[[str, Sequence[str]], set[str]]


class _Fate(enum.Enum):
    """What became of the try to put a row."""

    THERE = enum.auto()  # it stands in the table, by this request or by one before
    NOT_NOW = enum.auto()  # it was not put, and may be
    UNKNOWN = enum.auto()  # it may have been put, or may be about to be
    REFUSED = enum.auto()  # not in this way


class _Row(NamedTuple):
    task: Task
    item: Item


class NewRows:
    """The way of new rows into the tasks table. Safe to share between threads.

    Parameters:
        connect: Makes the client, which sends each request once.
        existing: Returns those ids of a labourer's tasks that any table holds.
        held_back_s: Seconds for which a request may still be on its way when it was given up.
    """

    def __init__(
        self,
        connect: Callable[[], DynamoDBClient],
        tables: Tables,
        existing: Existing,
        *,
        held_back_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connect = connect
        self._tables = tables
        self._existing = existing
        self._held_back_s = held_back_s
        self._sleep = sleep
        self._takes_statements = True

    @cached_property
    def client(self) -> DynamoDBClient:
        """The client; few processes write new rows, and one takes long to make."""
        return self._connect()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PUTS_AT_ONCE, thread_name_prefix="sosw-puts")

    def put(self, tasks: Sequence[Task]) -> None:
        """Have the rows of new tasks in the table, or wherever the tasks have moved on to. Idempotent.

        Raises:
            InvalidJob: A task lacks one of the `required_fields`; none was written.
            StoreUnavailable: Some rows may be missing; put them all again, after a look at which there are.
            StoreError: The store refused a row for good.
        """
        rows = [_Row(task, task_rows.new_item(task, self._tables)) for task in tasks]
        for request in _requests(rows):
            self._put(request)

    def _put(self, rows: Sequence[_Row]) -> None:
        """Put the rows of one request, again and again those that need it."""
        for wait_s in backoff(SENDS, FIRST_WAIT_S, LONGEST_WAIT_S):
            fates, problem = self._send(rows)
            unknown = [row for row, fate in zip(rows, fates, strict=True) if fate is _Fate.UNKNOWN]
            left = [row for row, fate in zip(rows, fates, strict=True) if fate is not _Fate.THERE]
            if unknown:
                self._sleep(self._held_back_s)
            if problem is not None:
                raise problem
            there = self._look(unknown)
            rows = [row for row in left if row.task.task_id not in there]
            if not rows:
                return
            self._sleep(wait_s)
        raise StoreUnavailable("dynamodb", "INSERT", "rows left over")

    def _look(self, rows: Sequence[_Row]) -> set[str]:
        """Return the ids of those rows that there are, wherever their tasks have moved on to."""
        ids: dict[str, list[str]] = {}
        for row in rows:
            ids.setdefault(row.task.labourer_id, []).append(row.task.task_id)
        return {there for labourer_id, own in ids.items() for there in self._existing(labourer_id, own)}

    def _send(self, rows: Sequence[_Row]) -> tuple[Sequence[_Fate], BaseException | None]:
        """Send the rows once; return what became of each, and why one was not taken, if that is so for good."""
        fates = self._send_together(rows) if self._takes_statements else [_Fate.REFUSED] * len(rows)
        refused = [number for number, fate in enumerate(fates) if fate is _Fate.REFUSED]
        # A pool's threads see nothing of what holds in this one (`sent_only_if`), unless they are given it.
        puts = [self._pool.submit(contextvars.copy_context().run, self._put_one, rows[number]) for number in refused]
        wait(puts)
        problems = [problem for put in puts if (problem := put.exception()) is not None]
        for number, put in zip(refused, puts, strict=True):
            fates[number] = _Fate.REFUSED if put.exception() is not None else put.result()
        return fates, problems[0] if problems else None

    def _send_together(self, rows: Sequence[_Row]) -> list[_Fate]:
        statements = [task_rows.insert_statement(row.item, self._tables) for row in rows]
        if None in statements:
            return [_Fate.REFUSED] * len(rows)
        try:
            answer = self.client.batch_execute_statement(Statements=statements)  # type: ignore[arg-type]
        except (ClientError, BotoCoreError) as problem:
            if isinstance(problem, ClientError):
                self._note_refusal({error_code(problem)})
            return [_fate_of(problem)] * len(rows)
        codes = [one["Error"].get("Code", "") if one.get("Error") else "" for one in answer["Responses"]]
        self._note_refusal(set(codes))
        return [_fate_of_code(code) if code else _Fate.THERE for code in codes]

    def _put_one(self, row: _Row) -> _Fate:
        with translated("PutItem"):
            try:
                self.client.put_item(**task_rows.insert_request(row.item, self._tables))
            except (ClientError, BotoCoreError) as problem:
                fate = _fate_of(problem)
                if fate is _Fate.REFUSED:
                    raise
                return fate
        return _Fate.THERE

    def _note_refusal(self, codes: set[str]) -> None:
        """Send no further batch of statements if all of one are refused for good, whatever they say."""
        if codes <= NO_STATEMENTS_CODES and self._takes_statements:
            self._takes_statements = False
            logger.warning("rows are put one by one from here on, batches of INSERT are refused: %s", codes)


def _fate_of_code(code: str) -> _Fate:
    """Return what an error's code says of a row."""
    if code in THERE_CODES:
        return _Fate.THERE
    if code in NOT_NOW_CODES:
        return _Fate.NOT_NOW
    return _Fate.UNKNOWN if code in UNKNOWN_CODES else _Fate.REFUSED


def _fate_of(problem: ClientError | BotoCoreError) -> _Fate:
    """Return what an error of a whole request says of its rows."""
    if isinstance(problem, ClientError):
        status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _Fate.UNKNOWN if status >= FIRST_SERVER_ERROR else _fate_of_code(error_code(problem))
    if isinstance(problem, NotConnected) and not isinstance(problem, SSLError):
        return _Fate.NOT_NOW
    return _Fate.UNKNOWN if isinstance(problem, (HTTPClientError, SSLError)) else _Fate.REFUSED


def _requests(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """Yield the rows in the slices that one request takes."""
    request: list[_Row] = []
    size = 0
    for row in rows:
        own = len(row.task.payload)
        if request and (len(request) == ROWS_PER_REQUEST or size + own > BYTES_PER_REQUEST):
            yield request
            request, size = [], 0
        request.append(row)
        size += own
    if request:
        yield request
