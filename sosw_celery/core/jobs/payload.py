"""JSON as jobs and task payloads use it: what may stand in a job, and the one text that a payload has everywhere.

Strict where Python's JSON is lenient: NaN and Infinity are no JSON, keys are text, and an object that names a key twice
is refused instead of losing a value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from sosw_celery.errors import InvalidJob
from sosw_celery.text import excerpt

__all__ = [
    "MAX_DEPTH",
    "MAX_PAYLOAD_BYTES",
    "Path",
    "check_json",
    "check_payload_size",
    "parse_json",
    "payload_text",
    "show_path",
]

#: How deep lists and dicts of a job may stand in each other. Python's own limit is about 1,000 calls, of which the
#: chunker takes one for each level of a job, that is for two of these, and JSON one for each.
MAX_DEPTH = 400

#: DynamoDB refuses items over 400 KB. 4 KB of them are left for the other fields of a task.
MAX_PAYLOAD_BYTES = (400 - 4) * 1024

#: The way to a place in a job, innermost step first: (the way to its parent, *keys), or None for the job itself.
#: Linked, because almost no path that is built is ever shown.
Path = tuple[Any, ...] | None

PLAIN_TYPES = frozenset({str, int, bool, type(None)})


def show_path(path: Path) -> str:
    """Return a path as text: `job.sections.weddings.stores`."""
    steps: list[str] = []
    while path is not None:
        path, *keys = path
        steps[:0] = map(str, keys)
    return ".".join(["job", *steps])


def parse_json(text: str | bytes | bytearray, path: str = "job") -> Any:
    """Return what a JSON text says.

    Raises:
        InvalidJob: It is not JSON, names a key twice in one object, holds NaN or Infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except InvalidJob:
        raise
    except RecursionError:
        raise InvalidJob(path, f"expected at most {MAX_DEPTH} lists and dicts in each other") from None
    except ValueError as error:  # JSONDecodeError, bytes that are not UTF-8, numbers of thousands of digits
        raise InvalidJob(path, f"expected JSON ({error})", excerpt(text)) from error


def check_json(value: Any, path: Path = None, depth: int = 1) -> None:
    """Make sure that a value could have come from JSON, at any depth. Tuples pass for lists.

    Raises:
        InvalidJob: A key that is not text, NaN, Infinity, a type that JSON lacks, or more than `MAX_DEPTH` lists and
            dicts in each other.
    """
    if not isinstance(value, (dict, list, tuple)):
        _check_scalar(value, path)
        return
    if depth > MAX_DEPTH:
        # The whole path would be an error text of several hundred keys.
        raise InvalidJob("job", f"expected at most {MAX_DEPTH} lists and dicts in each other")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidJob(show_path(path), "expected keys that are text", excerpt(key))
            kind = type(item)
            # Most lists of a job are lists of names: seen here, they cost no call.
            if kind not in PLAIN_TYPES and (kind is not list or not PLAIN_TYPES.issuperset(map(type, item))):
                check_json(item, (path, key), depth + 1)
    elif not PLAIN_TYPES.issuperset(map(type, value)):
        for position, item in enumerate(value):
            if type(item) not in PLAIN_TYPES:
                check_json(item, (path, position), depth + 1)


def payload_text(payload: Mapping[str, Any]) -> str:
    """Return the JSON text of a task's payload: the same in every store, message and archive.

    Only ASCII, so its length is its size in bytes.

    Raises:
        InvalidJob: The payload cannot be written as JSON.
    """
    try:
        return _encode(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob("job", f"expected what JSON can say ({error})", excerpt(payload)) from error


def check_payload_size(text: str, limit: int = MAX_PAYLOAD_BYTES) -> None:
    """Make sure that a task with this payload fits into one item of DynamoDB.

    Raises:
        InvalidJob: It is too big; says its size and the limit.
    """
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise InvalidJob("job", f"a task of {size} bytes is over the limit of {limit}: split it further", excerpt(text))


# Built once: json.dumps with options of one's own builds an encoder for every call.
_encode = json.JSONEncoder(allow_nan=False).encode


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _refuse_double_key(key for key, _ in pairs)
    return found


def _refuse_double_key(keys: Iterable[str]) -> NoReturn:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise InvalidJob("job", "expected each key once in an object", excerpt(key))
        seen.add(key)
    raise AssertionError("called without a double key")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_scalar(value: Any, path: Path) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidJob(show_path(path), "expected a finite number", excerpt(value))
    elif value is not None and not isinstance(value, (str, int)):
        raise InvalidJob(show_path(path), "expected a value that JSON can say", excerpt(value))
