"""Periods, exact dates and time zones of jobs."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosw_celery.core.jobs import periods
from sosw_celery.core.jobs.periods import DEFAULT_PERIODS, Periods, job_dates, job_today, resolve_period
from sosw_celery.errors import ConfigError, InvalidJob

FRIDAY = date(2024, 3, 1)

#: Any day on which no built-in period leaves the calendar.
DAYS = st.dates(date(1000, 1, 1), date(9000, 1, 1))


def resolve(text: Any, today: date = FRIDAY, known: Periods = DEFAULT_PERIODS) -> list[str]:
    """Return the dates of a period."""
    return resolve_period(text, today, known)


def dates_of(job: dict[str, Any]) -> list[list[str]] | None:
    """Return the date lists of a job."""
    return job_dates(job, FRIDAY, DEFAULT_PERIODS).date_lists


@pytest.mark.parametrize(
    ("text", "first", "last", "count"),
    [
        ("today", "2024-03-01", "2024-03-01", 1),
        ("yesterday", "2024-02-29", "2024-02-29", 1),
        ("0_days_back", "2024-03-01", "2024-03-01", 1),
        ("7_days_back", "2024-02-23", "2024-02-23", 1),
        ("last_3_days", "2024-02-27", "2024-02-29", 3),
        ("previous_3_days", "2024-02-24", "2024-02-26", 3),
        ("last_week", "2024-02-18", "2024-02-24", 7),
        ("2024-02-28..2024-03-02", "2024-02-28", "2024-03-02", 4),
        ("2024-02-29..2024-02-29", "2024-02-29", "2024-02-29", 1),
    ],
)
def test_period(text: str, first: str, last: str, count: int) -> None:
    """A period gives each of its days once, oldest first."""
    found = resolve(text)
    assert (found[0], found[-1], len(found)) == (first, last, count)
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    "text",
    ["", "next_3_days", "last_-1_days", "last_1.5_days", "last__days", "LAST_3_DAYS", " today", "today\n", "today ",
     "last_٣_days", "2024-01-01..", "2024-01-01...2024-01-02", "2024-1-1..2024-1-2"],
)  # fmt: skip
def test_unknown_period(text: str) -> None:
    """Text that no pattern matches as a whole is refused with examples of what would be right."""
    with pytest.raises(InvalidJob, match="unknown period, expected one as 'last_3_days'") as refusal:
        resolve(text)
    assert refusal.value.path == "job.period"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("last_0_days", "at least 1 day"),
        ("previous_000_days", "at least 1 day"),
        ("last_36601_days", "at most 36600 days"),
        ("99999999999_days_back", "at most 36600 days"),
        (f"last_{'9' * 5000}_days", "at most 36600 days"),
        ("2024-02-30..2024-03-01", "2024-02-30 is not a date"),
        ("2024-03-02..2024-03-01", "2024-03-02 is after 2024-03-01"),
        ("1024-03-02..2024-03-01", "at most 36600 days, found 365243"),
    ],
)
def test_period_without_dates(text: str, problem: str) -> None:
    """A period that is understood but makes no sense is refused with the reason."""
    with pytest.raises(InvalidJob, match=re.escape(problem)):
        resolve(text)


def test_period_before_the_calendar() -> None:
    """A period that would begin before the year 1 is refused."""
    with pytest.raises(InvalidJob, match="before the year 1"):
        resolve("last_36600_days", date(50, 1, 1))


@given(DAYS)
def test_last_week_is_the_last_complete_one(day: date) -> None:
    """On every day, last_week is a Sunday to Saturday that has just ended: at most a week lies between it and today."""
    week = [date.fromisoformat(text) for text in periods.last_week("last_week", day)]
    assert week[0].isoweekday() == 7
    assert len(week) == 7
    assert timedelta(days=1) <= day - week[-1] <= timedelta(days=7)


@given(DAYS, st.integers(1, 400))
def test_previous_days_end_where_last_days_begin(day: date, count: int) -> None:
    """previous_X_days and last_X_days together are the 2X days that end yesterday, without gap or overlap."""
    together = resolve(f"previous_{count}_days", day) + resolve(f"last_{count}_days", day)
    assert together == resolve(f"last_{2 * count}_days", day)


def test_own_periods_are_added_to_a_copy() -> None:
    """A registry with periods of one's own knows both, and the one it came from is unchanged."""
    own = DEFAULT_PERIODS.extended({"month_([0-9]{2})": lambda match, today: [f"{today.year}-{match[1]}-01"]})
    assert resolve("month_07", known=own) == ["2024-07-01"]
    assert resolve("today", known=own) == ["2024-03-01"]
    assert len(own) == len(DEFAULT_PERIODS) + 1
    with pytest.raises(InvalidJob, match="unknown period"):
        resolve("month_07")


def test_own_periods_win() -> None:
    """A period of one's own wins over a built-in one that matches too, whether by its pattern or by another."""
    own = DEFAULT_PERIODS.extended({"today": lambda match, today: ["a"], "last_7_days": lambda match, today: ["b"]})
    assert resolve("today", known=own) == ["a"]
    assert resolve("last_7_days", known=own) == ["b"]
    assert len(resolve("last_6_days", known=own)) == 6


@pytest.mark.parametrize("dates", [[], None, [date(2024, 1, 1)]])
def test_own_period_without_dates(dates: Any) -> None:
    """A period of one's own that gives no dates, or no texts, is refused."""
    own = DEFAULT_PERIODS.extended({"odd": lambda match, today: dates})
    with pytest.raises(InvalidJob, match="expected its function to give dates as text"):
        resolve("odd", known=own)


@pytest.mark.parametrize("pattern", ["(", 7])
def test_own_period_needs_a_pattern(pattern: Any) -> None:
    """A registry refuses a pattern that is no regular expression."""
    with pytest.raises(ConfigError):
        DEFAULT_PERIODS.extended({pattern: lambda match, today: []})


def test_own_period_needs_a_function() -> None:
    """A registry refuses what it cannot call."""
    with pytest.raises(ConfigError, match="a function of the match"):
        DEFAULT_PERIODS.extended({"odd": "module:function"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "job",
    [
        {"st_date": "2024-02-28", "en_date": "2024-03-01"},
        {"st_date": "2024-02-28", "en_date": "2024-03-01", "period": ""},
        {"st_date": "2024-02-28", "en_date": "2024-03-01", "date_list": None},
        {"period": "2024-02-28..2024-03-01"},
        {"period": "2024-02-28..2024-03-01", "st_date": None, "en_date": ""},
    ],
)
def test_exact_range(job: dict[str, Any]) -> None:
    """st_date with en_date is the same as their range as a period: both days and those between them."""
    assert dates_of(job) == [["2024-02-28", "2024-02-29", "2024-03-01"]]
    assert dates_of({**job, "isolate_days": True}) == [["2024-02-28"], ["2024-02-29"], ["2024-03-01"]]


def test_dates_do_their_work_once() -> None:
    """What asked for dates is taken out of the job; everything else stays."""
    job = {"a": 1, "period": "today", "st_date": None, "en_date": None, "isolate_day": False, "timezone": "UTC"}
    assert list(job_dates(job, FRIDAY, DEFAULT_PERIODS).payloads()) == [
        {"a": 1, "timezone": "UTC", "date_list": ["2024-03-01"]}
    ]


def test_no_dates() -> None:
    """A job that asks for no dates keeps its own date_list, and says which flag for days found none."""
    job = {"a": 1, "date_list": ["2001-01-01", "2001-01-02"], "isolate_days": False, "period": None}
    dates = job_dates(job, FRIDAY, DEFAULT_PERIODS)
    assert list(dates.payloads()) == [{"a": 1, "date_list": ["2001-01-01", "2001-01-02"]}]
    assert dates.idle_flags == ()
    idle = job_dates({"a": 1, "isolate_days": True, "isolate_day": "no"}, FRIDAY, DEFAULT_PERIODS)
    assert (list(idle.payloads()), idle.idle_flags) == ([{"a": 1}], ("isolate_days",))


@pytest.mark.parametrize("flag", ["isolate_day", "isolate_days"])
def test_a_list_of_dates_is_isolated_as_a_period_is(flag: str) -> None:
    """Each date of the job's own list is a task, in the order of the list; one text is a list of one."""
    job = {"a": 1, "date_list": ["2001-01-02", "2001-01-01"], flag: True}
    assert list(job_dates(job, FRIDAY, DEFAULT_PERIODS).payloads()) == [
        {"a": 1, "date_list": ["2001-01-02"]},
        {"a": 1, "date_list": ["2001-01-01"]},
    ]
    assert dates_of({"date_list": "2001-01-01", flag: True}) == [["2001-01-01"]]


@pytest.mark.parametrize(
    ("job", "path"),
    [
        ({"st_date": "2024-01-01"}, "job.st_date"),
        ({"en_date": "2024-01-01"}, "job.en_date"),
        ({"st_date": "2024-01-02", "en_date": "2024-01-01"}, "job.en_date"),
        ({"st_date": "1824-01-02", "en_date": "2024-01-01"}, "job.en_date"),
        ({"st_date": "2024-02-30", "en_date": "2024-03-01"}, "job.st_date"),
        ({"st_date": "20240228", "en_date": "2024-03-01"}, "job.st_date"),
        ({"st_date": "2024-02-28", "en_date": 20240301}, "job.en_date"),
        ({"st_date": "2024-02-28", "en_date": "2024-03-01", "period": "today"}, "job.st_date"),
        ({"st_date": "2024-02-28", "en_date": "2024-03-01", "date_list": ["2024-01-01"]}, "job.date_list"),
        ({"period": "today", "date_list": ["2024-01-01"]}, "job.date_list"),
        ({"period": "today", "isolate_days": "maybe"}, "job.isolate_days"),
        ({"date_list": {"2024-01-01": None}, "isolate_days": True}, "job.date_list"),
        ({"date_list": ["2024-01-01", 7], "isolate_days": True}, "job.date_list"),
        ({"period": 7}, "job.period"),
    ],
)
def test_refused_dates(job: dict[str, Any], path: str) -> None:
    """Dates that are half given, given twice, impossible or in disorder are refused where they stand."""
    with pytest.raises(InvalidJob) as refusal:
        dates_of(job)
    assert refusal.value.path == path


@pytest.mark.parametrize(
    ("own", "configured", "expected"),
    [
        ("Pacific/Auckland", "UTC", "2024-03-02"),
        (None, "America/New_York", "2024-03-01"),
        ("", "Pacific/Auckland", "2024-03-02"),
        (None, None, "2024-03-01"),
        ("UTC", "Pacific/Auckland", "2024-03-01"),
        ("Pacific/Kiritimati", None, "2024-03-02"),
    ],
)
def test_today_is_a_matter_of_the_zone(own: str | None, configured: str | None, expected: str) -> None:
    """Today is the date in the job's zone, else in the configured one, else in UTC."""
    now = datetime(2024, 3, 1, 20, 30, tzinfo=timezone.utc)
    assert job_today(own, configured, now).isoformat() == expected
    assert job_today(own, configured, now.astimezone(timezone(timedelta(hours=9)))).isoformat() == expected


@pytest.mark.parametrize("zone", ["Europe/Olso", "europe", "../UTC", "Europe", 7, ["UTC"], "\0"])
def test_unknown_zone_of_a_job(zone: Any) -> None:
    """A zone that does not exist is refused, in the job as in the configuration."""
    now = datetime(2024, 3, 1, tzinfo=timezone.utc)
    with pytest.raises(InvalidJob) as refusal:
        job_today(zone, None, now)
    assert refusal.value.path == "job.timezone"
    with pytest.raises(ConfigError) as error:
        job_today(None, zone, now)
    assert error.value.key == "sosw.timezone"


def test_suggested_zone() -> None:
    """A mistyped zone gets a suggestion."""
    with pytest.raises(InvalidJob, match="did you mean 'Europe/Oslo'"):
        job_today("Europe/Olso", None, datetime(2024, 3, 1, tzinfo=timezone.utc))


def test_naive_time() -> None:
    """A time without a zone is a mistake of the caller, not of the job."""
    with pytest.raises(ValueError, match="know its zone"):
        job_today(None, None, datetime(2024, 3, 1))  # noqa: DTZ001
