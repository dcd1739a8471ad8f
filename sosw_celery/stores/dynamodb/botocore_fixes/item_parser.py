"""Reads DynamoDB's answers that hold items.

botocore walks through its model of the service for each value of each item, and makes of it what stood in the answer
before, since all of it is JSON as it is meant to be: only binary values are not. For an answer with a hundred rows that
takes longer than all else that is done with them.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.parsers import ResponseParserFactory

__all__ = ["ItemParserFactory", "read_items_as_they_stand"]

#: Answers of items, and of numbers and texts beside them.
OUTPUTS = frozenset({"BatchExecuteStatementOutput", "QueryOutput", "UpdateItemOutput"})
#: What stands before a binary value (`"B"`, `"BS"`); it stands before others too, and in texts.
PERHAPS_BINARY = b'"B'


def read_items_as_they_stand(client: Any) -> None:
    """Have the client read answers so from now on.

    botocore has a public place for this, a component of the session. That one is the user's, who may make other
    clients of it.
    """
    endpoint: Any = getattr(client, "_endpoint", None)
    if hasattr(endpoint, "_response_parser_factory"):
        endpoint._response_parser_factory = ItemParserFactory()


class ItemParserFactory(ResponseParserFactory):
    """Makes parsers that read items as they stand in the answer, and leave all else to botocore's."""

    def create_parser(self, protocol_name: str) -> Any:
        """Return a parser for answers of a protocol."""
        parser = super().create_parser(protocol_name)
        return _ItemParser(parser) if protocol_name == "json" else parser


class _ItemParser:
    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def parse(self, response: dict[str, Any], shape: Any) -> Any:
        """Return the content of an answer."""
        body = response["body"]
        is_plain = response["status_code"] == 200 and getattr(shape, "name", "") in OUTPUTS
        content = _content_of(body) if is_plain and PERHAPS_BINARY not in body else None
        if content is None:
            return self._parser.parse(response, shape)
        return {**content, **self._parser.parse(response, None)}


def _content_of(body: bytes) -> dict[str, Any] | None:
    """Return the members of an answer that have a value; None if it is no answer: botocore's matter."""
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return {name: value for name, value in content.items() if value is not None} if isinstance(content, dict) else None
