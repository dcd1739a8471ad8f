"""The client for users' tables, on moto and on the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError

from sosw_celery.errors import ConfigError
from sosw_celery.sosw_compat.dynamo_client import DynamoDbClient

CONFIG: dict[str, Any] = {
    "row_mapper": {
        "hash_col": "S",
        "range_col": "N",
        "price": "N",
        "on": "BOOL",
        "note": "S",
        "tags": "SS",
        "more": "M",
    },
    "required_fields": ["hash_col", "range_col"],
    "hash_key": "hash_col",
}


@pytest.fixture(params=["twin", "real"])
def client(request: pytest.FixtureRequest, table_prefix: str) -> Iterator[DynamoDbClient]:
    """A client of an empty table with hash and range key."""
    if request.param == "twin":
        with moto.mock_aws():
            yield created(DynamoDbClient({**CONFIG, "table_name": f"{table_prefix}rows"}))
    else:
        endpoint = request.getfixturevalue("dynamodb_endpoint")
        client = created(DynamoDbClient({**CONFIG, "table_name": f"{table_prefix}rows", "endpoint_url": endpoint}))
        yield client
        client.dynamo_client.close()


def created(client: DynamoDbClient) -> DynamoDbClient:
    """Return the client, with its table made."""
    client.dynamo_client.create_table(
        TableName=client.config["table_name"],
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "hash_col", "AttributeType": "S"},
            {"AttributeName": "range_col", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "hash_col", "KeyType": "HASH"},
            {"AttributeName": "range_col", "KeyType": "RANGE"},
        ],
    )
    return client


def row(number: int, **fields: Any) -> dict[str, Any]:
    """Return a row of the cat."""
    return {"hash_col": "cat", "range_col": number, **fields}


def test_a_row_comes_back_as_it_was_put(client: DynamoDbClient) -> None:
    """Types are those of `row_mapper`, and of the values where it says nothing; None is left out."""
    put = row(1, price=0.1, on=True, note="12", tags={"a", "b"}, more={"deep": [1, 2.5, None]})
    client.put({**put, "left_out": None, "free": "true", "list": [1], "number": 7})
    assert client.get_by_query({"hash_col": "cat"}) == [put]
    (everything,) = client.get_by_query({"hash_col": "cat"}, fetch_all_fields=True)
    assert everything == {**put, "free": "true", "list": [1], "number": 7}


def test_texts_become_what_is_stated(client: DynamoDbClient) -> None:
    """Events bring texts: numbers, truths and lists for sets are read as `row_mapper` says."""
    client.put({"hash_col": 5, "range_col": "7", "on": "false", "tags": ["x", "x"], "note": {"json": 1}})
    assert client.get_by_query({"hash_col": 5}) == [
        {"hash_col": "5", "range_col": 7, "on": False, "tags": {"x"}, "note": {"json": 1}}
    ]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"range_col": None}, "required_fields, it lacks range_col"),
        ({"price": "cheap"}, "price: expected a number, got 'cheap'"),
        ({"price": float("inf")}, "price: expected a finite number"),
        ({"on": "maybe"}, "on: expected true or false, got 'maybe'"),
        ({"tags": 5}, "tags: expected a value of the type SS, got 5"),
    ],
)
def test_what_cannot_be_a_row_is_refused(client: DynamoDbClient, fields: dict[str, Any], problem: str) -> None:
    """Nothing is written, and the error names the field."""
    with pytest.raises(ValueError, match=problem):
        client.put(row(1, **fields))
    with pytest.raises(ValueError, match=problem):
        client.batch_put([row(2), row(1, **fields)])
    assert client.get_by_scan() == []


def test_create_and_patch_know_whether_a_row_is_there(client: DynamoDbClient) -> None:
    """`create` writes only what is new, `patch` changes only what exists; put and update do not ask."""
    client.create(row(1, price=1))
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        client.create(row(1))
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        client.patch(row(2), {"price": 2})
    client.patch(row(1), {"price": 2})
    client.update(row(2), {"price": 3})
    assert [found["price"] for found in client.get_by_query({"hash_col": "cat"})] == [2, 3]


def test_an_update_sets_adds_and_removes(client: DynamoDbClient) -> None:
    """In one request; counters begin at 0, reserved words are names like any other, a condition may hold it back."""
    client.put(row(1, note="old", price=1))
    client.update(row(1), {"name": "Tom", "note": "new"}, {"count": "3"}, attributes_to_remove=["price"])
    client.update(row(1), attributes_to_increment={"count": 2}, condition_expression="note = new")
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        client.update(row(1), {"note": "x"}, condition_expression="count > 9")
    (found,) = client.get_by_query(row(1), fetch_all_fields=True)
    assert found == row(1, note="new", name="Tom", count=5)
    with pytest.raises(ValueError, match="update"):
        client.update(row(1))


def test_queries_select_by_range_and_filter(client: DynamoDbClient) -> None:
    """Every comparison of sosw is understood; order, limits and counts are as asked for."""
    client.batch_put(row(number, price=number / 2, note=f"n {number}") for number in range(60))

    def numbers(**query: Any) -> list[int]:
        return [found["range_col"] for found in client.get_by_query(**query)]

    cat = {"hash_col": "cat"}
    assert numbers(keys=cat) == list(range(60))
    assert numbers(keys={**cat, "range_col": 3}, comparisons={"range_col": "<="}) == [0, 1, 2, 3]
    assert numbers(keys={**cat, "st_between_range_col": 4, "en_between_range_col": 6}) == [4, 5, 6]
    assert numbers(keys=cat, max_items=2, desc=True) == [59, 58]
    assert numbers(keys=cat, filter_expression="price between 1.5 and 2") == [3, 4]
    assert numbers(keys=cat, filter_expression="note = n 7", consistent_read=True) == [7]
    assert numbers(keys=cat, filter_expression="attribute_exists free") == []
    assert client.get_by_query(cat, return_count=True) == 60
    assert len(client.get_by_scan({"price": 1})) == 1
    for wrong in ({"comparisons": {"range_col": "~"}}, {"filter_expression": "a b c d"}, {"filter_expression": "a"}):
        with pytest.raises(ValueError, match="expected"):
            client.get_by_query({**cat, "range_col": 1}, **wrong)


def test_a_row_is_deleted_and_requests_are_counted(client: DynamoDbClient) -> None:
    """Stats say what was asked of DynamoDB, from the last reset on."""
    client.put(row(1))
    client.reset_stats()
    client.put(row(2))
    client.delete(row(1))
    assert client.get_by_query({"hash_col": "cat"}) == [row(2)]
    assert client.get_stats() == {"dynamo_put_queries": 1, "dynamo_delete_queries": 1, "dynamo_get_queries": 1}


def test_texts_that_look_like_json_stay_as_they_are_if_asked(client: DynamoDbClient) -> None:
    """`dont_json_loads_results` leaves them; broken ones are texts in any case, and counted."""
    client.put(row(1, note='{"a": 1}'))
    client.put(row(2, note="{broken}"))
    assert [found["note"] for found in client.get_by_query({"hash_col": "cat"})] == [{"a": 1}, "{broken}"]
    assert client.stats["json_looking_string_failed_to_parse"] == 1
    client.config["dont_json_loads_results"] = True
    assert client.get_by_query(row(1))[0]["note"] == '{"a": 1}'


def test_a_type_other_than_stated_is_told() -> None:
    """A row that another program wrote with another type is not read as something else."""
    with pytest.raises(ValueError, match="range_col: row_mapper says N, the row has S"):
        DynamoDbClient(CONFIG).dynamo_to_dict({"range_col": {"S": "1"}})


def test_what_is_missing_in_the_config_is_named() -> None:
    """The table and the hash key are asked for when they are needed, the config itself at once."""
    client = DynamoDbClient({})
    with pytest.raises(ConfigError, match="table_name"):
        client.put({})
    with pytest.raises(ConfigError, match="hash_key"):
        DynamoDbClient({"table_name": "abc"}).create({})
    with pytest.raises(ConfigError, match="dynamo_db_config"):
        DynamoDbClient(None)  # type: ignore[arg-type]


def test_making_a_client_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even boto3's client is made before the first call."""
    monkeypatch.setattr(boto3, "client", None)
    assert DynamoDbClient({**CONFIG, "table_name": "abc", "skip_glue": True}).row_mapper["price"] == "N"


# ---- what else sosw's class has


def test_strict_is_the_opposite_of_all_fields(client: DynamoDbClient) -> None:
    """The deprecated argument works in each reading call; where both are given, `fetch_all_fields` counts."""
    client.put(row(1, price=2, other="x"))
    whole, mapped = row(1, price=2, other="x"), row(1, price=2)
    key = [row(1)]
    for strict, expected in ((False, whole), (True, mapped), (None, mapped)):
        assert client.get_by_query({"hash_col": "cat"}, strict=strict) == [expected]
        assert client.get_by_scan(strict=strict) == [expected]
        assert client.batch_get_items_one_table(key, strict=strict) == [expected]
    assert client.get_by_query({"hash_col": "cat"}, strict=True, fetch_all_fields=True) == [whole]


def test_rows_are_converted_with_a_prefix_and_without_strange_fields(client: DynamoDbClient) -> None:
    """As values of an expression, and without what `row_mapper` does not name."""
    assert client.dict_to_dynamo({"price": 1, "other": "x"}, add_prefix=":") == {
        ":price": {"N": "1"},
        ":other": {"S": "x"},
    }
    assert client.dict_to_dynamo({"price": 1, "other": "x"}, strict=True) == {"price": {"N": "1"}}
    narrow = DynamoDbClient({"row_mapper": {}, "required_fields": ["hash_col"], "table_name": "t"})
    with pytest.raises(ValueError, match="hash_col: expected its type in row_mapper"):
        narrow.dict_to_dynamo({"hash_col": "cat"}, strict=True)


def test_rows_are_written_and_deleted_together_or_not_at_all(client: DynamoDbClient) -> None:
    """A transaction that cannot be made leaves everything as it was."""
    client.put(row(1))
    put, delete = client.make_put_transaction_item(row(2)), client.make_delete_transaction_item(row(1))
    client.transact_write(put, delete)
    assert client.get_by_query({"hash_col": "cat"}) == [row(2)]
    taken = {"Put": client.build_put_query(row(2), overwrite_existing=False)}
    with pytest.raises(ClientError, match="TransactionCanceled"):
        client.transact_write(client.make_put_transaction_item(row(3)), taken)
    assert client.get_by_query({"hash_col": "cat"}) == [row(2)]
    assert client.stats["dynamo_transact_write_operations"] == 1


def test_a_transaction_that_dynamodb_cannot_make_is_refused_before_anything_is_written(client: DynamoDbClient) -> None:
    """More than it takes together would be two transactions; only puts and deletes are known."""
    with pytest.raises(ValueError, match="at most 100 items together, got 101"):
        client.transact_write(*(client.make_put_transaction_item(row(number)) for number in range(101)))
    with pytest.raises(ValueError, match="one Put or Delete"):
        client.transact_write({"Update": {}})
    assert client.get_by_scan() == []


def test_many_rows_are_read_by_their_keys(client: DynamoDbClient) -> None:
    """More than one request takes; keys of no row are left out."""
    client.batch_put([row(number, note=str(number)) for number in range(120)])
    found = client.batch_get_items_one_table([row(number) for number in range(130)], consistent_read=True)
    assert sorted(one["range_col"] for one in found) == list(range(120))


def test_a_scan_can_be_read_page_by_page(client: DynamoDbClient) -> None:
    """Pages are lists of rows; the filter is that of `get_by_scan`."""
    client.batch_put([row(number, price=number % 2) for number in range(4)])
    pages = list(client.get_by_scan_generator({"price": 1}))
    assert sorted(one["range_col"] for page in pages for one in page) == [1, 3]


def test_a_table_is_described(client: DynamoDbClient) -> None:
    """Its keys, its indexes that can be read, and its capacity, which a table paid by request has none of."""
    assert client.get_table_keys() == ("hash_col", "range_col")
    assert client.get_table_indexes() == {}
    assert client.get_capacity() is None


def test_an_index_is_described() -> None:
    """Names of its keys, what it holds, and its units a second; one that is being made is left out."""
    with moto.mock_aws():
        client = DynamoDbClient({"table_name": "indexed"})
        key = [{"AttributeName": "a", "KeyType": "HASH"}]
        units = {"ReadCapacityUnits": 3, "WriteCapacityUnits": 2}
        client.dynamo_client.create_table(
            TableName="indexed",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in "ab"],
            KeySchema=key,
            ProvisionedThroughput=units,
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_b",
                    "KeySchema": [
                        {"AttributeName": "b", "KeyType": "HASH"},
                        {"AttributeName": "a", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                    "ProvisionedThroughput": units,
                }
            ],
        )
        assert client.get_table_keys() == ("a", None)
        assert client.get_capacity() == {"read": 3, "write": 2}
        assert client.get_table_indexes() == {
            "by_b": {
                "projection_type": "KEYS_ONLY",
                "hash_key": "b",
                "range_key": "a",
                "provisioned_throughput": {"read_capacity": 3, "write_capacity": 2},
            }
        }
