"""How a task reads in DynamoDB."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.tasks.fields import ALWAYS_SET, FIELD_TYPES
from sosw_celery.core.tasks.model import Attempt, Task
from sosw_celery.errors import InvalidJob, ItemCorrupt
from sosw_celery.stores.dynamodb.item_size import MOST_BYTES, size_of
from sosw_celery.stores.dynamodb.tables import Tables
from sosw_celery.stores.dynamodb.task_rows import (
    claim_statement,
    close_request,
    close_statement,
    fitted_retry_row,
    from_item,
    new_item,
    to_item,
)

NUMBERS = st.decimals(min_value=-(10**15), max_value=10**15, places=6)
PLAIN = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(max_size=20)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
TASKS = st.builds(
    Task,
    task_id=st.text(min_size=1, max_size=20),
    labourer_id=st.text(min_size=1, max_size=20),
    greenfield=NUMBERS,
    created_at=NUMBERS,
    payload=st.text(min_size=1, max_size=50),
    job_id=st.text(st.characters(exclude_characters="#"), max_size=20),
    attempts=st.integers(0, 10**6),
    failed_attempts=st.integers(0, 10**6),
    completed_at=st.none() | NUMBERS,
    extra=st.dictionaries(st.sampled_from(["stat_a", "result_b", "strict", "labourer", "self"]), VALUES),
)


@given(task=TASKS, names=st.sampled_from([{}, {"task_id": "id", "greenfield": "g"}]))
def test_a_task_survives_its_row(task: Task, names: dict[str, str]) -> None:
    """What was stored is what is read: numbers digit by digit, fields of any name with their types."""
    tables = Tables(field_names=names)
    assert from_item(to_item(task, tables), tables) == task


@pytest.mark.parametrize(
    ("attribute", "kind"),
    [({"SS": ["x"]}, None), ({"NS": ["1"]}, None), ({"B": b"x"}, None), ({"S": "12"}, "S"), ({"BOOL": True}, "BOOL")],
)
def test_fields_of_ones_own_keep_their_type_on_the_way_through_the_tables(
    attribute: dict[str, Any], kind: str | None
) -> None:
    """A retry or the archive writes a field that is not ours as it was read."""
    tables = Tables(row_mapper={"own": kind} if kind else {})
    row = {**to_item(Task("task-7", "resize", Decimal(1), Decimal(1)), tables), "own": attribute}
    assert to_item(from_item(row, tables), tables)["own"] == attribute


def test_stats_and_results_have_the_stated_types_too() -> None:
    """`row_mapper` speaks of every field that a close writes."""
    tables = Tables(row_mapper={"stat_pages": "S"})
    attempt = Task("task-7", "resize", Decimal(1), Decimal(1), attempts=1).current_attempt
    request = close_request(attempt, Decimal(2), Decimal(3), {"stat_pages": 7, "stat_rows": 7}, tables)
    values = request["ExpressionAttributeValues"]
    assert (values[":o0"], values[":o1"]) == ({"S": "7"}, {"N": "7"})


def test_no_row_is_made_without_a_required_field() -> None:
    """The error names the field by its name in the table."""
    task = Task("task-7", "resize", Decimal(1), Decimal(1), job_id="job")
    with pytest.raises(InvalidJob, match=r"task\.arn"):
        new_item(task, Tables(required_fields=("task_id", "arn")))
    renamed = Tables(field_names={"arn": "lambda"}, required_fields=("lambda",))
    assert new_item(Task("task-7", "resize", Decimal(1), Decimal(1), arn="a"), renamed)["lambda"] == {"S": "a"}


def test_the_types_of_our_fields_are_those_of_the_rows() -> None:
    """What `row_mapper` is checked against is what is written, field by field."""
    number = Decimal(1)
    task = Task("t", "l", number, number, "{}", "j", "a", 1, 1, number, number, number)
    item = to_item(task, Tables())
    stated = {name: kind for name, kind in FIELD_TYPES.items() if name != "labourer_id_task_status"}
    assert {name: next(iter(attribute)) for name, attribute in item.items()} == stated
    assert set(ALWAYS_SET) <= to_item(Task("t", "l", number, number, job_id="j"), Tables()).keys()


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": {"S": "many"}},
        {"greenfield": {"N": "soon"}},
        {"payload": {"M": {}}},
        {"labourer_id": None},
    ],
)
def test_a_row_that_is_no_task_names_itself(change: dict[str, Any]) -> None:
    """A row with a missing field or one of another type is refused by its task_id."""
    row = to_item(Task("task-7", "resize", Decimal(1), Decimal(1)), Tables()) | change
    with pytest.raises(ItemCorrupt, match="task-7"):
        from_item({key: value for key, value in row.items() if value is not None}, Tables())


@pytest.mark.parametrize(
    "tables",
    [
        Tables(tasks='tasks" SET "labourer_id"=\'other\' --'),
        Tables(field_names={"labourer_id": 'id" IS MISSING OR "a'}),
        Tables(field_names={"greenfield": "place in the queue"}),
    ],
    ids=["the table", "a field of a condition", "a field with spaces"],
)
def test_no_name_that_is_more_than_a_name_stands_in_a_statement(tables: Tables) -> None:
    """Then there is no statement: values are parameters, names would be text."""
    assert claim_statement(Attempt("a", "task", 1), "me", Decimal(5), Decimal(3), tables) is None


def test_a_statement_names_the_table_and_the_fields_as_they_are_called() -> None:
    """Each value is a parameter, in the order of the question marks."""
    tables = Tables(tasks="1-tasks.of_mine", field_names={"attempts": "tries"})
    statement = close_statement(Attempt("a", "task", 2), Decimal(5), Decimal(3), {"stat_n": 1}, tables)
    assert statement == {
        "Statement": (
            'UPDATE "1-tasks.of_mine" SET "completed_at"=?, "stat_n"=? '
            'WHERE "task_id"=? AND "tries"=? AND "greenfield">? AND "completed_at" IS MISSING'
        ),
        "Parameters": [{"N": "5"}, {"N": "1"}, {"S": "task"}, {"N": "2"}, {"N": "3"}],
    }


def test_what_failed_attempts_leave_has_half_of_the_room() -> None:
    """The other half is for the end of the next attempt; the largest of it goes first, and the row says which."""
    payload = json.dumps("x" * 300_000)
    extra = {
        "claimed_by": "node/1",
        "result_large": "y" * 80_000,
        "result_small": "z" * 9_000,
        "last_error": "e" * 2000,
    }
    task = Task("task-7", "resize", Decimal(1), Decimal(1), payload, attempts=1, extra=extra)
    row = fitted_retry_row(task, Tables())
    assert row is not None
    assert row["result_small"] == {"S": "z" * 9_000}
    assert "result_large" not in row
    assert row["dropped_attributes"]["S"].startswith("result_large (80012 bytes)")
    assert {"claimed_by", "last_error", "payload"} <= row.keys()
    free = MOST_BYTES - size_of(row)
    assert free > 50_000
    small = fitted_retry_row(replace(task, payload="{}"), Tables())
    assert small is not None
    assert small["result_large"] == {"S": "y" * 80_000}
