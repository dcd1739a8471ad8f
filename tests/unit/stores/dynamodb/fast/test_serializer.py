"""Requests of items are written as botocore writes them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import Binary
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.stores.dynamodb.fast.serializer import ItemSerializer

MODEL = boto3.client("dynamodb", region_name="eu-west-1").meta.service_model
THEIRS: Any = create_serializer("json", include_validation=False)
BINARY = st.binary(max_size=4)
LEAVES = st.one_of(
    st.text().map(lambda text: {"S": text}),
    st.integers().map(lambda number: {"N": str(number)}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.lists(st.text(), min_size=1).map(lambda texts: {"SS": texts}),
    BINARY.map(lambda data: {"B": data}),
    BINARY.map(lambda data: {"B": bytearray(data)}),
    st.lists(BINARY, min_size=1).map(lambda data: {"BS": data}),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner).map(lambda values: {"L": values})
        | st.dictionaries(st.text(), inner).map(lambda values: {"M": values})
    ),
    max_leaves=5,
)
ITEMS = st.dictionaries(st.text(min_size=1), VALUES, max_size=4)


def same(operation: str, parameters: dict[str, Any]) -> None:
    """Have both write a request."""
    model = MODEL.operation_model(operation)
    ours, theirs = (kind.serialize_to_request(parameters, model) for kind in (ItemSerializer(THEIRS), THEIRS))
    assert ours == theirs


@given(ITEMS, st.lists(VALUES, max_size=3))
def test_items_are_written_as_botocore_writes_them(item: Any, values: list[Any]) -> None:
    """Byte for byte, whatever values they have, binary ones included."""
    same("BatchWriteItem", {"RequestItems": {"t": [{"PutRequest": {"Item": item}}]}})
    same(
        "TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "t", "Item": item}}], "ClientRequestToken": "x"}
    )
    same("BatchExecuteStatement", {"Statements": [{"Statement": 'UPDATE "t"', "Parameters": values}]})
    same("Query", {"TableName": "t", "Limit": 5, "ScanIndexForward": False, "ExpressionAttributeValues": item})


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("DescribeTable", {"TableName": "t"}),
        ("GetItem", {"TableName": "t", "Key": {"task_id": {"S": "a"}}, "ConsistentRead": True}),
        ("PutItem", {"TableName": "t", "Item": {"data": {"B": b"\x00\xff"}}}),
        ("ListTables", {}),
    ],
)
def test_all_else_is_left_to_botocore(operation: str, parameters: Any) -> None:
    """Other requests, and binary values."""
    same(operation, parameters)


def test_a_request_does_not_touch_the_next_one() -> None:
    """What botocore puts into the headers of one request stays there."""
    ours, model = ItemSerializer(THEIRS), MODEL.operation_model("PutItem")
    first = ours.serialize_to_request({"TableName": "t", "Item": {}}, model)
    first["headers"]["X-Of-The-First"] = "1"
    assert "X-Of-The-First" not in ours.serialize_to_request({"TableName": "t", "Item": {}}, model)["headers"]


def test_what_cannot_be_written_fails_as_with_botocore() -> None:
    """An object of one's own is no value."""
    model = MODEL.operation_model("PutItem")
    parameters = {"TableName": "t", "Item": {"data": {"S": object()}}}
    with pytest.raises(TypeError, match="not JSON serializable"):
        ItemSerializer(THEIRS).serialize_to_request(parameters, model)
    assert ItemSerializer(THEIRS).serialize_to_request({"Item": {"d": {"B": Binary(b"x").value}}}, model)["body"]
