"""What is shown and kept of values and texts: their beginning, in errors and where there is a limit.

A job may be a gigabyte, and so nested that `repr` gives up: `excerpt` does not look at the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["cut_to_bytes", "did_you_mean", "excerpt", "kind_of"]

SHOWN_VALUE_LENGTH = 80


def excerpt(value: Any, length: int = SHOWN_VALUE_LENGTH) -> str:
    """Return `repr(value)`, cut to `length` characters, in a time that does not depend on the size of the value.

    Raises nothing: where a value raises when it is asked what it holds, what it had told before that is all.
    """
    text = ""
    try:
        for piece in _pieces(value, length):
            text += piece
            if len(text) > length:
                return f"{text[: length - 3]}..."
    except Exception:  # noqa: BLE001  # of a class of its own, whatever its `items` or `__iter__` raises
        return f"{text}..."
    return text


def cut_to_bytes(text: str, most: int) -> str:
    """Return the beginning of a text, of at most so many bytes of UTF-8; what UTF-8 has no bytes for is a `?`."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def kind_of(value: Any) -> str:
    """Return what a value is, without what it says: for errors about messages, which may hold anybody's data."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return "a number" if isinstance(value, (int, float)) else type(value).__name__


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
        yield from _listed("[", value, "]", length)
    elif type(value) is tuple:
        yield from _listed("(", value, ",)" if len(value) == 1 else ")", length)
    elif type(value) in (set, frozenset) and value:
        is_set = type(value) is set
        yield from _listed("{" if is_set else "frozenset({", value, "}" if is_set else "})", length)
    elif type(value) is str:
        yield repr(value[:length])
    elif type(value) is int and value.bit_length() > 8 * length:
        yield f"an integer of {value.bit_length()} bits"  # Python refuses to write out the largest ones
    else:
        try:
            yield repr(value)
        except Exception:  # noqa: BLE001  # whatever __repr__ raises
            yield f"<{type(value).__name__}>"


def _listed(start: str, values: Iterable[Any], end: str, length: int) -> Iterator[str]:
    yield start
    for position, item in enumerate(values):
        yield ", " if position else ""
        yield from _pieces(item, length)
    yield end


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` with the closest of the known words, or an empty text when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
