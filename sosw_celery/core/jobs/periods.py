"""Periods of jobs: from `last_3_days` to the dates that a worker gets as `date_list`.

A job names its days in one of these ways, and only in one:

- `period`: a text that one pattern of a registry matches as a whole. Built in are `today`, `yesterday`,
  `X_days_back`, `last_X_days` (ending yesterday), `previous_X_days` (the X days before those), `last_week` (the last
  complete Sunday to Saturday before today) and exact ranges, `2026-01-01..2026-01-31`.
- `st_date` with `en_date`: both days and those between them.
- `date_list`: the dates themselves; the job's own list is left alone, unless a task per day is asked for.

`isolate_days` (or `isolate_day`) asks for tasks of one day each. Dates are texts, YYYY-MM-DD, oldest first. "Today" is
a parameter; `job_today` computes it from the job's time zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from sosw_celery.core.jobs.schema import parse_switch
from sosw_celery.errors import ConfigError, InvalidJob
from sosw_celery.text import did_you_mean, excerpt

__all__ = [
    "DEFAULT_PERIODS",
    "MAX_DAYS",
    "JobDates",
    "Periods",
    "has_dates",
    "job_dates",
    "job_today",
    "last_week",
    "last_x_days",
    "previous_x_days",
    "resolve_period",
    "today",
    "x_days_back",
    "yesterday",
]

#: The most days that a period may span or go back: one hundred years. More is a typing error.
MAX_DAYS = 36_600

DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
DAY_FLAGS = ("isolate_day", "isolate_days")

#: Takes the match of its pattern and today's date; returns dates as YYYY-MM-DD, oldest first.
PeriodFunction = Callable[["re.Match[str]", date], "list[str]"]


class Periods(Mapping[str, PeriodFunction]):
    """An immutable registry of periods: pattern -> function.

    A pattern always has to match the whole text, so there is no shorter match that could win over a longer one; where
    several patterns match, the one that was registered last is taken: a period of one's own can replace a built-in one.
    """

    def __init__(self, functions: Mapping[str, PeriodFunction]) -> None:
        self._functions = dict(functions)
        self._newest_first = [(re.compile(pattern), function) for pattern, function in self._functions.items()][::-1]

    def __getitem__(self, pattern: str) -> PeriodFunction:
        return self._functions[pattern]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def extended(self, functions: Mapping[str, PeriodFunction]) -> Periods:
        """Return a registry that knows these periods too.

        Raises:
            ConfigError: A pattern is not a regular expression, or its function cannot be called.
        """
        for pattern, function in functions.items():
            _check_custom(pattern, function)
        kept = {pattern: function for pattern, function in self.items() if pattern not in functions}
        return Periods({**kept, **functions})

    def find(self, text: str) -> tuple[PeriodFunction, re.Match[str]] | None:
        """Return the function for a period and the match of its pattern, None when no pattern matches all of it."""
        for pattern, function in self._newest_first:
            match = pattern.fullmatch(text)
            if match:
                return function, match
        return None


def resolve_period(text: Any, today: date, periods: Periods, path: str = "job.period") -> list[str]:
    """Return the dates that a period means when today is `today`.

    Errors that a custom period's function raises come through as they are.

    Raises:
        InvalidJob: Not a text, not a known period, or one without any date.
    """
    if not isinstance(text, str):
        raise InvalidJob(path, f"expected the text of a period, as {EXAMPLES}", excerpt(text))
    found = periods.find(text)
    if found is None:
        raise InvalidJob(path, f"unknown period, expected one as {EXAMPLES}", excerpt(text))
    function, match = found
    try:
        dates = function(match, today)
    except _Unusable as problem:
        raise InvalidJob(path, str(problem), excerpt(text)) from None
    if not dates or not all(isinstance(day, str) for day in dates):
        raise InvalidJob(path, f"expected its function to give dates as text, got {excerpt(dates)}", excerpt(text))
    return dates


class JobDates(NamedTuple):
    """The dates of a job, and the job without the attributes that asked for them."""

    #: Attributes of the job that go on into its tasks.
    attributes: dict[str, Any]
    #: The `date_list` of each group of tasks, in order; None for a job whose dates are not ours to decide.
    date_lists: list[list[str]] | None
    #: Flags for a task per day that find no day; they do nothing.
    idle_flags: tuple[str, ...] = ()

    def payloads(self) -> Iterator[dict[str, Any]]:
        """Return the job once for each of its date lists, or once as it is."""
        if self.date_lists is None:
            yield self.attributes
            return
        for dates in self.date_lists:
            yield {**self.attributes, "date_list": dates}


def job_dates(
    job: Mapping[str, Any], today: date, periods: Periods, *, day_flags: tuple[str, ...] = DAY_FLAGS
) -> JobDates:
    """Return the dates that a job asks for with `period`, or `st_date` and `en_date`, and the rest of the job.

    An empty or missing period asks for nothing. Whatever happens, these attributes and the day flags are taken out:
    they have done their work, and a worker that finds them would have to guess whether they still count.

    Parameters:
        day_flags: The spellings of the flag for one task per day. Pass none where the job has no period and the
            schema has a level called `day`: then the flag is that level's.

    Raises:
        InvalidJob: More than one way to say the days, a bad period, dates that do not exist or are in disorder.
    """
    flags = tuple(flag for flag in day_flags if flag in job and parse_switch(job[flag], f"job.{flag}"))
    days = [*_days_of_period(job, today, periods), *_days_of_range(job)] or (_days_of_list(job) if flags else [])
    taken = {"period", "st_date", "en_date", *day_flags}
    attributes = {key: value for key, value in job.items() if key not in taken}
    if not days:
        return JobDates(attributes, None, flags)
    return JobDates(attributes, [[day] for day in days] if flags else [days])


def has_dates(job: Mapping[str, Any]) -> bool:
    """Return True when a job asks for dates, whether or not they are right."""
    return any(not _is_absent(job.get(key)) for key in ("period", "st_date", "en_date"))


def job_today(job_timezone: Any, configured: str | None, now: datetime) -> date:
    """Return the date that it is now in the job's time zone, else in the configured one, else in UTC.

    Parameters:
        job_timezone: The job's own `timezone`; None or an empty text leaves it to the configuration.
        now: An aware time.

    Raises:
        InvalidJob: The job names a zone that does not exist.
        ConfigError: The configuration does.
    """
    if now.tzinfo is None:
        raise ValueError("the time of a job is expected to know its zone")
    if not _is_absent(job_timezone):
        zone = _zone(job_timezone)
        if zone is None:
            hint = did_you_mean(str(job_timezone), available_timezones())
            raise InvalidJob(
                "job.timezone", f"unknown time zone, expected one as 'Europe/Oslo'{hint}", excerpt(job_timezone)
            )
        return now.astimezone(zone).date()
    zone = _zone(configured or "UTC")
    if zone is None:
        hint = did_you_mean(str(configured), available_timezones())
        raise ConfigError("sosw.timezone", configured, f"the name of a time zone, as 'Europe/Oslo'{hint}")
    return now.astimezone(zone).date()


# The built-in periods, each as a function of its text (the methods of sosw) and as one of a match (for the registry).


def today(pattern: str, today: date) -> list[str]:
    """Return today's date for the period `today`."""
    return _resolve_with(r"today", pattern, today)


def yesterday(pattern: str, today: date) -> list[str]:
    """Return yesterday's date for the period `yesterday`."""
    return _resolve_with(r"yesterday", pattern, today)


def x_days_back(pattern: str, today: date) -> list[str]:
    """Return the one date that lies X days before today, for a period as `7_days_back`. Zero days back is today."""
    return _resolve_with(r"([0-9]+)_days_back", pattern, today)


def last_x_days(pattern: str, today: date) -> list[str]:
    """Return the X dates that end yesterday, for a period as `last_3_days`."""
    return _resolve_with(r"last_([0-9]+)_days", pattern, today)


def previous_x_days(pattern: str, today: date) -> list[str]:
    """Return the X dates before those of `last_X_days`, for a period as `previous_3_days`."""
    return _resolve_with(r"previous_([0-9]+)_days", pattern, today)


def last_week(pattern: str, today: date) -> list[str]:
    """Return the last complete week, Sunday to Saturday, before today, for the period `last_week`."""
    return _resolve_with(r"last_week", pattern, today)


class _Unusable(Exception):
    """A period was understood, but has no dates. Its text is the problem as a phrase."""


def _today(match: re.Match[str], today: date) -> list[str]:
    return _days(today, 1)


def _yesterday(match: re.Match[str], today: date) -> list[str]:
    return _days(_back(today, 1), 1)


def _x_days_back(match: re.Match[str], today: date) -> list[str]:
    return _days(_back(today, _number(match[1])), 1)


def _last_x_days(match: re.Match[str], today: date) -> list[str]:
    count = _at_least_one(match[1])
    return _days(_back(today, count), count)


def _previous_x_days(match: re.Match[str], today: date) -> list[str]:
    count = _at_least_one(match[1])
    return _days(_back(today, 2 * count), count)


def _last_week(match: re.Match[str], today: date) -> list[str]:
    days_since_sunday = today.isoweekday() % 7
    return _days(_back(today, days_since_sunday + 7), 7)


def _exact_range(match: re.Match[str], today: date) -> list[str]:
    return _span(_day(match[1]), _day(match[2]))


DEFAULT_PERIODS = Periods(
    {
        r"last_([0-9]+)_days": _last_x_days,
        r"previous_([0-9]+)_days": _previous_x_days,
        r"([0-9]+)_days_back": _x_days_back,
        r"yesterday": _yesterday,
        r"today": _today,
        r"last_week": _last_week,
        rf"({DAY})\.\.({DAY})": _exact_range,
    }
)

EXAMPLES = (
    "'last_3_days', 'previous_3_days', '7_days_back', 'yesterday', 'today', 'last_week' or '2026-01-01..2026-01-31'"
)


def _resolve_with(known: str, text: str, today: date) -> list[str]:
    return resolve_period(text, today, Periods({known: DEFAULT_PERIODS[known]}), path="pattern")


def _number(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    # Counted as text first: Python refuses to read thousands of digits as a number.
    if len(significant) > len(str(MAX_DAYS)) or int(significant) > MAX_DAYS:
        raise _Unusable(f"expected at most {MAX_DAYS} days")
    return int(significant)


def _at_least_one(digits: str) -> int:
    count = _number(digits)
    if count == 0:
        raise _Unusable("expected at least 1 day")
    return count


def _back(day: date, days: int) -> date:
    try:
        return day - timedelta(days=days)
    except OverflowError:
        raise _Unusable("this period begins before the year 1") from None


def _days(first: date, count: int) -> list[str]:
    return [(first + timedelta(days=offset)).isoformat() for offset in range(count)]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _Unusable(f"{text} is not a date") from None


def _span(first: date, last: date) -> list[str]:
    if last < first:
        raise _Unusable(f"{first} is after {last}")
    count = (last - first).days + 1
    if count > MAX_DAYS:
        raise _Unusable(f"expected at most {MAX_DAYS} days, found {count}")
    return _days(first, count)


def _is_absent(value: Any) -> bool:
    return value is None or value == ""


def _days_of_period(job: Mapping[str, Any], today: date, periods: Periods) -> list[str]:
    if _is_absent(job.get("period")):
        return []
    _refuse_second_way(job, "period", ("date_list", "st_date", "en_date"))
    return resolve_period(job["period"], today, periods)


def _days_of_range(job: Mapping[str, Any]) -> list[str]:
    given = [key for key in ("st_date", "en_date") if not _is_absent(job.get(key))]
    if not given:
        return []
    if len(given) == 1:
        raise InvalidJob(f"job.{given[0]}", "expected both st_date and en_date, or neither", excerpt(job[given[0]]))
    _refuse_second_way(job, "st_date", ("date_list",))
    try:
        return _span(_job_day(job, "st_date"), _job_day(job, "en_date"))
    except _Unusable as problem:
        raise InvalidJob("job.en_date", str(problem), excerpt(job["en_date"])) from None


def _days_of_list(job: Mapping[str, Any]) -> list[str]:
    """Return the days of a job's own list, in its order, for a job that wants a task for each."""
    found = job.get("date_list")
    if _is_absent(found):
        return []
    days = [found] if isinstance(found, str) else found
    if not isinstance(days, (list, tuple)) or not all(isinstance(day, str) for day in days):
        raise InvalidJob("job.date_list", "expected a list of dates as text, for a task per day", excerpt(found))
    return list(days)


def _job_day(job: Mapping[str, Any], key: str) -> date:
    value = job[key]
    if isinstance(value, str) and re.fullmatch(DAY, value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass  # a date as 2026-02-30: the same answer as for text that is none
    raise InvalidJob(f"job.{key}", "expected a date as 2026-01-31", excerpt(value))


def _refuse_second_way(job: Mapping[str, Any], chosen: str, others: tuple[str, ...]) -> None:
    for other in others:
        if not _is_absent(job.get(other)):
            raise InvalidJob(f"job.{other}", f"expected either this or {chosen}, found both", excerpt(job[other]))


def _zone(name: Any) -> tzinfo | None:
    """Return the time zone of this name, None when there is none. UTC is known without a zone database."""
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    # Names that lead out of the database or to one of its folders are reported in these ways too.
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        return None


def _check_custom(pattern: Any, function: Any) -> None:
    key = "sosw.custom_period_patterns"
    if not isinstance(pattern, str):
        raise ConfigError(key, pattern, "patterns as text")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(key, pattern, f"a regular expression ({error})") from error
    if not callable(function):
        raise ConfigError(f"{key}.{pattern}", function, "a function of the match and of today's date")
