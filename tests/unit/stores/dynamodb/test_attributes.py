"""How values read as attributes of DynamoDB."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.stores.dynamodb.attributes import (
    attributes_of_text,
    attributes_text,
    typed_attribute,
    value_to_attribute,
)

KINDS_OF_DYNAMODB = {"S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"}


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


@given(value=st.floats())
def test_every_float_can_be_kept(value: float) -> None:
    """No float that a worker records makes its close fail."""
    attribute = value_to_attribute(value)
    if "N" in attribute:
        assert float(attribute["N"]) == value


def test_attributes_survive_a_json_text() -> None:
    """Bytes and sets too, in each other; a text of something else is refused as that."""
    attributes = {"result_a": [b"x", {"b": {b"y", b"z"}}], "stat_n": Decimal("1.50"), "stat_m": {"a"}, "e": None}
    assert attributes_of_text(attributes_text(attributes)) == attributes
    for text in ("", "5", "[]", '{"a": 5}', '{"a": {}}', '{"a": {"N": "x"}}', '{"a": {"B": "?"}}', '{"a": {"X": 1}}'):
        with pytest.raises(ValueError, match="expected the attributes of an item as a JSON text"):
            attributes_of_text(text)
