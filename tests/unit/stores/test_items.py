"""How a task reads in DynamoDB."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.model import Task
from sosw_celery.errors import ItemCorrupt
from sosw_celery.stores.items import from_item, to_item, value_to_attribute
from sosw_celery.stores.tables import Tables

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
    job_id=st.text(max_size=20),
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
    ],
)
def test_a_result_of_any_type_can_be_kept(value: object, attribute: dict[str, Any]) -> None:
    """A result keeps its type where DynamoDB has it, and becomes text where it has not."""
    assert value_to_attribute(value) == attribute


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
