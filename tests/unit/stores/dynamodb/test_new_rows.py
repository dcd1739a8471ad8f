"""New rows: what becomes of those that could not be put, or of which nobody knows whether they were."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from sosw_celery.core.tasks.model import Task
from sosw_celery.errors import InvalidJob, StoreError, StoreUnavailable, TransitionRefused
from sosw_celery.stores.dynamodb.client import sent_only_if
from sosw_celery.stores.dynamodb.new_rows import BYTES_PER_REQUEST, SENDS, NewRows
from sosw_celery.stores.dynamodb.tables import Tables

NOW = Decimal(1_795_392_000)
HELD_BACK_S = 7.0
WHERE = {"endpoint_url": "http://127.0.0.1:1"}

Answer = Callable[[list[str]], Any]


def refused(code: str, status: int = 400) -> ClientError:
    """Return the error of a whole request."""
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "BatchExecuteStatement")


@dataclass
class Table:
    """A table whose answers to batches a test gives: one after the other, and then that all was done.

    An answer is an error to raise, or the codes of rows by their ids.
    """

    answers: list[Exception | dict[str, str]] = field(default_factory=list)
    #: Answers to single puts, by the id of the row.
    of_puts: dict[str, Exception] = field(default_factory=dict)
    #: Ids of the rows that any table holds.
    there: set[str] = field(default_factory=set)
    #: What happened: ids of a batch, `put ID`, `wait SECONDS`, `look IDS`.
    log: list[str] = field(default_factory=list)
    statements: list[Any] = field(default_factory=list)

    def batch_execute_statement(self, *, Statements: list[Any]) -> dict[str, Any]:
        """Answer to a batch."""
        ids = [statement["Parameters"][0]["S"] for statement in Statements]
        self.statements += Statements
        self.log.append(" ".join(ids))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        return {"Responses": [{"Error": {"Code": answer[one]}} if one in answer else {} for one in ids]}

    def put_item(self, *, Item: dict[str, Any], ConditionExpression: str, **_: Any) -> None:
        """Answer to a single put."""
        assert ConditionExpression == "attribute_not_exists(#id)"
        identity = Item["task_id"]["S"]
        self.log.append(f"put {identity}")
        if identity in self.of_puts:
            raise self.of_puts.pop(identity)

    def existing(self, labourer_id: str, ids: Sequence[str]) -> set[str]:
        """Look which rows there are."""
        self.log.append("look " + " ".join(ids))
        return self.there & set(ids)

    def sleep(self, seconds: float) -> None:
        """Take note of a wait that is one for what is on its way; the others are random."""
        if seconds == HELD_BACK_S:
            self.log.append("wait")

    def new_rows(self, **fields: Any) -> NewRows:
        """Return what puts rows into this table."""
        client: Any = self
        tables = Tables(**fields)
        return NewRows(lambda: client, tables, self.existing, held_back_s=HELD_BACK_S, sleep=self.sleep)


def tasks(*ids: str, **fields: Any) -> list[Task]:
    """Return new tasks."""
    return [Task(identity, "resize", NOW, NOW, **fields) for identity in ids]


def test_rows_go_by_statements_that_hold_no_value() -> None:
    """Names stand in the statement, values travel beside it, in the order of the names."""
    table = Table()
    table.new_rows().put(tasks("a", payload='{"x": "\'?"}'))
    (statement,) = table.statements
    assert statement["Statement"] == (
        """INSERT INTO "sosw_tasks" VALUE {'task_id': ?, 'labourer_id': ?, 'payload': ?, 'greenfield': ?,"""
        """ 'created_at': ?, 'attempts': ?}"""
    )
    assert statement["Parameters"][:3] == [{"S": "a"}, {"S": "resize"}, {"S": '{"x": "\'?"}'}]


def test_a_row_that_stands_there_is_written() -> None:
    """Whoever put it, it is not put again, and nobody is told of a failure."""
    table = Table([{"a": "DuplicateItem", "b": "ConditionalCheckFailed"}])
    table.new_rows().put(tasks("a", "b", "c"))
    assert table.log == ["a b c"]


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceeded", "RequestLimitExceeded", "ThrottlingError", "TransactionConflict"]
)
def test_rows_that_were_not_put_are_sent_again(code: str) -> None:
    """Those alone, at once and without a look: an answer says that they are not there."""
    table = Table([{"b": code}, {"b": code}])
    table.new_rows().put(tasks("a", "b"))
    assert table.log == ["a b", "b", "b"]


@pytest.mark.parametrize(
    "problem",
    [
        refused("ProvisionedThroughputExceededException"),
        refused("ThrottlingException"),
        refused("RequestLimitExceeded"),
        EndpointConnectionError(**WHERE),
        ConnectTimeoutError(**WHERE),
    ],
)
def test_a_request_that_did_nothing_is_sent_again(problem: Exception) -> None:
    """As it is and without a look: it was refused, or never left."""
    table = Table([problem])
    table.new_rows().put(tasks("a", "b"))
    assert table.log == ["a b", "a b"]


@pytest.mark.parametrize(
    "problem",
    [
        ReadTimeoutError(**WHERE),
        ConnectionClosedError(**WHERE),
        SSLError(**WHERE, error="reset"),
        refused("InternalServerError", 500),
        refused("ServiceUnavailable", 503),
        refused("", 502),
    ],
)
def test_rows_that_nobody_knows_of_are_looked_for_before_they_are_put_again(problem: Exception) -> None:
    """Once what was on its way has arrived or never will; those that are anywhere by then are left where they are."""
    table = Table([problem], there={"b"})
    table.new_rows().put(tasks("a", "b", "c"))
    assert table.log == ["a b c", "wait", "look a b c", "a c"]


def test_a_row_alone_may_be_one_that_nobody_knows_of() -> None:
    """Those beside it, of which an answer told, are not looked for."""
    table = Table([{"a": "InternalServerError", "b": "ThrottlingError"}], there={"a"})
    table.new_rows().put(tasks("a", "b", "c"))
    assert table.log == ["a b c", "wait", "look a", "b"]


def test_what_is_never_put_is_told_in_the_end() -> None:
    """After many sends the caller hears "try again later", and nothing is on its way."""
    table = Table([ReadTimeoutError(**WHERE)] * 50)
    with pytest.raises(StoreUnavailable):
        table.new_rows().put(tasks("a"))
    assert table.log == ["a", "wait", "look a"] * SENDS


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException", "ValidationException"])
def test_where_statements_are_refused_rows_are_put_one_by_one(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """From then on no batch is sent, and the log says so once."""
    table = Table([refused(code)])
    rows = table.new_rows()
    rows.put(tasks("a"))
    rows.put(tasks("b"))
    assert table.log == ["a", "put a", "put b"]
    assert len(caplog.records) == 1
    assert code in caplog.text


def test_where_each_statement_is_refused_rows_are_put_one_by_one() -> None:
    """AWS may refuse the batch, or each statement in it."""
    table = Table([{"a": "AccessDenied"}])
    rows = table.new_rows()
    rows.put(tasks("a"))
    rows.put(tasks("b"))
    assert table.log == ["a", "put a", "put b"]


def test_one_refused_row_is_put_alone_and_the_next_ones_together() -> None:
    """What a statement cannot do for one row says nothing of the others."""
    table = Table([{"a": "ValidationError"}])
    rows = table.new_rows()
    rows.put(tasks("a", "b"))
    rows.put(tasks("c"))
    assert table.log == ["a b", "put a", "c"]


def test_a_row_with_a_name_that_no_statement_takes_is_put_alone() -> None:
    """A quote in a name is no way into a statement."""
    table = Table()
    table.new_rows(field_names={"payload": "pay'load"}).put(tasks("a", payload="{}"))
    assert table.log == ["put a"]


def test_single_puts_are_known_of_like_the_rows_of_a_batch() -> None:
    """One that stands there, one that is throttled, one without an answer: each goes its way."""
    table = Table([refused("AccessDeniedException")], there={"c"})
    table.of_puts = {
        "a": refused("ConditionalCheckFailedException"),
        "b": refused("ThrottlingException"),
        "c": ReadTimeoutError(**WHERE),
    }
    table.new_rows().put(tasks("a", "b", "c", "d"))
    assert table.log[0] == "a b c d"
    assert set(table.log[1:5]) == {"put a", "put b", "put c", "put d"}
    assert table.log[5:] == ["wait", "look c", "put b"]


def test_an_error_for_good_comes_when_nothing_is_on_its_way() -> None:
    """A row that is refused, beside one without an answer, is told of after the wait for that one."""
    table = Table([{"a": "ValidationError", "b": "InternalServerError"}])
    table.of_puts = {"a": refused("ValidationException")}
    with pytest.raises(StoreError) as caught:
        table.new_rows().put(tasks("a", "b"))
    assert caught.value.code == "ValidationException"
    assert table.log == ["a b", "put a", "wait"]


def test_without_credentials_nothing_is_waited_for() -> None:
    """An error from before any sending is the caller's, at once."""
    table = Table([NoCredentialsError()])
    table.of_puts = {"a": NoCredentialsError()}
    with pytest.raises(StoreUnavailable) as caught:
        table.new_rows().put(tasks("a"))
    assert caught.value.code == "NoCredentialsError"
    assert "wait" not in table.log


def test_what_holds_for_this_thread_holds_for_its_single_puts() -> None:
    """A check before sending that fails keeps rows back that a pool's threads would send."""
    seen: list[str] = []

    class Checked(Table):
        def put_item(self, **request: Any) -> None:
            from sosw_celery.stores.dynamodb.client import _check_before_sending

            seen.append(threading.current_thread().name)
            check = _check_before_sending.get()
            assert check is not None
            check()

    def too_late() -> None:
        raise TransitionRefused("j1#part#00000", "write")

    table = Checked([refused("AccessDeniedException")])
    with sent_only_if(too_late), pytest.raises(TransitionRefused):
        table.new_rows().put(tasks("a"))
    assert len(seen) == 1
    assert seen[0] != threading.current_thread().name


def test_a_request_holds_25_rows_and_a_megabyte() -> None:
    """So that it is sent within its time; a row above that goes alone."""
    table = Table()
    small = tasks(*(f"s{number:02d}" for number in range(30)))
    large = tasks("l1", "l2", "l3", payload="x" * (BYTES_PER_REQUEST // 2))
    table.new_rows().put([*small, *large])
    assert [len(request.split()) for request in table.log] == [25, 6, 2]


def test_no_row_is_put_when_one_lacks_what_it_must_have() -> None:
    """Required fields are looked at before the first request."""
    table = Table()
    with pytest.raises(InvalidJob):
        table.new_rows(required_fields=("arn",)).put([*tasks("a", arn="x"), *tasks("b")])
    assert table.log == []
