"""How long a wait is, as code and HTTP say it: seconds, a text of them, a timedelta, a moment. Pure."""

from __future__ import annotations

import datetime
import email.utils
import math
import numbers
from decimal import Decimal

from sosw_celery.text import excerpt

__all__ = ["LONGEST_DELAY_S", "Delay", "seconds_until"]

#: What may be asked for as a wait.
Delay = float | Decimal | str | bytes | datetime.timedelta | datetime.datetime

#: No wait is longer: ten years. Nobody means more, and later moments are beyond what a queue's places hold.
LONGEST_DELAY_S = 315_576_000

EXPECTED = (
    "expected seconds (a number or the text of one), a timedelta, a datetime with a time zone, or the text of an HTTP "
    "date, of at most ten years"
)


def seconds_until(wanted: object, now_s: float, path: str) -> float:
    """Return the seconds that are asked for, 0 where the moment is past.

    Parameters:
        wanted: A `Delay`; a text may be what a `Retry-After` header says.
        now_s: Seconds since the epoch, from which a moment counts.
        path: What is called so, for the error.

    Raises:
        ValueError: It is no wait, or longer than `LONGEST_DELAY_S`. One line.
    """
    try:
        found = _seconds(wanted, now_s)
    except Exception:  # noqa: BLE001  # whatever parsers raise, or the conversions of a number that is none
        found = math.nan
    if not found <= LONGEST_DELAY_S or found == -math.inf:
        raise ValueError(f"{path}: {EXPECTED}, got {excerpt(wanted)}")
    return max(0.0, found)


def _seconds(wanted: object, now_s: float) -> float:
    if isinstance(wanted, datetime.timedelta):
        return wanted.total_seconds()
    if isinstance(wanted, datetime.datetime):
        return _until(wanted, now_s)
    if isinstance(wanted, bytes):
        wanted = wanted.decode()
    if isinstance(wanted, str):
        try:
            return float(wanted)
        except ValueError:
            moment = email.utils.parsedate_to_datetime(wanted)
            # HTTP dates are of Greenwich; one of their old forms does not say so.
            return _until(moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc), now_s)
    if isinstance(wanted, bool):
        return math.nan
    return float(wanted) if isinstance(wanted, (numbers.Real, Decimal)) else math.nan


def _until(moment: datetime.datetime, now_s: float) -> float:
    return moment.timestamp() - now_s if moment.tzinfo else math.nan
