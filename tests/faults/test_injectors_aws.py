"""The faults of AWS are what they claim to be: shown on the real engine, through botocore's own retries."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.endpoint import Endpoint
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from moto.server import ThreadedMotoServer

from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.stores.aws_errors import cancellation_codes, error_code
from sosw_celery.stores.dynamodb import client as dynamodb_client
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import TaskTable
from tests.faults.injectors import aws_hook
from tests.faults.injectors.aws_rules import AwsFaults, Fault, Rule, RulesInForce
from tests.faults.injectors.lagging_index import LaggingIndexes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

ONE_TRY = Config(retries={"mode": "standard", "total_max_attempts": 1})
#: Share of a call that looking for rules may cost when there are none.
IDLE_COST = 0.03


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AwsFaults:
    """Faults of this very process."""
    monkeypatch.setattr(Endpoint, "_send", Endpoint._send)  # has it restored
    faults = AwsFaults(tmp_path / "aws", seed=7)
    aws_hook.install(RulesInForce(tmp_path / "aws", "7"))
    return faults


@pytest.fixture
def client(dynamodb_endpoint: str) -> Iterator[DynamoDBClient]:
    """A client that tries once."""
    client = boto3.client("dynamodb", endpoint_url=dynamodb_endpoint, config=ONE_TRY)
    yield client
    client.close()


@pytest.fixture
def tables(client: DynamoDBClient, table_prefix: str) -> Tables:
    """Empty tables."""
    names = {name: f"{table_prefix}{name}" for name in ("tasks", "closed", "retry", "jobs", "meta")}
    create_tables(client, Tables(**names))
    return Tables(**names)


def put(client: DynamoDBClient, tables: Tables, name: str) -> dict[str, Any]:
    """Put a row."""
    return dict(client.put_item(TableName=tables.tasks, Item={"task_id": {"S": name}}))


def names(client: DynamoDBClient, tables: Tables) -> set[str]:
    """Return the rows that are there."""
    return {item["task_id"]["S"] for item in client.scan(TableName=tables.tasks)["Items"]}


def outcome(error: Exception) -> str:
    """Return what an error is called."""
    return error_code(error) if isinstance(error, ClientError) else type(error).__name__


def test_a_labourer_is_struck_and_others_are_not(faults: AwsFaults, client: DynamoDBClient, tables: Tables) -> None:
    """Requests that have it as a value, alone or with a status, go wrong; those of others and of no labourer do not."""
    faults.set(Rule(Fault.THROTTLED, labourer_id="note"))
    for value, is_struck in {"note": True, "note_1": True, "notes": False, "a note": False, "count": False}.items():
        with pytest.raises(ClientError) if is_struck else contextlib.nullcontext():
            client.put_item(TableName=tables.tasks, Item={"task_id": {"S": "a"}, "labourer_id": {"S": value}})
        statement = {"Statement": f'SELECT * FROM "{tables.tasks}" WHERE task_id = ?', "Parameters": [{"S": value}]}
        with pytest.raises(ClientError) if is_struck else contextlib.nullcontext():
            client.execute_statement(**statement)
    index = {"IndexName": "sosw_tasks_greenfield", "KeyConditionExpression": "labourer_id = :name"}
    with pytest.raises(ClientError):
        client.query(TableName=tables.tasks, **index, ExpressionAttributeValues={":name": {"S": "note"}})
    put(client, tables, "note of no labourer")


def test_a_process_is_struck_and_others_are_not(
    faults: AwsFaults, client: DynamoDBClient, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules for some nodes strike their requests alone."""
    faults.set(Rule(Fault.THROTTLED, nodes=("scheduler2",)))
    put(client, tables, "a")
    monkeypatch.setenv("TEST_NODE", "scheduler1")
    put(client, tables, "b")
    monkeypatch.setenv("TEST_NODE", "scheduler2")
    with pytest.raises(ClientError):
        put(client, tables, "c")


@pytest.mark.parametrize(
    ("fault", "expected", "is_done"),
    [
        (Fault.THROTTLED, "ProvisionedThroughputExceededException", False),
        (Fault.REQUEST_LIMIT, "RequestLimitExceeded", False),
        (Fault.THROTTLING, "ThrottlingException", False),
        (Fault.CONFLICT, "TransactionConflictException", False),
        (Fault.ERROR_BEFORE, "InternalServerError", False),
        (Fault.ERROR_AFTER, "InternalServerError", True),
        (Fault.RESET_BEFORE, ConnectionClosedError.__name__, False),
        (Fault.RESET_AFTER, ConnectionClosedError.__name__, True),
        (Fault.TIMEOUT_BEFORE, ReadTimeoutError.__name__, False),
        (Fault.TIMEOUT_AFTER, ReadTimeoutError.__name__, True),
        (Fault.REFUSED, EndpointConnectionError.__name__, False),
    ],
)
def test_a_write_fails_before_or_after_its_effect(
    faults: AwsFaults, client: DynamoDBClient, tables: Tables, fault: Fault, expected: str, is_done: bool
) -> None:
    """The caller gets the error of that name, and the row is there exactly when the fault says so."""
    faults.set(Rule(fault))
    with pytest.raises((ClientError, BotoCoreError)) as raised:
        put(client, tables, "a")
    assert outcome(raised.value) == expected
    faults.clear()
    assert names(client, tables) == ({"a"} if is_done else set())
    assert faults.counts() == {(fault, "PutItem"): 1}


def test_botocore_tries_again_as_after_real_faults(
    faults: AwsFaults, dynamodb_endpoint: str, client: DynamoDBClient, tables: Tables
) -> None:
    """With a third of all sends failing in all manners, the client that we use gets each row in by retries."""
    kinds = set(Fault) - {Fault.CONFLICT, Fault.UNPROCESSED, Fault.STALE}
    faults.set(*(Rule(kind, 0.04) for kind in sorted(kinds)))
    ours = dynamodb_client.connect(endpoint_url=dynamodb_endpoint, region_name="eu-west-1")
    rows = {f"r{number}" for number in range(40)}
    retries = sum(put(ours, tables, row)["ResponseMetadata"]["RetryAttempts"] for row in sorted(rows))
    faults.clear()
    assert names(client, tables) == rows
    assert retries == len(faults.injections()) > 0
    ours.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.CONFLICT, "TransactionConflict"),
        (Fault.THROTTLED, "ProvisionedThroughputExceeded"),
        (Fault.THROTTLING, "ThrottlingError"),
    ],
)
def test_a_transaction_is_cancelled_with_the_reason_at_one_item(
    faults: AwsFaults, client: DynamoDBClient, tables: Tables, fault: Fault, reason: str
) -> None:
    """Throttles and conflicts of a transaction come as AWS tells them: by item; and nothing of it is done."""
    faults.set(Rule(fault, operations=("TransactWriteItems",)))
    writes: Any = [{"Put": {"TableName": tables.tasks, "Item": {"task_id": {"S": name}}}} for name in "abc"]
    with pytest.raises(ClientError) as raised:
        client.transact_write_items(TransactItems=writes)
    assert error_code(raised.value) == "TransactionCanceledException"
    assert sorted(cancellation_codes(raised.value)) == sorted(["None", "None", reason])
    assert names(client, tables) == set()


def test_a_batch_of_statements_is_executed_in_part(faults: AwsFaults, client: DynamoDBClient, tables: Tables) -> None:
    """Some statements take effect, and exactly the others are answered as throttled, each at its place."""
    rows = [f"r{number}" for number in range(8)]
    for name in rows:
        put(client, tables, name)
    statements: Any = [
        {
            "Statement": f'UPDATE "{tables.tasks}" SET "seen"=? WHERE "task_id"=?',
            "Parameters": [{"N": "1"}, {"S": name}],
        }
        for name in rows
    ]
    faults.set(Rule(Fault.UNPROCESSED, 0.5))
    throttled: set[str] = set()
    for _ in range(3):
        answers = client.batch_execute_statement(Statements=statements)["Responses"]
        assert {answer.get("Error", {}).get("Code") for answer in answers} <= {None, "ThrottlingError"}
        throttled |= {name for name, answer in zip(rows, answers, strict=True) if "Error" in answer}
        statements = [one for one, answer in zip(statements, answers, strict=True) if "Error" in answer]
        rows = [name for name, answer in zip(rows, answers, strict=True) if "Error" in answer]
        if not rows:
            break
    faults.clear()
    seen = {item["task_id"]["S"] for item in client.scan(TableName=tables.tasks)["Items"] if "seen" in item}
    assert throttled
    assert seen == {f"r{number}" for number in range(8)} - set(rows)


def test_a_batch_is_done_in_part(faults: AwsFaults, dynamodb_endpoint: str, tables: Tables) -> None:
    """Of a batch, some items are written and exactly the others are answered as unprocessed; reads likewise.

    Also where a guard watches the body on its way out.
    """
    faults.set(Rule(Fault.UNPROCESSED, 0.5, operations=("BatchWriteItem", "BatchGetItem")))
    client = dynamodb_client.connect(endpoint_url=dynamodb_endpoint, region_name="eu-west-1")
    rows = {f"r{number}" for number in range(25)}
    request: Any = {tables.tasks: [{"PutRequest": {"Item": {"task_id": {"S": row}}}} for row in rows]}
    checks: list[int] = []
    with dynamodb_client.sent_only_if(lambda: checks.append(1)):
        answers = [client.batch_write_item(RequestItems=request) for _ in range(3)]
    struck = [answer for answer in answers if answer["UnprocessedItems"]]
    left = [{put["PutRequest"]["Item"]["task_id"]["S"] for put in answer["UnprocessedItems"][tables.tasks]}
            for answer in struck]  # fmt: skip
    assert checks
    assert len(left) == len(faults.injections()) > 0
    assert all(0 < len(part) < 25 for part in left)
    faults.clear()
    assert names(client, tables) == rows - (set.intersection(*left) if len(left) == 3 else set())

    faults.set(Rule(Fault.UNPROCESSED, 1.0))
    wanted: Any = {tables.tasks: {"Keys": [{"task_id": {"S": row}} for row in rows], "ConsistentRead": True}}
    nothing = client.batch_get_item(RequestItems=wanted)
    assert (nothing["Responses"], nothing["UnprocessedKeys"]) == ({}, wanted)
    client.close()


def test_rules_choose_by_operation_and_end_by_themselves(
    faults: AwsFaults, client: DynamoDBClient, tables: Tables
) -> None:
    """A rule for some operations leaves the others alone, and one for a span strikes no more behind its end."""
    faults.set(Rule(Fault.REFUSED, operations=("PutItem",)), for_s=0.3)
    assert names(client, tables) == set()
    with pytest.raises(EndpointConnectionError):
        put(client, tables, "a")
    end = time.monotonic() + 5
    while names(client, tables) != {"b"}:
        assert time.monotonic() < end
        try:
            put(client, tables, "b")
        except EndpointConnectionError:
            continue


def test_clients_made_before_and_after_are_struck(
    client: DynamoDBClient, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamodb_endpoint: str
) -> None:
    """It does not matter when a client was made, nor by which session."""
    put(client, tables, "before")
    monkeypatch.setattr(Endpoint, "_send", Endpoint._send)
    faults = AwsFaults(tmp_path / "aws", seed=1)
    aws_hook.install(RulesInForce(tmp_path / "aws", "1"))
    faults.set(Rule(Fault.REFUSED))
    later = boto3.Session().client("dynamodb", endpoint_url=dynamodb_endpoint, config=ONE_TRY)
    for made in (client, later):
        with pytest.raises(EndpointConnectionError):
            put(made, tables, "after")
    later.close()


def test_the_seed_decides(tmp_path: Path) -> None:
    """Processes that need chance in the same order get the same, run by run; another seed gives another."""

    def draws(name: str, seed: int) -> list[list[float]]:
        AwsFaults(tmp_path / name, seed)
        processes = [RulesInForce(tmp_path / name, str(seed)) for _ in range(3)]
        return [[process.chance.random() for _ in range(5)] for process in processes]

    first = draws("one", 1)
    assert first == draws("two", 1)
    assert len({tuple(each) for each in first}) == 3
    assert draws("three", 2) != first


def test_without_rules_it_costs_next_to_nothing(faults: AwsFaults, client: DynamoDBClient, tables: Tables) -> None:
    """Looking whether there are rules takes a small share of the CPU time of the cheapest call."""
    rules = RulesInForce(Path(faults.environment["TEST_AWS_FAULTS"]), "7")

    def cpu_s(call: Callable[[], object], times: int) -> float:
        began = time.thread_time()
        for _ in range(times):
            call()
        return (time.thread_time() - began) / times

    put(client, tables, "a")
    look = min(cpu_s(lambda: rules.of("dynamodb"), 2000) for _ in range(5))
    call = min(cpu_s(lambda: put(client, tables, "a"), 100) for _ in range(5))
    assert look / call < IDLE_COST


@pytest.fixture
def moto() -> Iterator[S3Client]:
    """A client of an S3 that keeps to conditions; it tries once."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", config=ONE_TRY)
    client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client
    client.close()
    server.stop()


def test_s3_fails_likewise(faults: AwsFaults, moto: S3Client) -> None:
    """Errors and cuts of S3 by operation; a conditional put whose answer is lost has the object there."""
    faults.set(Rule(Fault.RESET_AFTER, service="s3", header="If-None-Match"))
    moto.put_object(Bucket="bucket", Key="plain", Body=b"1")
    with pytest.raises(ConnectionClosedError):
        moto.put_object(Bucket="bucket", Key="locked", Body=b"1", IfNoneMatch="*")
    assert {item["Key"] for item in moto.list_objects_v2(Bucket="bucket")["Contents"]} == {"plain", "locked"}
    faults.clear()
    with pytest.raises(ClientError) as refused:
        moto.put_object(Bucket="bucket", Key="locked", Body=b"2", IfNoneMatch="*")
    assert error_code(refused.value) == "PreconditionFailed"

    expected = {Fault.THROTTLED: "SlowDown", Fault.ERROR_BEFORE: "InternalError", Fault.ERROR_AFTER: "InternalError"}
    for fault, code in expected.items():
        for operation, call in {
            "GetObject": lambda: moto.get_object(Bucket="bucket", Key="plain"),
            "DeleteObject": lambda: moto.delete_object(Bucket="bucket", Key="gone"),
            "ListObjectsV2": lambda: moto.list_objects_v2(Bucket="bucket"),
        }.items():
            faults.set(Rule(fault, service="s3", operations=(operation,)))
            with pytest.raises(ClientError) as raised:
                call()
            assert (error_code(raised.value), raised.value.operation_name) == (code, operation)
    assert Counter(injection.operation for injection in faults.injections()) == {
        "PutObject": 1, "GetObject": 3, "DeleteObject": 3, "ListObjectsV2": 3,
    }  # fmt: skip


def test_an_index_that_lags_shows_what_was(faults: AwsFaults, dynamodb_endpoint: str, tables: Tables) -> None:
    """A new row is not in the index yet, and a claimed one stands there as queued; both pass after the lag."""
    lag_s = 1.0
    client = dynamodb_client.connect(endpoint_url=dynamodb_endpoint, region_name="eu-west-1")
    counters = JobTable(client, tables).counters_update
    task_table = TaskTable(client, tables, delta=Decimal(31_557_600), job_counters=counters)
    now = Decimal(1_800_000_000)
    task = Task("t", "note", greenfield=now, created_at=now, payload="{}")

    def queued() -> list[str]:
        return [row.task_id for row in task_table.queued("note", now=now, start=None, limit=9)]

    def after_lag(expected: list[str], changed_at: float) -> None:
        while queued() != expected:
            assert time.monotonic() < changed_at + 10 * lag_s
        assert time.monotonic() - changed_at >= lag_s

    with LaggingIndexes(dynamodb_endpoint, [tables.tasks, tables.closed], lag_s=lag_s) as lagging:
        faults.set(lagging.rule())
        changed_at = time.monotonic()
        task_table.write([task])
        assert queued() == []
        assert task_table.find("t").where == "tasks"  # reads by key know it
        after_lag(["t"], changed_at)
        changed_at = time.monotonic()
        claimed = task_table.claim(Attempt("note", "t", 1), now=now, node="here")
        assert queued() == ["t"]
        after_lag([], changed_at)
        assert [row.task_id for row in task_table.running("note", now=now)] == ["t"]
        task_table.complete(claimed.current_attempt, now=now, outcome={})
        changed_at = time.monotonic()
        completed = replace(claimed, completed_at=now)
        assert task_table.archive([completed], now=now) == 1
        assert [row.task_id for row in task_table.running("note", now=now)] == ["t"]
        assert list(task_table.closed("note", status=1)) == []
        while not list(task_table.closed("note", status=1)):
            assert time.monotonic() < changed_at + 10 * lag_s
        faults.clear()
        assert queued() == []
    client.close()
