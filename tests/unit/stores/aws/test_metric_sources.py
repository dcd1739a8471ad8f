"""Sources that need no server: functions, and what counts as a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from sosw_celery.clock import now
from sosw_celery.config.health import EcologyConfig
from sosw_celery.errors import ConfigError, StoreError
from sosw_celery.stores.aws.metric_sources import ask_function, number, sources_from


def lag(queue: str = "none") -> int:
    """A metric as a function."""
    return len(queue)


def own_source(details: Mapping[str, Any], timeout_s: float) -> float:
    """A source of one's own."""
    return float(details["factor"]) * timeout_s


@pytest.mark.parametrize(("answer", "value"), [(3, 3.0), (Decimal("0.5"), 0.5), (True, 1.0), (math.inf, math.inf)])
def test_numbers_are_numbers(answer: object, value: float) -> None:
    """Whatever kind of number a function gives."""
    assert number(answer) == value


@pytest.mark.parametrize("answer", [None, "3", math.nan, [1], Fraction])
def test_anything_else_is_a_failure(answer: object) -> None:
    """Text is not guessed at, and NaN is no reading."""
    with pytest.raises(StoreError, match="expected a number"):
        number(answer)


def test_a_function_is_called_with_its_arguments() -> None:
    """By its path or as it is; without arguments where none are stated."""
    assert ask_function({"function": lag, "arguments": {"queue": "ab"}}, 1) == 2
    assert ask_function({"function": "time:monotonic"}, 1) > 0


@pytest.mark.parametrize("path", ["no_such_module:f", "math:no_such_function", "math", ":f"])
def test_a_function_that_cannot_be_imported_is_named(path: str) -> None:
    """The error says which, and why."""
    with pytest.raises(ConfigError, match="a function that can be imported"):
        ask_function({"function": path}, 1)


def test_sources_of_ones_own_stand_beside_the_built_in_ones() -> None:
    """They are called with the details and the time that they have."""
    sources = sources_from(EcologyConfig(sources={"mine": own_source}), region_name=None, clock=now)
    assert sources.keys() == {"cloudwatch", "prometheus", "callable", "mine"}
    assert sources["mine"]({"factor": 2}, 1.5) == 3
