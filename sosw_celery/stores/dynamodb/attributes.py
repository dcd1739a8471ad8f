"""Values as attributes of items, `{"S": "text"}`, and back. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import Binary, TypeDeserializer

from sosw_celery.core.exact import EXACT
from sosw_celery.core.tasks.storable import DIGITS, as_number, storable

__all__ = [
    "Item",
    "attribute_of",
    "attributes_of_text",
    "attributes_text",
    "number",
    "stored_as",
    "typed_attribute",
    "value_of",
    "value_to_attribute",
]

#: An item by the names of its attributes, or one attribute by its type; also the arguments of a request.
Item = dict[str, Any]


class _Deserializer(TypeDeserializer):
    """boto3's, for each number that DynamoDB holds: its own refuses 1E+38, which reads as 39 digits."""

    def _deserialize_n(self, value: str) -> Decimal:
        return EXACT.create_decimal(value)


_deserialize: Callable[[Any], Any] = _Deserializer().deserialize


def number(value: Decimal | int) -> dict[str, str]:
    """Return a number as DynamoDB takes it, digit by digit."""
    return {"N": format(value, "f") if isinstance(value, Decimal) else str(value)}


def value_to_attribute(value: object) -> Item:
    """Return any value as an attribute, in the form of `core/tasks/storable.py`.

    So recording it fails neither for its type nor for its size.
    """
    return attribute_of(storable(value))


def attribute_of(value: Any) -> Item:
    """Return a storable value, or one that was read from a table, as an attribute; any other as storable."""
    if isinstance(value, str):
        return {"S": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, Decimal)):
        return number(value)
    if isinstance(value, (bytes, Binary)):
        return {"B": bytes(value)}  # type: ignore[arg-type]  # the stubs lack Binary.__bytes__
    if isinstance(value, Mapping):
        return {"M": {key: attribute_of(inner) for key, inner in value.items()}}
    if isinstance(value, AbstractSet):
        return _set_attribute(value) or {"L": [attribute_of(inner) for inner in value]}
    if isinstance(value, (list, tuple)):
        return {"L": [attribute_of(inner) for inner in value]}
    return value_to_attribute(value)


def typed_attribute(value: object, kind: str | None) -> Item:
    """Return any value as an attribute of the type that `row_mapper` states for its field, where it can be one.

    Texts of numbers become numbers, "true" and "false" booleans, and any value text (JSON, if it is a dict or a list).
    A value that cannot have the type keeps its own: a close is never refused for it.
    """
    return stored_as(storable(value), kind)


def stored_as(value: Any, kind: str | None) -> Item:
    """Return what `typed_attribute` does of a storable value, or of one that was read from a table."""
    own = attribute_of(value)
    if kind is None or kind in own:
        return own
    if kind == "S":
        is_nested = isinstance(value, (Mapping, list, AbstractSet))
        return own if "B" in own else {"S": _json_text(value) if is_nested else str(value)}
    if kind == "N":
        found = int(value) if isinstance(value, bool) else as_number(value)
        return own if found is None else number(found)
    if kind == "BOOL":
        word = str(value).lower()
        return {"BOOL": _WORDS[word]} if word in _WORDS else own
    if kind in ("SS", "NS", "BS") and isinstance(value, list):
        together = _set_attribute(value)
        return together if together and kind in together else own
    if kind == "L" and isinstance(value, AbstractSet):
        return attribute_of(list(value))
    return own


_WORDS = {"true": True, "false": False, "1": True, "0": False}


def _set_attribute(values: Collection[Any]) -> Item | None:
    """Return storable values as a set of a table; None when there is none, or they are not of one kind."""
    kinds = {kind for value in values for kind in attribute_of(value)}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        return None
    (kind,) = kinds
    return {f"{kind}S": [attribute_of(value)[kind] for value in dict.fromkeys(values)]}


def _json_text(value: Any) -> str:
    return json.dumps(value, default=_json_value)


def _json_value(value: Any) -> Any:
    """Return what stands in JSON for a storable value that it has none for."""
    if isinstance(value, Decimal):
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    return list(value) if isinstance(value, AbstractSet) else str(value)


def attributes_text(attributes: Mapping[str, Any]) -> str:
    """Return storable attributes as a JSON text that loses nothing of them: what DynamoDB's JSON would be."""
    return json.dumps(
        {name: attribute_of(value) for name, value in attributes.items()},
        default=lambda binary: base64.b64encode(binary).decode(),
    )


def attributes_of_text(text: str) -> dict[str, Any]:
    """Return the attributes that `attributes_text` made a text of.

    Raises:
        ValueError: It is no such text.
    """
    try:
        return {name: value_of(_with_bytes(attribute)) for name, attribute in json.loads(text).items()}
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as problem:
        raise ValueError(f"expected the attributes of an item as a JSON text ({type(problem).__name__})") from problem


def _with_bytes(attribute: Any) -> Item:
    """Return an attribute as it came in JSON, with its bytes."""
    ((kind, value),) = attribute.items()
    if kind == "B":
        value = base64.b64decode(value, validate=True)
    elif kind == "BS":
        value = [base64.b64decode(part, validate=True) for part in value]
    elif kind == "L":
        value = [_with_bytes(inner) for inner in value]
    elif kind == "M":
        value = {name: _with_bytes(inner) for name, inner in value.items()}
    return {kind: value}


def value_of(attribute: Item) -> Any:
    """Return the value of an attribute. Whole numbers of at most 38 digits are integers, others exact decimals."""
    if "S" in attribute:
        return attribute["S"]
    value = _deserialize(attribute)
    is_whole = isinstance(value, Decimal) and value.adjusted() < DIGITS and value == EXACT.to_integral_value(value)
    return int(value) if is_whole else value
