"""Writes DynamoDB's requests that hold items.

As with answers (`parser.py`): botocore copies each value of each item along its model of the service, and all but
binary values are JSON as they are meant to be.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ItemSerializer"]

#: Requests of items, and of numbers and texts beside them.
OPERATIONS = frozenset(
    {"BatchExecuteStatement", "BatchWriteItem", "PutItem", "Query", "TransactWriteItems", "UpdateItem"}
)


class ItemSerializer:
    """Writes requests of items as they stand, and leaves all else to botocore's serializer, one without validation."""

    def __init__(self, serializer: Any) -> None:
        self._serializer = serializer

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        """Return what is to be sent."""
        body = _body_of(parameters) if operation_model.name in OPERATIONS else None
        if body is None:
            return dict(self._serializer.serialize_to_request(parameters, operation_model))
        return {**self._serializer.serialize_to_request({}, operation_model), "body": body}


def _body_of(parameters: dict[str, Any]) -> bytes | None:
    """Return the parameters as JSON; None if they are none, because of a binary value: botocore's matter."""
    try:
        return json.dumps(parameters).encode()
    except (TypeError, ValueError):
        return None
