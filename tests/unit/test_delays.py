"""How long a wait is."""

from __future__ import annotations

import datetime
import fractions
import json
import math
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery import RetryLater
from sosw_celery.delays import LONGEST_DELAY_S, seconds_until
from tests.fuzz.hostile import HOSTILE, UNSAYABLE

#: Friday, 6 November 2026, 08:49:37 in Greenwich.
NOW_S = 1_793_954_977.0
NAIVE = datetime.datetime.fromisoformat("2026-11-06T09:00:00")
BERLIN = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [
        (4, 4.0),
        (0.25, 0.25),
        (Decimal("2.5"), 2.5),
        (fractions.Fraction(1, 2), 0.5),
        ("4", 4.0),
        (" 1.5\r\n", 1.5),
        ("1e2", 100.0),
        (b"120", 120.0),
        (-3, 0.0),
        ("-3", 0.0),
        (datetime.timedelta(minutes=2), 120.0),
        (datetime.timedelta(days=-1), 0.0),
        ("Fri, 06 Nov 2026 08:50:37 GMT", 60.0),
        ("Friday, 06-Nov-26 08:50:37 GMT", 60.0),
        ("Fri Nov  6 08:50:37 2026", 60.0),
        ("Fri, 06 Nov 2026 09:50:37 +0100", 60.0),
        ("Fri, 06 Nov 1998 08:50:37 GMT", 0.0),
        (datetime.datetime(2026, 11, 6, 9, 51, 37, tzinfo=BERLIN), 120.0),
        (LONGEST_DELAY_S, LONGEST_DELAY_S),
    ],
)
def test_a_wait_is_taken_as_code_and_http_say_it(wanted: Any, seconds: float) -> None:
    """Numbers, texts of numbers, timedeltas, moments and the three forms of HTTP dates; what is past is no wait."""
    assert seconds_until(wanted, NOW_S, "x") == seconds


@pytest.mark.parametrize(
    "wanted",
    [
        *("soon", "", "4 s", "Fri, 06 Nov 2126 08:50:37 GMT", "Fri, 99 Nov 2026 08:50:37 GMT", b"\xff", "nan", "inf"),
        *(math.nan, math.inf, -math.inf, Decimal("sNaN"), 10**400, 1e16, 1_795_392_000_000_000_000),
        *(LONGEST_DELAY_S * 1.01, datetime.timedelta.max, NAIVE, datetime.date(2026, 11, 6)),
        *(True, None, [4], {"s": 4}, 4j, ...),
    ],
    ids=str,
)
def test_nonsense_is_refused_in_one_line(wanted: Any) -> None:
    """The error names what was asked for, where, and what is expected."""
    with pytest.raises(ValueError, match=r"^x: expected seconds .*ten years, got ") as refusal:
        seconds_until(wanted, NOW_S, "x")
    assert "\n" not in str(refusal.value)


@given(HOSTILE | UNSAYABLE | st.datetimes() | st.timedeltas() | st.decimals() | st.binary())
def test_any_wait_is_possible_or_refused(wanted: Any) -> None:
    """What comes out can be a place in a queue; nothing else than ValueError is raised."""
    try:
        found = seconds_until(wanted, NOW_S, "x")
    except ValueError:
        return
    assert 0 <= found <= LONGEST_DELAY_S


def test_a_retry_keeps_its_wait_on_its_way() -> None:
    """`RetryLater` knows seconds, whatever it was made of, also after a process or a message has carried it."""
    later = RetryLater("4", "rate limited")
    assert (later.delay_s, str(later)) == (4.0, "rate limited; again in 4 s")
    again = pickle.loads(pickle.dumps(later))
    assert (again.delay_s, again.reason) == (4.0, "rate limited")
    assert RetryLater(*json.loads(json.dumps(later.args))).delay_s == 4.0
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    assert 3000 < (RetryLater(moment).delay_s or 0) <= 3600
    assert RetryLater().delay_s is None


@pytest.mark.parametrize("delay_s", [math.nan, math.inf, 1e16, 1_795_392_000_000_000_000, "after lunch"])
def test_no_retry_is_asked_for_after_an_impossible_wait(delay_s: Any) -> None:
    """It is refused where it is built, so no row is written that no sweep could read."""
    with pytest.raises(ValueError, match=r"RetryLater\.delay_s: expected seconds"):
        RetryLater(delay_s)
