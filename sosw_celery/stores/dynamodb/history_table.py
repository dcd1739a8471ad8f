"""The table of tasks' history: hash key `task_id`, range key `created_at`, a row for each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer

from sosw_celery.core.tasks.history import Event, Origin
from sosw_celery.stores.dynamodb.attributes import Item, number, typed_attribute
from sosw_celery.stores.dynamodb.requests import query_items, translated

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["HistoryTable", "event_of", "item_of"]

_deserialize: Callable[[Any], Any] = TypeDeserializer().deserialize

_FIELDS = ("task_id", "created_at", "action", "author", "invocation_id", "log_stream_name")


def item_of(event: Event, row_mapper: Mapping[str, str]) -> Item:
    """Return the event as a row. Fields have the types of their values, or those that `row_mapper` states."""
    texts = {
        "task_id": event.task_id,
        "action": event.action,
        "author": event.origin.author,
        "invocation_id": event.origin.invocation_id,
        "log_stream_name": event.origin.log_stream_name,
    }
    extra = {name: typed_attribute(value, row_mapper.get(name)) for name, value in event.extra.items()}
    return {**extra, **{name: {"S": text} for name, text in texts.items()}, "created_at": number(event.created_at)}


def event_of(item: Mapping[str, Any]) -> Event:
    """Return the event of a row, also of one that sosw or somebody else wrote: what is missing there is empty."""
    row = {name: _deserialize(attribute) for name, attribute in item.items()}
    text = {name: str(row.get(name, "")) for name in _FIELDS}
    return Event(
        task_id=text["task_id"],
        created_at=Decimal(text["created_at"]),
        action=text["action"],
        origin=Origin(text["author"], text["invocation_id"], text["log_stream_name"]),
        extra={name: value for name, value in row.items() if name not in _FIELDS},
    )


class HistoryTable:
    """The history in DynamoDB. Safe to share between threads."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self._client = client
        self._name = name

    def write(self, rows: Sequence[Item]) -> list[Item]:
        """Put at most 25 rows; return those that the store had no capacity for. Idempotent.

        Raises:
            StoreUnavailable: Some may be missing; write them all again.
            StoreError: The store refuses them; with the code `ValidationException` because of one of them.
        """
        request: Any = {self._name: [{"PutRequest": {"Item": row}} for row in rows]}
        with translated("BatchWriteItem"):
            left = self._client.batch_write_item(RequestItems=request).get("UnprocessedItems", {})
        return [put["PutRequest"]["Item"] for put in left.get(self._name, [])]

    def history(self, task_id: str) -> list[Event]:
        """Return all events of a task that are written, the first one first.

        Raises:
            StoreUnavailable: Try again later.
            StoreError: The store refuses; the table may be missing.
        """
        query: Item = {
            "TableName": self._name,
            "KeyConditionExpression": "#t = :t",
            "ExpressionAttributeNames": {"#t": "task_id"},
            "ExpressionAttributeValues": {":t": {"S": task_id}},
            "ConsistentRead": True,
        }
        return [event_of(item) for item in query_items(self._client, query)]
