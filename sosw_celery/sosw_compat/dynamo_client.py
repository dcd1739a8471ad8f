"""A client for tables of one's own, as workers written for sosw use it: rows are plain dicts.

    client = DynamoDbClient({"table_name": "cats", "row_mapper": {"name": "S", "age": "N"}})
    client.put({"name": "Tom", "age": 3})

`row_mapper` states the DynamoDB type of each field by name; a field that it does not name has the type of its Python
value. Errors of AWS come through as botocore raises them: the code of a worker knows them by that name. Nothing is
sent before the first call, and one client serves all threads.

Source: sosw's class of this name.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

from sosw_celery.core.exact import EXACT
from sosw_celery.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient as Boto3Client

__all__ = ["DynamoDbClient"]

Row = dict[str, Any]

#: Limit of BatchWriteItem, and tries for what it leaves over.
ROWS_PER_BATCH = 25
#: Limits of BatchGetItem and of TransactWriteItems.
KEYS_PER_BATCH = 100
ITEMS_PER_TRANSACTION = 100
BATCH_TRIES = 10

COMPARISONS = ("=", "<", "<=", ">", ">=")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

#: Markers of sosw for the ends of a range: `{"st_between_age": 1, "en_between_age": 9}`.
FROM, TO = "st_between_", "en_between_"


class DynamoDbClient:
    """Reads and writes the rows of a table.

    Parameters:
        config: `row_mapper`, `required_fields` and `table_name`; `hash_key` for `create` and `patch`;
            `dont_json_loads_results` to leave texts that look like a JSON object as they are; `region_name` and
            `endpoint_url` of the table. Further keys of sosw (`skip_glue`) have no effect.

    Raises:
        ConfigError: The config is no dict.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        if not isinstance(config, Mapping):
            raise ConfigError("dynamo_db_config", config, "a dict with row_mapper, required_fields and table_name")
        self.config = dict(config)
        self.row_mapper: dict[str, str] = dict(self.config.get("row_mapper") or {})
        self.required_fields: tuple[str, ...] = tuple(self.config.get("required_fields") or ())
        self.stats: defaultdict[str, int] = defaultdict(int)
        self._serialize: Callable[[Any], Any] = TypeSerializer().serialize
        self._deserialize: Callable[[Any], Any] = TypeDeserializer().deserialize

    @cached_property
    def dynamo_client(self) -> Boto3Client:
        """The boto3 client underneath, for what this class does not do."""
        place = {key: self.config[key] for key in ("region_name", "endpoint_url") if self.config.get(key)}
        return boto3.client("dynamodb", config=Config(retries={"mode": "standard", "max_attempts": 6}), **place)

    # ---- writing

    def put(self, row: Mapping[str, Any], table_name: str | None = None, overwrite_existing: bool = True) -> None:
        """Write a row, over the one with its keys unless `overwrite_existing` is false.

        Raises:
            ValueError: It lacks one of the `required_fields`, or a value cannot have the type that is stated.
            ConditionalCheckFailedException: There is such a row, and it was not to be overwritten.
        """
        self.dynamo_client.put_item(**self.build_put_query(row, table_name, overwrite_existing))
        self.stats["dynamo_put_queries"] += 1

    def create(self, row: Mapping[str, Any], table_name: str | None = None) -> None:
        """Write a row whose keys no other has; the config has to name the `hash_key`."""
        self.put(row, table_name, overwrite_existing=False)

    def batch_put(self, rows: Iterable[Mapping[str, Any]], table_name: str | None = None) -> None:
        """Write rows, 25 to a request, over those with their keys. What was written stays if a later request fails.

        Raises:
            ValueError: A row cannot be written, as in `put`; none was.
            StoreUnavailable: DynamoDB left rows unwritten in every try.
        """
        table = self._table(table_name)
        requests = [{"PutRequest": {"Item": self._checked_item(row)}} for row in rows]
        for start in range(0, len(requests), ROWS_PER_BATCH):
            self._write_batch(table, requests[start : start + ROWS_PER_BATCH])

    def update(
        self,
        keys: Mapping[str, Any],
        attributes_to_update: Mapping[str, Any] | None = None,
        attributes_to_increment: Mapping[str, Any] | None = None,
        table_name: str | None = None,
        condition_expression: str | None = None,
        attributes_to_remove: Sequence[str] | None = None,
    ) -> None:
        """Set, add to and remove fields of the row with these keys; there is such a row afterwards.

        Parameters:
            attributes_to_increment: Field -> what is added to its number, which counts from 0.
            condition_expression: In words as `get_by_query` takes them: `age >= 3`, `attribute_exists name`.

        Raises:
            ValueError: Nothing to do, or the condition cannot be read.
            ConditionalCheckFailedException: The condition does not hold.
        """
        if not (attributes_to_update or attributes_to_increment or attributes_to_remove):
            raise ValueError("update: expected attributes to update, to increment or to remove")
        expression = _Expression(self)
        sets = [
            f"{expression.name(key)} = {expression.value(key, value)}"
            for key, value in (attributes_to_update or {}).items()
        ]
        for key, value in (attributes_to_increment or {}).items():
            name, zero = expression.name(key), expression.raw({"N": "0"})
            sets.append(f"{name} = if_not_exists({name}, {zero}) + {expression.raw({'N': _number(key, value)})}")
        parts = [f"SET {', '.join(sets)}"] if sets else []
        if attributes_to_remove:
            parts.append(f"REMOVE {', '.join(map(expression.name, attributes_to_remove))}")
        query: Row = {
            "TableName": self._table(table_name),
            "Key": self.dict_to_dynamo(keys),
            "UpdateExpression": " ".join(parts),
        }
        if condition_expression:
            query["ConditionExpression"] = expression.condition(condition_expression)
        self.dynamo_client.update_item(**query, **expression.attributes())
        self.stats["dynamo_update_queries"] += 1

    def patch(
        self,
        keys: Mapping[str, Any],
        attributes_to_update: Mapping[str, Any] | None = None,
        attributes_to_increment: Mapping[str, Any] | None = None,
        table_name: str | None = None,
        attributes_to_remove: Sequence[str] | None = None,
    ) -> None:
        """Change a row that exists, as `update` does; the config has to name the `hash_key`.

        Raises:
            ConditionalCheckFailedException: There is no such row.
        """
        condition = f"attribute_exists {self._hash_key}"
        self.update(keys, attributes_to_update, attributes_to_increment, table_name, condition, attributes_to_remove)

    def delete(self, keys: Mapping[str, Any], table_name: str | None = None) -> None:
        """Delete the row with these keys, if there is one."""
        self.dynamo_client.delete_item(**self.build_delete_query(keys, table_name))
        self.stats["dynamo_delete_queries"] += 1

    def transact_write(self, *transactions: Any) -> None:
        """Write all of these or none, in any tables: what `make_put_transaction_item` and its like return.

        Raises:
            ValueError: There are more than 100, which DynamoDB writes together at most, or one is no Put or Delete.
            TransactionCanceledException: One cannot be written; none was.
        """
        if len(transactions) > ITEMS_PER_TRANSACTION:
            found = len(transactions)
            raise ValueError(f"transact_write: expected at most {ITEMS_PER_TRANSACTION} items together, got {found}")
        for item in transactions:
            if not isinstance(item, Mapping) or len(item) != 1 or not item.keys() <= {"Put", "Delete"}:
                raise ValueError(f"transact_write: expected items of one Put or Delete, got {item!r:.80}")
        items: Any = [dict(item) for item in transactions]
        self.dynamo_client.transact_write_items(TransactItems=items)
        self.stats["dynamo_transact_write_operations"] += 1

    def make_put_transaction_item(self, row: Mapping[str, Any], table_name: str | None = None) -> Row:
        """Return a write of this row for `transact_write`."""
        return {"Put": self.build_put_query(row, table_name)}

    def make_delete_transaction_item(self, row: Mapping[str, Any], table_name: str | None = None) -> Row:
        """Return a delete of the row with these keys for `transact_write`."""
        return {"Delete": self.build_delete_query(row, table_name)}

    def build_put_query(
        self, row: Mapping[str, Any], table_name: str | None = None, overwrite_existing: bool = True
    ) -> Row:
        """Return the arguments of PutItem with which `put` writes a row.

        Raises:
            ValueError: As `put`.
        """
        query: Row = {"TableName": self._table(table_name), "Item": self._checked_item(row)}
        if overwrite_existing:
            return query
        not_there = {
            "ConditionExpression": "attribute_not_exists(#hash)",
            "ExpressionAttributeNames": {"#hash": self._hash_key},
        }
        return {**query, **not_there}

    def build_delete_query(self, delete_keys: Mapping[str, Any], table_name: str | None = None) -> Row:
        """Return the arguments of DeleteItem with which `delete` deletes the row with these keys."""
        return {"TableName": self._table(table_name), "Key": self.dict_to_dynamo(delete_keys)}

    # ---- reading

    def get_by_query(
        self,
        keys: Mapping[str, Any],
        table_name: str | None = None,
        *,
        index_name: str | None = None,
        comparisons: Mapping[str, str] | None = None,
        max_items: int | None = None,
        filter_expression: str | None = None,
        return_count: bool = False,
        desc: bool = False,
        fetch_all_fields: bool | None = None,
        expr_attrs_names: Sequence[str] | None = None,
        consistent_read: bool | None = None,
        strict: bool | None = None,
    ) -> Any:
        """Return the rows with these keys as a list of dicts, or their number if `return_count` is true.

        Parameters:
            keys: The hash key, and the range key or not. A range: `{"st_between_age": 1, "en_between_age": 9}`.
            comparisons: Key -> one of `=`, `<`, `<=`, `>`, `>=`, `begins_with`; `=` where it is not named.
            filter_expression: In words: `age <= 9`, `age between 1 and 9`, `attribute_exists name`.
            fetch_all_fields: Also return fields that `row_mapper` does not name.
            expr_attrs_names: Accepted as in sosw; names that are reserved words need no mention here.
            strict: The opposite of `fetch_all_fields`, which counts where both are given. Deprecated in sosw.

        Raises:
            ValueError: A comparison or the filter cannot be read, or `max_items` meets `return_count`.
        """
        if max_items and return_count:
            raise ValueError("get_by_query: expected max_items or return_count, not both")
        expression = _Expression(self)
        query: Row = {
            "TableName": self._table(table_name),
            "KeyConditionExpression": expression.keys(keys, comparisons or {}),
            "ScanIndexForward": not desc,
        }
        if filter_expression:
            query["FilterExpression"] = expression.condition(filter_expression)
        if index_name:
            query["IndexName"] = index_name
        if consistent_read is not None:
            query["ConsistentRead"] = consistent_read
        if return_count:
            query["Select"] = "COUNT"
        pages = self._pages("query", {**query, **expression.attributes()})
        if return_count:
            return sum(page["Count"] for page in pages)
        return self._rows(pages, max_items, _all_fields(fetch_all_fields, strict))

    def get_by_scan(
        self,
        attrs: Mapping[str, Any] | None = None,
        table_name: str | None = None,
        index_name: str | None = None,
        strict: bool | None = None,
        fetch_all_fields: bool | None = None,
        consistent_read: bool | None = None,
    ) -> list[Row]:
        """Return all rows of the table, or those whose fields equal `attrs`. Reads the whole table."""
        pages = self.get_by_scan_generator(attrs, table_name, index_name, strict, fetch_all_fields, consistent_read)
        return [row for page in pages for row in page]

    def get_by_scan_generator(
        self,
        attrs: Mapping[str, Any] | None = None,
        table_name: str | None = None,
        index_name: str | None = None,
        strict: bool | None = None,
        fetch_all_fields: bool | None = None,
        consistent_read: bool | None = None,
    ) -> Iterator[list[Row]]:
        """Yield what `get_by_scan` returns page by page, each a list of rows, as they are asked for."""
        expression = _Expression(self)
        query: Row = {"TableName": self._table(table_name)}
        if attrs:
            query["FilterExpression"] = " AND ".join(
                f"{expression.name(key)} = {expression.value(key, value)}" for key, value in attrs.items()
            )
        if index_name:
            query["IndexName"] = index_name
        if consistent_read is not None:
            query["ConsistentRead"] = consistent_read
        for page in self._pages("scan", {**query, **expression.attributes()}):
            yield [self.dynamo_to_dict(item, _all_fields(fetch_all_fields, strict)) for item in page["Items"]]

    def batch_get_items_one_table(
        self,
        keys_list: Iterable[Mapping[str, Any]],
        table_name: str | None = None,
        max_retries: int = 0,
        retry_wait_base_time: float = 0.2,
        strict: bool | None = None,
        fetch_all_fields: bool | None = None,
        consistent_read: bool | None = None,
    ) -> list[Row]:
        """Return the rows with these keys, 100 to a request, in no order; keys of no row are left out.

        Parameters:
            keys_list: Whole keys, as dicts.
            max_retries: Times that keys which DynamoDB left unprocessed are asked for again, at least 9.
            retry_wait_base_time: Seconds before the first of them, twice as many before each further one.

        Raises:
            StoreUnavailable: DynamoDB left keys unprocessed in every try.
        """
        table, keys = self._table(table_name), [self.dict_to_dynamo(key) for key in keys_list]
        fields = _all_fields(fetch_all_fields, strict)
        rows: list[Row] = []
        for start in range(0, len(keys), KEYS_PER_BATCH):
            request: Row = {"Keys": keys[start : start + KEYS_PER_BATCH], "ConsistentRead": bool(consistent_read)}
            items = self._read_batch(table, request, max(BATCH_TRIES, max_retries + 1), retry_wait_base_time)
            rows += [self.dynamo_to_dict(item, fields) for item in items]
        return rows

    def get_table_keys(self, table_name: str | None = None) -> tuple[str, str | None]:
        """Return the names of the table's hash key and range key, None where it has none."""
        return _keys_of(self._described(table_name)["KeySchema"])

    def get_table_indexes(self, table_name: str | None = None) -> dict[str, Row]:
        """Return the indexes that can be read: name -> `hash_key`, `range_key` where it has one, `projection_type`.

        `provisioned_throughput` holds `read_capacity` and `write_capacity`, 0 where the table is paid by request.
        """
        table = self._described(table_name)
        indexes = [*table.get("LocalSecondaryIndexes", ()), *table.get("GlobalSecondaryIndexes", ())]
        return {
            index["IndexName"]: _index_of(index, table)
            for index in indexes
            if index.get("IndexStatus", "ACTIVE") == "ACTIVE"
        }

    def get_capacity(self, table_name: str | None = None) -> dict[str, int] | None:
        """Return the units a second that the table has for `read` and `write`; None where it is paid by request."""
        units = self._described(table_name).get("ProvisionedThroughput") or {}
        found = {"read": int(units.get("ReadCapacityUnits", 0)), "write": int(units.get("WriteCapacityUnits", 0))}
        return found if any(found.values()) else None

    # ---- rows and items

    def dict_to_dynamo(
        self, row_dict: Mapping[str, Any], add_prefix: str | None = None, strict: bool | None = None
    ) -> Row:
        """Return a row as DynamoDB takes it. Fields that are None are left out.

        Parameters:
            add_prefix: Put before the names, as for the values of an expression: `:`.
            strict: If true, fields that `row_mapper` does not name are left out, as by default in sosw.

        Raises:
            ValueError: A value cannot have the type that `row_mapper` states, or `strict` would leave out one of the
                `required_fields`; names the field.
        """
        fields = {key: value for key, value in row_dict.items() if value is not None}
        if strict:
            for key in self.required_fields:
                if key in fields and key not in self.row_mapper:
                    raise ValueError(f"{key}: expected its type in row_mapper, since it is one of the required_fields")
            fields = {key: value for key, value in fields.items() if key in self.row_mapper}
        return {f"{add_prefix or ''}{key}": self.attribute(key, value) for key, value in fields.items()}

    def attribute(self, key: str, value: Any) -> Row:
        """Return one value as DynamoDB takes it: of the type that `row_mapper` states, else of its own."""
        kind = self.row_mapper.get(key)
        if kind == "N":
            return {"N": _number(key, value)}
        if kind == "S":
            return {"S": json.dumps(value) if isinstance(value, (dict, list)) else str(value)}
        if kind == "BOOL":
            return {"BOOL": _truth(key, value)}
        attribute = self._serialize(_exact(value))
        if kind is not None and kind not in attribute:
            return self._as_set(key, value, kind)
        return dict(attribute)

    def dynamo_to_dict(
        self, dynamo_row: Mapping[str, Any], fetch_all_fields: bool | None = None, strict: bool | None = None
    ) -> Row:
        """Return an item of DynamoDB as a row: numbers as int or float, texts that hold a JSON object as dicts.

        Parameters:
            fetch_all_fields: Also return fields that `row_mapper` does not name.

        Raises:
            ValueError: A field has another type than `row_mapper` states.
        """
        names = dynamo_row if _all_fields(fetch_all_fields, strict) or not self.row_mapper else self.row_mapper
        for key in names:
            kind = self.row_mapper.get(key)
            if kind and key in dynamo_row and kind not in dynamo_row[key]:
                raise ValueError(f"{key}: row_mapper says {kind}, the row has {next(iter(dynamo_row[key]))}")
        return {key: self._plain(dynamo_row[key]) for key in names if key in dynamo_row}

    # ---- stats

    def get_stats(self) -> dict[str, int]:
        """Return how many requests of each kind were made since the last reset."""
        return dict(self.stats)

    def reset_stats(self) -> None:
        """Count from 0 again."""
        self.stats = defaultdict(int)

    # ---- inside

    @property
    def _hash_key(self) -> str:
        if not self.config.get("hash_key"):
            raise ConfigError("dynamo_db_config.hash_key", None, "the name of the table's hash key")
        return str(self.config["hash_key"])

    def _table(self, table_name: str | None) -> str:
        name = table_name or self.config.get("table_name")
        if not name:
            raise ConfigError("dynamo_db_config.table_name", name, "the name of a table, here or in the call")
        return str(name)

    def _checked_item(self, row: Mapping[str, Any]) -> Row:
        missing = [name for name in self.required_fields if row.get(name) is None]
        if missing:
            raise ValueError(f"expected a row with the required_fields, it lacks {', '.join(missing)}")
        return self.dict_to_dynamo(row)

    def _as_set(self, key: str, value: Any, kind: str) -> Row:
        """Return a list as the set that is stated, or a set as the list."""
        if isinstance(value, (list, tuple, set, frozenset)) and value and kind in ("SS", "NS", "BS", "L"):
            together = set(value) if kind != "L" else list(value)
            attribute = self._serialize(_exact(together))
            if kind in attribute:
                return dict(attribute)
        raise ValueError(f"{key}: expected a value of the type {kind}, got {value!r:.80}")

    def _plain(self, attribute: Mapping[str, Any]) -> Any:
        ((kind, value),) = attribute.items()
        if kind == "N":
            return int(value) if value.lstrip("-").isdigit() else float(value)
        if kind == "M":
            return {key: self._plain(inner) for key, inner in value.items()}
        if kind == "L":
            return [self._plain(inner) for inner in value]
        if kind == "S" and value.startswith("{") and value.endswith("}"):
            return self._parsed(value)
        return self._deserialize(attribute)

    def _parsed(self, text: str) -> Any:
        if self.config.get("dont_json_loads_results"):
            return text
        try:
            return json.loads(text)
        except ValueError:
            self.stats["json_looking_string_failed_to_parse"] += 1
            return text

    def _pages(self, operation: Literal["query", "scan"], query: Row) -> Iterator[Any]:
        for page in self.dynamo_client.get_paginator(operation).paginate(**query):
            self.stats["dynamo_get_queries"] += 1
            yield page

    def _rows(self, pages: Iterator[Any], max_items: int | None, fetch_all_fields: bool) -> list[Row]:
        rows: list[Row] = []
        for page in pages:
            rows += [self.dynamo_to_dict(item, fetch_all_fields) for item in page["Items"]]
            if max_items and len(rows) >= max_items:
                return rows[:max_items]
        return rows

    def _write_batch(self, table: str, requests: list[Any]) -> None:
        for attempt in range(BATCH_TRIES):
            answer = self.dynamo_client.batch_write_item(RequestItems={table: requests})
            self.stats["dynamo_batch_put_queries"] += 1
            requests = list(answer.get("UnprocessedItems", {}).get(table, []))
            if not requests:
                return
            time.sleep(random.uniform(0, min(0.05 * 2**attempt, 5)))
        raise StoreUnavailable("dynamodb", "BatchWriteItem", "UnprocessedItems")

    def _read_batch(self, table: str, request: Any, tries: int, first_wait_s: float) -> Iterator[Row]:
        for attempt in range(tries):
            answer: Any = self.dynamo_client.batch_get_item(RequestItems={table: request})
            self.stats["dynamo_get_queries"] += 1
            yield from answer["Responses"].get(table, ())
            request = (answer.get("UnprocessedKeys") or {}).get(table)
            if not request:
                return
            time.sleep(random.uniform(0, min(first_wait_s * 2**attempt, 5)))
        raise StoreUnavailable("dynamodb", "BatchGetItem", "UnprocessedKeys")

    def _described(self, table_name: str | None) -> Any:
        return self.dynamo_client.describe_table(TableName=self._table(table_name))["Table"]


class _Expression:
    """Names and values of one request. Every name gets a placeholder, so none can be a reserved word."""

    def __init__(self, client: DynamoDbClient) -> None:
        self._client = client
        self._names: dict[str, str] = {}
        self._values: dict[str, Row] = {}

    def name(self, key: str) -> str:
        """Return the placeholder of a field."""
        return self._names.setdefault(key, f"#n{len(self._names)}")

    def value(self, key: str, value: Any) -> str:
        """Return a placeholder for a value of the field."""
        return self.raw(self._client.attribute(key, value))

    def raw(self, attribute: Row) -> str:
        """Return a placeholder for what is an attribute already."""
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = attribute
        return placeholder

    def attributes(self) -> Row:
        """Return the arguments of the request that tell what the placeholders mean."""
        names = {placeholder: key for key, placeholder in self._names.items()}
        return ({"ExpressionAttributeNames": names} if names else {}) | (
            {"ExpressionAttributeValues": self._values} if self._values else {}
        )

    def keys(self, keys: Mapping[str, Any], comparisons: Mapping[str, str]) -> str:
        """Return the condition that the keys make."""
        parts = []
        for key, value in keys.items():
            if key.startswith(TO):
                continue
            if key.startswith(FROM):
                name = key.removeprefix(FROM)
                parts.append(self._between(name, value, keys[f"{TO}{name}"]))
            else:
                parts.append(self._comparison(key, comparisons.get(key, "="), value))
        return " AND ".join(parts)

    def condition(self, text: str) -> str:
        """Return the expression for a condition in words.

        Raises:
            ValueError: The words make no condition; says which do.
        """
        words = text.split()
        if len(words) == 2 and words[0].lower() in ("attribute_exists", "attribute_not_exists"):
            return f"{words[0].lower()}({self.name(words[1])})"
        if len(words) == 5 and (words[1].lower(), words[3].lower()) == ("between", "and"):
            return self._between(words[0], self._read(words[0], words[2]), self._read(words[0], words[4]))
        if len(words) >= 3 and words[1] in (*COMPARISONS, "<>"):
            value = text.split(maxsplit=2)[2]
            return f"{self.name(words[0])} {words[1]} {self.value(words[0], self._read(words[0], value))}"
        raise ValueError(f"expected 'KEY = VALUE', 'KEY between A and B' or 'attribute_exists KEY', got {text!r}")

    def _comparison(self, key: str, comparison: str, value: Any) -> str:
        if comparison == "begins_with":
            return f"begins_with({self.name(key)}, {self.value(key, value)})"
        if comparison not in COMPARISONS:
            raise ValueError(f"{key}: expected begins_with or one of {', '.join(COMPARISONS)}, got {comparison!r}")
        return f"{self.name(key)} {comparison} {self.value(key, value)}"

    def _between(self, key: str, first: Any, last: Any) -> str:
        return f"{self.name(key)} BETWEEN {self.value(key, first)} AND {self.value(key, last)}"

    def _read(self, key: str, word: str) -> Any:
        """Return the value that a word of a condition means, where `row_mapper` does not say its type."""
        if key in self._client.row_mapper:
            return word
        if word.lower() in ("true", "false"):
            return TRUTHS[word.lower()]
        return Decimal(word) if NUMBER.fullmatch(word) else word


def _all_fields(fetch_all_fields: bool | None, strict: bool | None) -> bool:
    """Return whether fields that `row_mapper` does not name are read; sosw once asked for the opposite."""
    return bool(fetch_all_fields) if fetch_all_fields is not None or strict is None else not strict


def _keys_of(schema: Iterable[Mapping[str, Any]]) -> tuple[str, str | None]:
    names = {key["KeyType"]: str(key["AttributeName"]) for key in schema}
    return names["HASH"], names.get("RANGE")


def _index_of(index: Mapping[str, Any], table: Mapping[str, Any]) -> Row:
    hash_key, range_key = _keys_of(index["KeySchema"])
    # A local index uses the capacity of its table.
    units = index.get("ProvisionedThroughput") or table.get("ProvisionedThroughput") or {}
    return {
        "projection_type": index["Projection"]["ProjectionType"],
        "hash_key": hash_key,
        **({"range_key": range_key} if range_key else {}),
        "provisioned_throughput": {
            "write_capacity": int(units.get("WriteCapacityUnits", 0)),
            "read_capacity": int(units.get("ReadCapacityUnits", 0)),
        },
    }


def _number(key: str, value: Any) -> str:
    """Return a number as DynamoDB takes it, with the digits that Python shows."""
    try:
        found = EXACT.create_decimal(int(value) if isinstance(value, bool) else str(value).strip())
    except InvalidOperation:
        raise ValueError(f"{key}: expected a number, got {value!r:.80}") from None
    if not found.is_finite():
        raise ValueError(f"{key}: expected a finite number, got {value!r}")
    return format(found, "f") if abs(found.adjusted()) < 40 else str(found)


def _truth(key: str, value: Any) -> bool:
    known = TRUTHS.get(str(value).strip().lower())
    if known is None:
        raise ValueError(f"{key}: expected true or false, got {value!r:.80}")
    return known


def _exact(value: Any) -> Any:
    """Return a value with its floats as exact decimals: boto3 takes no floats."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {str(key): _exact(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return {_exact(inner) for inner in value}
    return value
