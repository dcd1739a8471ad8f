"""What pydantic refuses, as errors of ours: the dotted path of a key, its value, and in one line what is expected."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sosw_celery.config import sosw_keys
from sosw_celery.errors import ConfigError
from sosw_celery.text import did_you_mean

__all__ = ["problems_in"]


def problems_in(refusal: ValidationError, root: type[BaseModel]) -> list[ConfigError]:
    """Return the first problem of each key: a union tells one for each of its branches.

    Parameters:
        root: The model that refused, whose sections the keys of the problems stand in.
    """
    by_key: dict[str, ConfigError] = {}
    for one in refusal.errors(include_url=False):
        problem = _problem(dict(one), root)
        by_key.setdefault(problem.key, problem)
    return list(by_key.values())


def _problem(found: Mapping[str, Any], root: type[BaseModel]) -> ConfigError:
    # Keys in angle brackets or with "function-" are pydantic's own words for a union's branches.
    steps = [str(step) for step in found["loc"] if not str(step).startswith(("function-", "callable", "is-instance"))]
    is_key = (found["type"], steps[-1:]) == ("string_type", ["[key]"])
    if is_key or found["type"] == "invalid_key":
        place = steps[: -2 if is_key else -1]
        return ConfigError(".".join([sosw_keys.ROOT, *place]), found["loc"][len(place)], "keys that are texts")
    key = ".".join([sosw_keys.ROOT, *steps])
    if found["type"] == "extra_forbidden":
        return ConfigError(key, found["input"], f"a known key{_suggestion(steps, root)}")
    problem = found.get("ctx", {}).get("error")
    if isinstance(problem, ConfigError):  # of a part of the value; its key goes on from here
        return ConfigError(f"{key}{problem.key}", problem.value, problem.expected)
    # The whole section is no value to show: it may hold passwords.
    value = found["input"] if steps else sorted(map(str, found["input"]))
    expected = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return ConfigError(key, value, expected)


def _suggestion(steps: list[str], root: type[BaseModel]) -> str:
    *place, wrong = steps
    names = [*_section_at(place, root).model_fields, *sosw_keys.names_known_at(".".join(place))]
    hint = did_you_mean(wrong, (name for name in names if name != wrong))
    return f" ({hint.removeprefix(', ')})" if hint else ""


def _section_at(steps: list[str], root: type[BaseModel]) -> type[BaseModel]:
    """Return the section in which the key of a path stands; names of dict entries are passed over."""
    section = root
    for step in steps:
        field = section.model_fields.get(step)
        section = next(_sections_in(field.annotation), section) if field else section
    return section


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a field may hold: itself, or as the values of a dict."""
    if isinstance(annotation, type) and not typing.get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections_in(argument)
