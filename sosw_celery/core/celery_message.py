"""What the message of a Celery task has to look like before a worker looks into it. Pure.

Celery believes what a message says of itself: a body that is a number, or a time limit that is a text, ends the worker,
and the message then goes to the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["SYSTEM_HEADER", "problem_of"]

#: Says which system a message comes from.
SYSTEM_HEADER = "sosw_system"

Check = Callable[[Any], bool]


def problem_of(headers: Any, payload: Any) -> str | None:
    """Return what is wrong with a message of Celery's protocol 2, in words that show nothing of it; None: nothing.

    Parameters:
        headers: As they came.
        payload: The body, decoded: arguments, keyword arguments, and what is to follow the task.
    """
    if not isinstance(headers, Mapping):
        return "expected headers"
    for name in ("task", "id"):
        if not isinstance(headers.get(name), str) or not headers[name]:
            return f"expected a text in the header {name}"
    for name, (check, expected) in _HEADERS.items():
        value = headers.get(name)
        if value is not None and not check(value):
            return f"expected {expected} in the header {name}"
    return _problem_of_payload(payload)


def _problem_of_payload(payload: Any) -> str | None:
    if not isinstance(payload, (list, tuple)) or len(payload) != 3:
        return "expected a body of arguments, keyword arguments and options"
    args, kwargs, options = payload
    if not isinstance(args, (list, tuple)):
        return "expected a list of arguments"
    if not isinstance(kwargs, Mapping):
        return "expected an object of keyword arguments"
    if not isinstance(options, Mapping):
        return "expected an object of options"
    for name, (check, expected) in _OPTIONS.items():
        value = options.get(name)
        if value is not None and not check(value):
            return f"expected {expected} as the option {name}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and 0 <= value <= 1_000_000_000)


def _are_limits(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_time, value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_signatures(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_signature, value))


def _is_signature(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args", ()), (list, tuple))
        and all(isinstance(value.get(name) or {}, Mapping) for name in ("kwargs", "options"))
    )


_TEXT: tuple[Check, str] = (_is_text, "a text")
_COUNT: tuple[Check, str] = (_is_count, "a count")

_HEADERS: dict[str, tuple[Check, str]] = {
    "timelimit": (_are_limits, "two numbers of seconds"),
    "retries": _COUNT,
    "eta": _TEXT,
    "expires": _TEXT,
    "root_id": _TEXT,
    "parent_id": _TEXT,
    "group": _TEXT,
    "group_index": _COUNT,
    "shadow": _TEXT,
    "origin": _TEXT,
    "argsrepr": _TEXT,
    "kwargsrepr": _TEXT,
    "replaced_task_nesting": _COUNT,
    "ignore_result": (lambda value: isinstance(value, bool), "true or false"),
    "stamped_headers": (_are_texts, "a list of texts"),
    "stamps": (_is_object, "an object"),
    SYSTEM_HEADER: _TEXT,
}

_OPTIONS: dict[str, tuple[Check, str]] = {
    "callbacks": (_are_signatures, "a list of tasks"),
    "errbacks": (_are_signatures, "a list of tasks"),
    "chain": (_are_signatures, "a list of tasks"),
    "chord": (_is_signature, "a task"),
}
