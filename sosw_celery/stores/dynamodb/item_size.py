"""How large an item is for DynamoDB, which takes 400 KB at most, and how one is made to fit. Pure.

Source: "DynamoDB item sizes and formats" in AWS's developer guide.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sosw_celery.text import cut_to_bytes

__all__ = ["DROPPED", "MOST_BYTES", "fitted", "size_of"]

MOST_BYTES = 400 * 1024
#: Attribute that tells what was left out of an item to make it fit, and bytes of it at most.
DROPPED, DROPPED_BYTES = "dropped_attributes", 1000


def size_of(item: Mapping[str, Any]) -> int:
    """Return the bytes of an item as DynamoDB counts them, or a few more: of numbers it does not say to the byte.

    Parameters:
        item: Attributes by their names, as `{"S": ...}`.
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def fitted(item: Mapping[str, Any], *, keep: Collection[str] = (), room: int = MOST_BYTES) -> dict[str, Any]:
    """Return an item without the largest of its attributes, if that is what it takes to fit; `DROPPED` tells which.

    Parameters:
        keep: Names of attributes that stay, however large they are.
        room: Bytes that it may have.
    """
    fitting = dict(item)
    excess = size_of(item) - room
    if excess <= 0:
        return fitting
    excess += len(DROPPED) + DROPPED_BYTES
    sizes = {name: size_of({name: value}) for name, value in item.items() if name not in keep}
    dropped: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if excess <= 0:
            break
        del fitting[name]
        excess -= sizes[name]
        dropped.append(f"{name} ({sizes[name]} bytes)")
    text = cut_to_bytes(", ".join(dropped), DROPPED_BYTES)
    return {**fitting, DROPPED: {"S": text}} if dropped else fitting


def _value_size(attribute: Mapping[str, Any]) -> int:
    """Return the bytes of one attribute's value."""
    ((kind, value),) = attribute.items()
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return _number_size(value)
    if kind == "B":
        return len(bytes(value))
    if kind == "SS":
        return sum(len(text.encode()) for text in value)
    if kind == "NS":
        return sum(map(_number_size, value))
    if kind == "BS":
        return sum(len(bytes(part)) for part in value)
    if kind == "L":
        return 3 + sum(1 + _value_size(inner) for inner in value)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_size(inner) for name, inner in value.items())
    return 1  # BOOL, NULL


def _number_size(text: str) -> int:
    # A byte for two digits, one for the exponent, one for a sign, and one since half a byte counts as one.
    return min(len(text), 38) // 2 + 3
