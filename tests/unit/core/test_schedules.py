"""When scheduled jobs are due, above all on the days when clocks are changed."""

from __future__ import annotations

import math
import pickle
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab
from celery.schedules import schedule as celery_interval
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from sosw_celery.core.schedules import Crontab, Interval, Schedule, parse_schedule, tick_job_id
from sosw_celery.errors import ConfigError

KEY = "sosw.scheduled_jobs.nightly"

#: Zones and the local days whose clocks are changed, one forward and one backward each.
CHANGES = [
    ("Europe/Amsterdam", date(2026, 3, 29)),
    ("Europe/Amsterdam", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),  # half an hour
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Africa/Cairo", date(2026, 4, 24)),  # midnight does not exist
    ("Africa/Cairo", date(2026, 10, 29)),
    ("America/Havana", date(2026, 3, 8)),
    ("America/Havana", date(2026, 11, 1)),  # 00:00 to 00:59 twice
    ("America/Santiago", date(2026, 9, 6)),
    ("America/Santiago", date(2026, 4, 4)),
]

RUNNING = ["* * * * *", "*/15 * * * *", "0 */2 * * *", "0 */5 * * *", "*/30 2 * * *", "10 */3 * * 0,6", "30 * * * sun"]
FIXED = ["30 2 * * *", "0 0 * * *", "15 1 * * *", "0,30 1-3 * * *", "45 23 * * *", "5 2 * * sun", "59 1 29 3 *"]


def utc(text: str) -> datetime:
    """Return the instant that an ISO text states in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def ticks(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """Return every planned time in (start, end)."""
    found = [schedule.next_after(start)]
    while found[-1] < end:
        found.append(schedule.next_after(found[-1]))
    return found[:-1]


def local_ticks(expression: str, zone: str, day: date) -> list[str]:
    """Return the planned times of one local day, as the wall clock shows them."""
    start = datetime.combine(day, datetime.min.time(), ZoneInfo(zone)) - timedelta(seconds=1)
    schedule = parse_schedule(expression, zone, KEY)
    found = ticks(schedule, start, start + timedelta(hours=27))
    return [f"{tick:%H:%M %Z}" for tick in (tick.astimezone(ZoneInfo(zone)) for tick in found) if tick.date() == day]


def minutes(start: datetime, end: datetime) -> list[datetime]:
    """Return every whole minute in (start, end)."""
    return [start + timedelta(minutes=n) for n in range(1, int((end - start).total_seconds() // 60))]


def window(zone: str, day: date) -> tuple[datetime, datetime]:
    """Return three days around a change, as instants in UTC."""
    middle = datetime.combine(day, datetime.min.time(), ZoneInfo(zone)).astimezone(timezone.utc)
    return middle - timedelta(days=1), middle + timedelta(days=2)


@pytest.mark.parametrize(
    ("expression", "zone", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Amsterdam", date(2026, 3, 29), ["03:00 CEST"]),  # 02:30 is jumped over
        ("30 2 * * *", "Europe/Amsterdam", date(2026, 10, 25), ["02:30 CEST"]),  # shown twice: the first
        ("0,30 2 * * *", "Europe/Amsterdam", date(2026, 3, 29), ["03:00 CEST"]),  # both at one instant: one tick
        ("0 3 * * *", "Europe/Amsterdam", date(2026, 3, 29), ["03:00 CEST"]),
        ("0 2,3 * * *", "Europe/Amsterdam", date(2026, 3, 29), ["03:00 CEST"]),
        ("0 * * * *", "Europe/Amsterdam", date(2026, 3, 29), None),
        ("0 */4 * * *", "Europe/Amsterdam", date(2026, 10, 25), None),
        ("*/30 2 * * *", "Europe/Amsterdam", date(2026, 3, 29), []),  # that hour does not pass
        (
            "*/30 2 * * *",
            "Europe/Amsterdam",
            date(2026, 10, 25),
            ["02:00 CEST", "02:30 CEST", "02:00 CET", "02:30 CET"],
        ),
        ("30 1 * * *", "America/New_York", date(2026, 11, 1), ["01:30 EDT"]),
        ("30 2 * * *", "America/New_York", date(2026, 3, 8), ["03:00 EDT"]),
        ("0 0 * * *", "Africa/Cairo", date(2026, 4, 24), ["01:00 EEST"]),
        ("15 2 * * *", "Australia/Lord_Howe", date(2026, 10, 4), ["02:30 +11"]),
        ("45 1 * * *", "Australia/Lord_Howe", date(2026, 4, 5), ["01:45 +11"]),
        ("30 2 * * *", "UTC", date(2026, 3, 29), ["02:30 UTC"]),
    ],
)
def test_days_of_change_by_example(expression: str, zone: str, day: date, expected: list[str] | None) -> None:
    """A fixed time comes once on a day of change, an hourly one as often as hours pass."""
    found = local_ticks(expression, zone, day)

    if expected is None:
        hours = {"0 * * * *": 23, "0 */4 * * *": 6}[expression]
        assert len(found) == hours
    else:
        assert found == expected


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("expression", RUNNING)
def test_running_times_follow_the_minutes_that_pass(expression: str, zone: str, day: date) -> None:
    """A running crontab has no hole and no double: its planned times are the passing minutes whose showing matches."""
    start, end = window(zone, day)
    reader = CronSim(expression, datetime(2026, 1, 1))  # noqa: DTZ001 - read for its fields only

    def matches(moment: datetime) -> bool:
        shown = moment.astimezone(ZoneInfo(zone))
        return shown.minute in reader.minutes and shown.hour in reader.hours and reader.match_day(shown.date())

    expected = [moment for moment in minutes(start, end) if matches(moment)]
    assert ticks(parse_schedule(expression, zone, KEY), start, end) == expected


@pytest.mark.parametrize(("zone", "day"), CHANGES)
def test_quarters_have_no_hole_in_autumn_and_spring(zone: str, day: date) -> None:
    """`*/15` comes every 15 minutes of real time, whatever the wall clock does (Celery's own skips an hour)."""
    start, end = window(zone, day)

    found = ticks(parse_schedule("*/15 * * * *", zone, KEY), start, end)

    assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=15)}


@pytest.mark.parametrize(("zone", "day"), CHANGES)
@pytest.mark.parametrize("expression", FIXED)
def test_fixed_times_come_once(expression: str, zone: str, day: date) -> None:
    """Each fixed time of the calendar is one planned time: at its first showing, or at the end of the gap."""
    start, end = window(zone, day)
    wall, last = (moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in (start, end))
    walk, expected = CronSim(expression, wall), set()
    while (shown := next(walk)) < last:
        showings = [m for m in minutes(start, end) if m.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == shown]
        later = [m for m in minutes(start, end) if m.astimezone(ZoneInfo(zone)).replace(tzinfo=None) > shown]
        expected.add(min(showings or later))

    assert ticks(parse_schedule(expression, zone, KEY), start, end) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(
    expression=st.sampled_from([*RUNNING, *FIXED, "0 12 29 2 *", "0 0 1 1 *", "30 2 l * *", "0 9 * * mon#1"]),
    zone_and_day=st.sampled_from(CHANGES),
    seconds=st.floats(-100_000, 200_000),
)
def test_looking_back_agrees_with_looking_ahead(
    expression: str, zone_and_day: tuple[str, date], seconds: float
) -> None:
    """`latest_at_or_before` is a planned time with no other one between it and the moment."""
    zone, day = zone_and_day
    schedule = parse_schedule(expression, zone, KEY)
    moment = window(zone, day)[0] + timedelta(days=1, seconds=seconds)

    latest = schedule.latest_at_or_before(moment)

    assert latest is not None
    assert latest <= moment < schedule.next_after(latest)
    assert schedule.next_after(latest - timedelta(microseconds=1)) == latest
    assert schedule.latest_at_or_before(latest) == latest


def test_moments_of_any_zone_give_the_same_answer() -> None:
    """Only the instant counts, not the zone in which the caller states it; the answer is in UTC."""
    schedule = parse_schedule("30 2 * * *", "Europe/Amsterdam", KEY)
    moment = utc("2026-10-25T01:10")  # shown as 02:10 for the second time
    other = moment.astimezone(ZoneInfo("Europe/Amsterdam"))

    assert schedule.next_after(moment) == schedule.next_after(other) == utc("2026-10-26T01:30")
    assert schedule.latest_at_or_before(moment) == schedule.latest_at_or_before(other) == utc("2026-10-25T00:30")
    assert schedule.next_after(other).tzinfo is timezone.utc


@pytest.mark.parametrize("schedule", [Interval(60_000_000), Crontab("0 3 * * *", "UTC", False)])
def test_naive_moments_are_refused(schedule: Schedule) -> None:
    """A moment without a zone would be read in the zone of the machine, so it is an error."""
    with pytest.raises(ValueError, match="with its zone"):
        schedule.next_after(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "moment", "after", "before"),
    [
        (3600, "2026-03-29T00:59:59.500", "2026-03-29T01:00", "2026-03-29T00:00"),
        (3600, "2026-03-29T01:00", "2026-03-29T02:00", "2026-03-29T01:00"),
        (0.25, "2026-03-29T01:00:00.300", "2026-03-29T01:00:00.500", "2026-03-29T01:00:00.250"),
        (timedelta(days=1), "2026-03-29T12:00", "2026-03-30", "2026-03-29"),
        (celery_interval(90.0), "1970-01-01T00:02", "1970-01-01T00:03", "1970-01-01T00:01:30"),
    ],
)
def test_intervals_are_counted_from_the_epoch(value: Any, moment: str, after: str, before: str) -> None:
    """Two beats that were started at different times plan the same ticks of an interval."""
    schedule = parse_schedule(value, "Europe/Amsterdam", KEY)

    assert schedule.next_after(utc(moment)) == utc(after)
    assert schedule.latest_at_or_before(utc(moment)) == utc(before)


def test_an_interval_has_no_planned_time_before_the_epoch() -> None:
    """Before 1970 nothing was planned."""
    assert Interval(1_000_000).latest_at_or_before(utc("1969-12-31T23:59:59")) is None


def test_a_crontab_that_is_rare_is_found_years_back() -> None:
    """29 February on a fifth Monday is looked for as far as it takes."""
    schedule = parse_schedule("0 0 * 2 mon#5", "UTC", KEY)

    assert schedule.next_after(utc("2026-01-01")) == utc("2044-02-29")
    assert schedule.latest_at_or_before(utc("2026-01-01")) == utc("2016-02-29")


@pytest.mark.parametrize(
    ("given", "text", "is_running", "needs_both_days"),
    [
        ("*/15 3 * * mon-fri", "*/15 3 * * mon-fri", True, False),
        ("  0\t3 * *  MON ", "0 3 * * MON", False, False),
        ("0 0-23 * * *", "0 0-23 * * *", True, False),  # every hour, spelled out
        ("0-59/15 1-22 * * *", "0-59/15 1-22 * * *", False, False),
        (crontab(), "* * * * *", True, True),
        (crontab(minute="*/20", hour=3), "0,20,40 3 * * *", True, True),
        (crontab(minute=0, hour="*/4"), "0 0,4,8,12,16,20 * * *", True, True),
        (crontab(minute=0, hour=list(range(24))), "0 * * * *", True, True),
        (crontab(minute=5, hour=[1, 2], day_of_week="fri-mon"), "5 1,2 * * 0,1,5,6", False, True),
        (crontab("0", "0", day_of_month="2-30/7", month_of_year="jan"), "0 0 2,9,16,23,30 1 *", False, True),
    ],
)
def test_crontabs_in_both_forms(given: Any, text: str, is_running: bool, needs_both_days: bool) -> None:
    """A crontab text and Celery's `crontab(...)` become the same kind of schedule."""
    assert parse_schedule(given, "Europe/Amsterdam", KEY) == Crontab(
        text, "Europe/Amsterdam", is_running, needs_both_days
    )


def test_days_of_month_and_of_week() -> None:
    """Both named: in a text either is enough, as in cron; in Celery's form both must match, as in Celery."""
    start = utc("2026-06-01T12:00")  # a Monday
    text = parse_schedule("0 0 13 * fri", "UTC", KEY)
    celery = parse_schedule(crontab("0", "0", day_of_month=13, day_of_week="fri"), "UTC", KEY)

    assert text.next_after(start) == utc("2026-06-05")
    assert celery.next_after(start) == utc("2026-11-13")


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -0.5,
        True,
        None,
        math.nan,
        math.inf,
        10**400,
        3_155_760_001,
        timedelta(0),
        timedelta(days=-1),
        "60",
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "61 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "0 0 * * fri-mon",
        "*/0 * * * *",
        "a b c d e",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        "* * */20 * 1L",
        {"minute": 0},
        [60],
        object(),
    ],
)
def test_bad_schedules_are_refused_with_their_key(value: Any) -> None:
    """Anything that is no schedule, or never due, is a ConfigError that names the place."""
    with pytest.raises(ConfigError) as caught:
        parse_schedule(value, "UTC", KEY)

    assert caught.value.key == f"{KEY}.schedule"
    assert "expected " in str(caught.value)


@pytest.mark.parametrize("zone", ["Europe/Amsterdan", "", "Europe", "../etc/passwd", "/etc/localtime", None, 7])
def test_bad_zones_are_refused_with_their_key(zone: Any) -> None:
    """An unknown zone is a ConfigError that names the place."""
    with pytest.raises(ConfigError) as caught:
        parse_schedule("0 3 * * *", zone, KEY)

    assert caught.value.key == f"{KEY}.timezone"


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (utc("2026-03-29T01:00"), "nightly@2026-03-29T01:00:00Z"),
        (utc("2026-03-29T01:00:00.500"), "nightly@2026-03-29T01:00:00.500000Z"),
        (datetime(2026, 3, 29, 3, tzinfo=ZoneInfo("Europe/Amsterdam")), "nightly@2026-03-29T01:00:00Z"),
    ],
)
def test_job_ids_of_ticks(planned: datetime, expected: str) -> None:
    """A tick's job id holds its entry's name and its planned time in UTC."""
    assert tick_job_id("nightly", planned) == expected


def test_ticks_of_an_ambiguous_hour_have_different_job_ids() -> None:
    """The two showings of 02:00 are two jobs."""
    schedule = parse_schedule("0 * * * *", "Europe/Amsterdam", KEY)

    found = {tick_job_id("hourly", tick) for tick in ticks(schedule, *window("Europe/Amsterdam", date(2026, 10, 25)))}

    assert len(found) == 24 + 25 + 24 - 1 - 1  # three days that have 73 hours, without the ends of the window


@pytest.mark.parametrize("value", [60, "*/15 3 * * mon-fri", crontab(hour="*/2")])
def test_schedules_are_values(value: Any) -> None:
    """Schedules compare, hash, pickle and print by what they say."""
    schedule = parse_schedule(value, "Europe/Amsterdam", KEY)

    assert pickle.loads(pickle.dumps(schedule)) == schedule == parse_schedule(value, "Europe/Amsterdam", KEY)
    assert len({schedule, parse_schedule(value, "Europe/Amsterdam", KEY)}) == 1
    assert "every 60 s" in str(schedule) or "(Europe/Amsterdam)" in str(schedule)
