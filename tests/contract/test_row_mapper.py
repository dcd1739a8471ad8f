"""Fields of one's own on the rows of tasks keep their types through a whole life, on the twin and the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import moto
import pytest

from sosw_celery.config.settings import greenfield_delta, load_settings
from sosw_celery.core.tasks.model import Task
from sosw_celery.core.tasks.retrying import Retry
from sosw_celery.errors import InvalidJob
from sosw_celery.stores.dynamodb.job_table import JobTable
from sosw_celery.stores.dynamodb.tables import Tables, create_tables
from sosw_celery.stores.dynamodb.task_table import Failure, TaskTable

NOW = Decimal("1795392000.000001")

#: Pasted from sosw, with fields of one's own.
ROW_MAPPER = {"task_id": "S", "greenfield": "N", "customer": "S", "tags": "SS", "stat_pages": "S", "result_big": "BOOL"}

#: What somebody else's tool has put on the row: one field that is mapped as it is, others that are not mapped.
OWN = {
    "customer": {"S": "0012"},
    "tags": {"SS": ["a", "b"]},
    "sizes": {"NS": ["1", "2.5"]},
    "picture": {"B": b"\x00\xff"},
    "nested": {"M": {"list": {"L": [{"N": "1.5"}, {"BOOL": True}, {"NULL": True}]}}},
}


@pytest.fixture(params=["twin", "real"])
def table(request: pytest.FixtureRequest, table_prefix: str) -> Iterator[TaskTable]:
    """Empty task tables of a configuration with a `row_mapper`."""
    if request.param == "real":
        yield _made(request.getfixturevalue("dynamodb_client"), table_prefix)
        return
    with moto.mock_aws():
        yield _made(boto3.client("dynamodb"), table_prefix)


def _made(client: Any, prefix: str) -> TaskTable:
    table = {"table_name": f"{prefix}tasks", "row_mapper": ROW_MAPPER, "required_fields": ["task_id", "arn"]}
    names = {f"sosw_{name}_table": f"{prefix}{name}" for name in ("closed_tasks", "retry_tasks", "jobs")}
    meta = {"dynamo_db_config": {"table_name": f"{prefix}meta"}}
    settings = load_settings({"task_config": {"dynamo_db_config": table, **names}, "meta_handler_config": meta})
    tables = Tables.from_settings(settings)
    create_tables(client, tables)
    counters = JobTable(client, tables).counters_update
    return TaskTable(client, tables, delta=greenfield_delta(settings), job_counters=counters)


def row_of(table: TaskTable, name: str, key: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it stands in a table, sets in order."""
    row = table.client.get_item(TableName=name, Key=key, ConsistentRead=True)["Item"]
    return {field: _ordered(attribute) for field, attribute in row.items()}


def _ordered(attribute: Any) -> Any:
    ((kind, value),) = attribute.items()
    return {kind: sorted(value) if kind in ("SS", "NS") else value}


def test_fields_of_ones_own_live_through_a_retry_and_the_archive(table: TaskTable) -> None:
    """Written by another tool, carried through every table as they are; stats and results have the stated types."""
    task_id = {"task_id": {"S": "t1"}}
    table.write([Task("t1", "resize", NOW, NOW, arn="arn:aws:lambda:x")])
    row = table.client.get_item(TableName=table.tables.tasks, Key=task_id)["Item"]
    table.client.put_item(TableName=table.tables.tasks, Item={**row, **OWN})

    first = table.claim(Task("t1", "resize", NOW, NOW).next_attempt, now=NOW, node="n")
    outcome = {"stat_pages": 7, "result_big": "true", "result_plain": 7}
    waiting = table.fail(first.current_attempt, Retry(0), Failure("broken", outcome), now=NOW)
    expected = {**OWN, "stat_pages": {"S": "7"}, "result_big": {"BOOL": True}, "result_plain": {"N": "7"}}
    retry_key = {"labourer_id": {"S": "resize"}, **task_id}
    assert expected.items() <= row_of(table, table.tables.retry, retry_key).items()

    assert table.requeue([waiting], now=NOW) == 1
    second = table.claim(waiting.next_attempt, now=NOW, node="n")
    table.complete(second.current_attempt, now=NOW, outcome={"stat_pages": 8})
    assert table.archive(list(table.running("resize", now=NOW)), now=NOW) == 1
    closed = row_of(table, table.tables.closed, task_id)
    assert {**expected, "stat_pages": {"S": "8"}}.items() <= closed.items()


def test_a_row_without_a_required_field_is_not_written(table: TaskTable) -> None:
    """Nor are those beside it."""
    with pytest.raises(InvalidJob, match=r"task\.arn: required_fields asks for it"):
        table.write([Task("t1", "resize", NOW, NOW, arn="a"), Task("t2", "resize", NOW, NOW)])
    assert table.count_queued("resize", now=NOW) == 0
