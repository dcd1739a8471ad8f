"""The beginning of a value, for errors: as `repr` would show it, but without looking at the rest.

A job may be a gigabyte, and so nested that `repr` gives up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["excerpt"]

SHOWN_VALUE_LENGTH = 80


def excerpt(value: Any, length: int = SHOWN_VALUE_LENGTH) -> str:
    """Return `repr(value)`, cut to `length` characters, in a time that does not depend on the size of the value."""
    text = ""
    for piece in _pieces(value, length):
        text += piece
        if len(text) > length:
            return f"{text[: length - 3]}..."
    return text


def _pieces(value: Any, length: int) -> Iterator[str]:
    """Yield the text of a value bit by bit. Every step into a container yields something, so none goes too deep."""
    if isinstance(value, dict):
        yield "{"
        for position, (key, item) in enumerate(value.items()):
            yield ", " if position else ""
            yield from _pieces(key, length)
            yield ": "
            yield from _pieces(item, length)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for position, item in enumerate(value):
            yield ", " if position else ""
            yield from _pieces(item, length)
        yield "]"
    elif type(value) is str:
        yield repr(value[:length])
    elif type(value) is int and value.bit_length() > 8 * length:
        yield f"an integer of {value.bit_length()} bits"  # Python refuses to write out the largest ones
    else:
        yield repr(value)
