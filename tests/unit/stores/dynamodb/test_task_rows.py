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
    attributes_of_text,
    attributes_text,
    claim_statement,
    close_request,
    close_statement,
    fitted_retry_row,
    from_item,
    new_item,
    to_item,
    typed_attribute,
    value_to_attribute,
)

KINDS_OF_DYNAMODB = {"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"}
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
    ("value", "attribute"),
    [
        (1.5, {"N": "1.5"}),
        (0.1, {"N": "0.1"}),
        (-0.0, {"N": "0"}),
        (float("nan"), {"S": "nan"}),
        (float("inf"), {"S": "inf"}),
        (10**38, {"S": "1" + "0" * 38}),
        (True, {"BOOL": True}),
        (Decimal("1732320000.000123"), {"N": "1732320000.000123"}),
        ("0012", {"S": "0012"}),
        ((1, "a"), {"L": [{"N": "1"}, {"S": "a"}]}),
        ({1: {"b": None}}, {"M": {"1": {"M": {"b": {"NULL": True}}}}}),
        (ValueError("odd"), {"S": "odd"}),
        ({"b"}, {"SS": ["b"]}),
        (frozenset([7]), {"NS": ["7"]}),
        ({b"x"}, {"BS": [b"x"]}),
        (set(), {"L": []}),
        ({None}, {"L": [{"NULL": True}]}),
        ({(1, 2)}, {"L": [{"L": [{"N": "1"}, {"N": "2"}]}]}),
        ({float("nan")}, {"L": [{"S": "nan"}]}),
    ],
)
def test_a_result_of_any_type_can_be_kept(value: object, attribute: dict[str, Any]) -> None:
    """A result keeps its type where DynamoDB has it, and becomes text where it has not."""
    assert value_to_attribute(value) == attribute


class Mute:
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


def circle() -> list[Any]:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("kind", [None, *sorted(KINDS_OF_DYNAMODB)])
@pytest.mark.parametrize(
    "value",
    [Mute(), {Mute(): 1}, [Mute()], {Mute()}, circle(), 10**5000, {10**5000}, {"a": 10**5000}, Decimal("sNaN")],
    ids=["mute", "mute key", "in a list", "in a set", "circle", "huge", "huge in a set", "huge value", "sNaN"],
)
def test_nothing_is_refused_whatever_it_is_and_is_to_be(value: object, kind: str | None) -> None:
    """A close never fails for what a body records, also if the value itself raises when it is asked what it is."""
    (stored,) = typed_attribute(value, kind).keys()
    assert stored in KINDS_OF_DYNAMODB


@pytest.mark.parametrize(
    ("value", "kind", "attribute"),
    [
        (7, "S", {"S": "7"}),
        ({"a": 1}, "S", {"S": '{"a": 1}'}),
        ("0012", "N", {"N": "12"}),
        (" 1.50", "N", {"N": "1.50"}),
        (True, "N", {"N": "1"}),
        ("twelve", "N", {"S": "twelve"}),
        ("nan", "N", {"S": "nan"}),
        ("TRUE", "BOOL", {"BOOL": True}),
        (0, "BOOL", {"BOOL": False}),
        (2, "BOOL", {"N": "2"}),
        (["a", "b", "a"], "SS", {"SS": ["a", "b"]}),
        ([1, 2], "NS", {"NS": ["1", "2"]}),
        ([], "SS", {"L": []}),
        ([1, "a"], "NS", {"L": [{"N": "1"}, {"S": "a"}]}),
        ({"a"}, "L", {"L": [{"S": "a"}]}),
        ({"a": 1}, "M", {"M": {"a": {"N": "1"}}}),
        ("text", "M", {"S": "text"}),
        (b"x", "S", {"B": b"x"}),
        (1.5, None, {"N": "1.5"}),
    ],
)
def test_a_field_has_the_type_that_the_row_mapper_states(
    value: object, kind: str | None, attribute: dict[str, Any]
) -> None:
    """What can have the stated type has it; what cannot keeps its own, so that nothing is lost."""
    assert typed_attribute(value, kind) == attribute


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


@given(value=st.floats())
def test_every_float_can_be_kept(value: float) -> None:
    """No float that a worker records makes its close fail."""
    attribute = value_to_attribute(value)
    if "N" in attribute:
        assert float(attribute["N"]) == value


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


def test_attributes_survive_a_json_text() -> None:
    """Bytes and sets too, in each other; a text of something else is refused as that."""
    attributes = {"result_a": [b"x", {"b": {b"y", b"z"}}], "stat_n": Decimal("1.50"), "stat_m": {"a"}, "e": None}
    assert attributes_of_text(attributes_text(attributes)) == attributes
    for text in ("", "5", "[]", '{"a": 5}', '{"a": {}}', '{"a": {"N": "x"}}', '{"a": {"B": "?"}}', '{"a": {"X": 1}}'):
        with pytest.raises(ValueError, match="expected the attributes of an item as a JSON text"):
            attributes_of_text(text)
