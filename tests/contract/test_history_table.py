"""What the table of the history promises, on the twin and on the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import moto
import pytest

from sosw_celery.core.tasks.history import Event, Origin
from sosw_celery.errors import StoreError
from sosw_celery.stores.dynamodb.history_table import HistoryTable, event_of, item_of
from sosw_celery.stores.dynamodb.requests import WRITES_PER_BATCH
from sosw_celery.stores.dynamodb.tables import Tables, create_tables

NOW = Decimal("1795392000.000001")
ORIGIN = Origin("resize", "message-1", "node-1")


@pytest.fixture(params=["twin", "real"])
def table(request: pytest.FixtureRequest, table_prefix: str) -> Iterator[HistoryTable]:
    """An empty history."""
    names = ("tasks", "closed", "retry", "jobs", "meta")
    tables = Tables(**{name: f"{table_prefix}{name}" for name in names}, field_names={"task_id": "id"})
    if request.param == "twin":
        with moto.mock_aws():
            client = boto3.client("dynamodb", region_name="eu-west-1")
            create_tables(client, tables)
            yield HistoryTable(client, tables.meta)
    else:
        client = request.getfixturevalue("dynamodb_client")
        create_tables(client, tables)
        yield HistoryTable(client, tables.meta)


def event(action: str, at: Decimal = NOW, task_id: str = "task-1", **extra: Any) -> Event:
    """Return an event."""
    return Event(task_id, at, action, ORIGIN, extra)


def write(table: HistoryTable, *events: Event) -> None:
    """Write events as one request."""
    assert table.write([item_of(one, {}) for one in events]) == []


def test_the_history_of_a_task_is_read_in_order(table: HistoryTable) -> None:
    """Whatever the order of writing; other tasks' events are not among them; every digit of the time comes back."""
    close = Decimal("0.00000000000112345678")
    third, first, second = event("third", NOW + 1), event("first"), event("second", NOW + close, size=Decimal(3))
    write(table, third, first, event("other", task_id="task-2"), second)
    assert table.history("task-1") == [first, second, third]
    assert table.history("task-3") == []


def test_writing_again_changes_nothing(table: HistoryTable) -> None:
    """So a request whose answer was lost may be sent again."""
    write(table, event("first"))
    write(table, event("first"), event("second", NOW + 1))
    assert [one.action for one in table.history("task-1")] == ["first", "second"]


def test_a_long_history_is_read_to_its_end(table: HistoryTable) -> None:
    """More than the 1 MB of one answer."""
    events = [event(str(number), NOW + number, text="x" * 60_000) for number in range(50)]
    for start in range(0, 50, WRITES_PER_BATCH // 2):
        write(table, *events[start : start + WRITES_PER_BATCH // 2])
    assert [one.action for one in table.history("task-1")] == [str(number) for number in range(50)]


def test_a_row_too_large_is_told_as_the_rows_own_fault(table: HistoryTable) -> None:
    """By the code that has the others of its request written without it."""
    with pytest.raises(StoreError) as refused:
        table.write([item_of(event("huge", text="x" * 410_000), {}), item_of(event("small", NOW + 1), {})])
    assert refused.value.code == "ValidationException"


def test_a_row_that_sosw_wrote_is_an_event_as_well() -> None:
    """Fields that are missing are empty, others are kept."""
    row = {"task_id": {"S": "task-1"}, "created_at": {"N": "1795392000.5"}, "note": {"S": "by hand"}}
    assert event_of(row) == Event("task-1", Decimal("1795392000.5"), "", Origin("", "", ""), {"note": "by hand"})
