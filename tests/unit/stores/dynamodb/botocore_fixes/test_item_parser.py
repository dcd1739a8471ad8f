"""Answers of items are read as botocore reads them."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.parsers import ResponseParserError, ResponseParserFactory
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.stores.dynamodb.botocore_fixes.item_parser import ItemParserFactory, read_items_as_they_stand
from sosw_celery.stores.dynamodb.client import connect

MODEL = boto3.client("dynamodb", region_name="eu-west-1").meta.service_model
NUMBERS = st.integers().map(str) | st.decimals(allow_nan=False, allow_infinity=False).map(str)
BINARY = st.binary(max_size=4).map(lambda data: base64.b64encode(data).decode())
LEAVES = st.one_of(
    st.text().map(lambda text: {"S": text}),
    NUMBERS.map(lambda number: {"N": number}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.lists(st.text(), min_size=1).map(lambda texts: {"SS": texts}),
    BINARY.map(lambda data: {"B": data}),
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


def parsed(factory: ResponseParserFactory, operation: str, content: Any, status: int = 200) -> Any:
    """Return an answer as the parsers of a factory read it."""
    headers = {"x-amzn-RequestId": "R", "Content-Type": "application/x-amz-json-1.0"}
    response = {"status_code": status, "headers": headers, "body": json.dumps(content).encode()}
    return factory.create_parser("json").parse(response, MODEL.operation_model(operation).output_shape)


def same(operation: str, content: Any, status: int = 200) -> None:
    """Have both read an answer."""
    ours, theirs = (parsed(kind(), operation, content, status) for kind in (ItemParserFactory, ResponseParserFactory))
    assert ours == theirs


@given(st.lists(ITEMS, max_size=3), ITEMS)
def test_items_are_read_as_botocore_reads_them(found: list[Any], key: Any) -> None:
    """Whatever values they have, with what stands beside them."""
    used = {"TableName": "t", "CapacityUnits": 1.5}
    same("Query", {"Items": found, "Count": len(found), "LastEvaluatedKey": key, "ConsumedCapacity": used})
    same("UpdateItem", {"Attributes": key})
    error = {"Code": "ConditionalCheckFailed", "Message": "no"}
    same(
        "BatchExecuteStatement",
        {"Responses": [*({"TableName": "t", "Item": item} for item in found), {"Error": error}]},
    )


@pytest.mark.parametrize(
    ("operation", "content", "status"),
    [
        ("Query", {"__type": "com.amazonaws.dynamodb.v20120810#ValidationException", "message": "no"}, 400),
        ("UpdateItem", {"__type": "x#ConditionalCheckFailedException", "Item": {"task_id": {"S": "a"}}}, 400),
        ("Query", {}, 500),
        ("DescribeTable", {"Table": {"TableName": "t", "CreationDateTime": 1.5, "ItemCount": 3}}, 200),
        ("BatchWriteItem", {"UnprocessedItems": {"t": [{"PutRequest": {"Item": {"task_id": {"S": "a"}}}}]}}, 200),
    ],
)
def test_all_else_is_left_to_botocore(operation: str, content: Any, status: int) -> None:
    """Errors, and answers with times and such."""
    same(operation, content, status)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b"null"])
def test_what_is_no_answer_is_left_to_botocore(body: bytes) -> None:
    """Which reports it in its own way, or takes it for an empty one."""
    response = {"status_code": 200, "headers": {}, "body": body}
    found: list[Any] = []
    for factory in (ItemParserFactory(), ResponseParserFactory()):
        try:
            found.append(factory.create_parser("json").parse(response, MODEL.operation_model("Query").output_shape))
        except (ResponseParserError, AttributeError, TypeError) as problem:
            found.append(repr(problem))
    assert found[0] == found[1]


def test_members_without_a_value_are_left_out() -> None:
    """As botocore does."""
    same("Query", {"Items": [], "LastEvaluatedKey": None})


def test_only_this_client_reads_so() -> None:
    """If this fails, botocore has moved the place: the client works as before, but slower."""
    ours: Any = connect(endpoint_url="http://127.0.0.1:1", region_name="eu-west-1")
    theirs: Any = boto3.client("dynamodb", region_name="eu-west-1", endpoint_url="http://127.0.0.1:1")
    assert isinstance(ours._endpoint._response_parser_factory, ItemParserFactory)
    assert type(theirs._endpoint._response_parser_factory) is ResponseParserFactory


@pytest.mark.parametrize("client", [SimpleNamespace(), SimpleNamespace(_endpoint=SimpleNamespace())])
def test_a_place_that_is_gone_is_done_without(client: Any) -> None:
    """So a new botocore breaks nothing."""
    before = repr(client)
    read_items_as_they_stand(client)
    assert repr(client) == before
