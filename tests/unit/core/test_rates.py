"""Rates in Celery's notation."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sosw_celery.core.rates import Rate, parse_rate


@pytest.mark.parametrize(
    ("text", "interval_s"),
    [
        ("10/s", 0.1),
        ("100/m", 0.6),
        ("1000/h", 3.6),
        ("0.5/s", 2.0),
        ("1e3/h", 3.6),
        (" 10/s ", 0.1),
        ("10 /s", 0.1),  # float() strips, as Celery's parser does
        ("4", 0.25),
        (4, 0.25),
        (0.5, 2.0),
    ],
)
def test_notation(text: str | float, interval_s: float) -> None:
    """A number with s, m or h, or alone per second, is the rate that Celery reads from it."""
    assert math.isclose(parse_rate(text).interval_s, interval_s)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "/s", "10/", "10/d", "10/S", "ten/s", "10/s/m", "10s"),
        *("0", "0/m", "-1/s", "nan", "inf/s", 0, -2, math.nan),
        *(None, True, ["10/s"]),
    ],
)
def test_bad_text(text: Any) -> None:
    """Anything else is a ValueError that says what is expected; who asks says what was found."""
    with pytest.raises(
        ValueError, match=r"^a rate above 0 as '10/s', '100/m', '1000/h', or a plain number per second$"
    ):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "burst"), [("1/s", 1), ("10/s", 1), ("19/s", 1), ("30/s", 3), ("1000/s", 100), ("1/h", 1), ("6000/m", 10)]
)
def test_burst(text: str, burst: int) -> None:
    """As many may come at once as are due in a tenth of a second, at least one."""
    assert parse_rate(text).burst == burst


@pytest.mark.parametrize(("count", "per_s"), [(0, 1), (1, 0), (-1, 1), (1, -1), (math.inf, 1), (1, math.nan)])
def test_rate_is_above_zero(count: float, per_s: float) -> None:
    """A rate that never comes or never ends cannot be made."""
    with pytest.raises(ValueError, match="above 0"):
        Rate(count, per_s)
