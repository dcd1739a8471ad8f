"""When scheduled jobs are due: pure arithmetic on planned times, the same in every process that does it.

Two shapes of schedule, both after `parse_schedule`: an `Interval` (its planned times are the multiples of its length
since 1970-01-01T00:00:00Z) and a `Crontab` (the wall clock of one time zone). No planned time depends on when a
process was started or last looked, so two beats plan the same ticks.

On days when the wall clock is changed a crontab follows the rule of Debian's cron:

- fixed times (neither minute nor hour begins with `*`): each planned time comes exactly once. One that the clock jumps
  over comes at the first instant after the gap; one that the clock shows twice comes at the first showing.
- running times (minute or hour begins with `*`, or every hour of the day is named): each minute that really passes and
  whose showing matches. An hour that the clock shows twice is planned twice, an hour it jumps over is not planned.

The library cronsim reads the five fields and walks the calendar. It is asked about naive wall-clock times only: its own
handling of changes of the clock loses runs where the change is half an hour (Lord Howe), and adds one where midnight
does not exist (Cairo).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from sosw_celery.core.exact import EXACT
from sosw_celery.errors import ConfigError

__all__ = ["Crontab", "Interval", "Schedule", "instant", "parse_schedule", "tick_job_id"]

SCHEDULE_EXPECTED = 'a number of seconds above 0, or a crontab of five fields as "*/15 3 * * mon-fri"'
ZONE_EXPECTED = "the name of a time zone, as Europe/Amsterdam"

#: Keeps planned times inside what a datetime can hold: one hundred years.
LONGEST_INTERVAL_S = 3_155_760_000

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

#: How far back to look for an earlier planned time: most schedules answer at the first step. The last one is as far as
#: cronsim looks for 29 February on a fifth Monday.
LOOK_BACK = tuple(timedelta(days=days) for days in (1, 32, 366, 366 * 9, 366 * 50))

#: The moment from which a new crontab is asked for its first planned time, to refuse one that has none.
PROBE = datetime(2000, 1, 1)  # noqa: DTZ001 - a time on a wall clock, not an instant

#: A crontab's fields in their order, with the lowest and the highest number of each.
FIELD_RANGES = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_month": (1, 31),
    "month_of_year": (1, 12),
    "day_of_week": (0, 6),
}


class Schedule(Protocol):
    """The planned times of one scheduled job, as instants in UTC."""

    def next_after(self, moment: datetime) -> datetime:
        """Return the first planned time later than `moment` (aware, any zone)."""

    def latest_at_or_before(self, moment: datetime) -> datetime | None:
        """Return the last planned time that is not later than `moment`; None when there never was one."""


@dataclass(frozen=True)
class Interval:
    """A planned time each `length_us` microseconds, counted from the epoch and not from a start."""

    length_us: int

    def next_after(self, moment: datetime) -> datetime:
        """Return the first planned time later than `moment` (aware, any zone)."""
        return EPOCH + (self._passed(moment) + 1) * self.length_us * MICROSECOND

    def latest_at_or_before(self, moment: datetime) -> datetime | None:
        """Return the last planned time that is not later than `moment`; None before 1970."""
        passed = self._passed(moment)
        return EPOCH + passed * self.length_us * MICROSECOND if passed >= 0 else None

    def _passed(self, moment: datetime) -> int:
        return (_utc(moment) - EPOCH) // MICROSECOND // self.length_us

    def __str__(self) -> str:
        return f"every {self.length_us / 1_000_000:g} s"


@dataclass(frozen=True)
class Crontab:
    """The planned times of a crontab on the wall clock of one time zone.

    Parameters:
        expression: Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday).
        zone_name: The zone whose wall clock counts.
        is_running: Whether the rule for running times holds on days of change, see the module.
        needs_both_days: Whether a day must match day of month AND day of week, as with Celery's `crontab(...)`. In the
            text form that holds only while one of the two begins with `*`; else either of them is enough, as in cron.
    """

    expression: str
    zone_name: str
    is_running: bool
    needs_both_days: bool = False

    def next_after(self, moment: datetime) -> datetime:
        """Return the first planned time later than `moment` (aware, any zone)."""
        # Planned times are whole seconds, so nothing lies between the floor and the moment.
        start = _utc(moment).replace(microsecond=0)
        return self._next_running(start) if self.is_running else self._next_fixed(start)

    def latest_at_or_before(self, moment: datetime) -> datetime | None:
        """Return the last planned time that is not later than `moment`; None when there was none in fifty years."""
        limit = _utc(moment)
        found = self._some_at_or_before(limit)
        # Nothing is planned after `end` and up to the limit, and planned times are at least a minute apart.
        end = limit
        while found is not None and end - found >= MINUTE:
            middle = found + (end - found) / 2
            later = self.next_after(middle)
            if later <= limit:
                found = later
            else:
                end = middle
        return found

    def _some_at_or_before(self, limit: datetime) -> datetime | None:
        for span in LOOK_BACK:
            planned = self.next_after(limit - span)
            if planned <= limit:
                return planned
        return None

    def _next_running(self, start: datetime) -> datetime:
        """Walk the calendar from one change of the clock to the next, with one offset at a time."""
        zone = ZoneInfo(self.zone_name)
        after, offset = start, _offset(zone, start + SECOND)
        while True:
            planned = next(self._walk(_naive(after + offset))) - offset
            planned = planned.replace(tzinfo=timezone.utc)
            change = _first_change(zone, after + SECOND, planned)
            if change is None:
                return planned
            # The instant of the change itself may be a planned time, on the new offset.
            after, offset = change - SECOND, _offset(zone, change)

    def _next_fixed(self, start: datetime) -> datetime:
        """Walk the wall clock as if it never changed; the first showing that is still to come is the planned time."""
        zone = ZoneInfo(self.zone_name)
        walk = self._walk(_naive(start.astimezone(zone)))
        while True:
            planned = _first_showing(zone, next(walk))
            if planned > start:
                return planned

    def _walk(self, after: datetime) -> CronSim:
        walk = CronSim(self.expression, after)
        walk.day_and = walk.day_and or self.needs_both_days
        return walk

    def __str__(self) -> str:
        return f"{self.expression} ({self.zone_name})"


def parse_schedule(value: Any, timezone: str, key: str) -> Schedule:
    """Return the schedule that an entry of the configuration states.

    Parameters:
        value: Seconds (a number above 0, or a timedelta), a crontab text of five fields, or one of Celery's `crontab`
            and `schedule` objects. (They are known by their attributes: this layer does without Celery.)
        timezone: Name of the zone whose wall clock a crontab follows.
        key: Dotted path of the entry; the schedule stands under it as `schedule`, the zone as `timezone`.

    Raises:
        ConfigError: The value is none of these, the crontab has no planned time at all, or the zone is unknown.
    """
    _check_zone(timezone, f"{key}.timezone")
    place = f"{key}.schedule"
    if isinstance(value, str):
        return _checked(_from_text(value, timezone, place), value, place)
    fields = _celery_fields(value)
    if fields is not None:
        return _checked(_from_celery(value, fields, timezone), value, place)
    return _interval(value, place)


def instant(now: Decimal) -> datetime:
    """Return the time in UTC, of seconds since the epoch as the clock of tasks gives them."""
    return EPOCH + timedelta(microseconds=int(EXACT.scaleb(now, 6)))


def tick_job_id(name: str, planned: datetime) -> str:
    """Return the job id of one tick: the entry's name and its planned time in UTC, to the second or finer."""
    moment = _naive(_utc(planned))
    return f"{name}@{moment.isoformat()}Z"


def _interval(value: Any, place: str) -> Interval:
    length = getattr(value, "run_every", value)  # Celery's `schedule` holds its timedelta there
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ConfigError(place, value, SCHEDULE_EXPECTED)
    if not 0 < seconds <= LONGEST_INTERVAL_S:
        raise ConfigError(place, value, f"seconds above 0 and at most {LONGEST_INTERVAL_S}")
    return Interval(max(1, round(seconds * 1_000_000)))


def _from_text(text: str, zone_name: str, place: str) -> Crontab:
    fields = text.split()
    if len(fields) != len(FIELD_RANGES):
        raise ConfigError(place, text, SCHEDULE_EXPECTED)
    try:
        hours = CronSim(text, PROBE).hours
    except CronSimError as error:
        raise ConfigError(place, text, f"{SCHEDULE_EXPECTED} ({_lower_first(str(error))})") from None
    is_running = fields[0].startswith("*") or fields[1].startswith("*") or _is_full("hour", hours)
    return Crontab(" ".join(fields), zone_name, is_running)


def _from_celery(value: Any, fields: list[Collection[int]], zone_name: str) -> Crontab:
    """Convert the expanded numbers: Celery's syntax differs from cron's in details as `fri-mon`."""
    texts = [_field_text(name, numbers) for name, numbers in zip(FIELD_RANGES, fields, strict=True)]
    is_running = any(str(getattr(value, f"_orig_{name}", "")).startswith("*") for name in ("minute", "hour"))
    return Crontab(" ".join(texts), zone_name, is_running or texts[1] == "*", needs_both_days=True)


def _celery_fields(value: Any) -> list[Collection[int]] | None:
    fields = [getattr(value, name, None) for name in FIELD_RANGES]
    numbers: list[Collection[int]] = [field for field in fields if isinstance(field, (set, frozenset))]
    return numbers if len(numbers) == len(FIELD_RANGES) else None


def _field_text(name: str, numbers: Collection[int]) -> str:
    return "*" if _is_full(name, numbers) else ",".join(str(number) for number in sorted(numbers))


def _is_full(name: str, numbers: Collection[int]) -> bool:
    lowest, highest = FIELD_RANGES[name]
    return len(numbers) == highest - lowest + 1


def _checked(crontab: Crontab, value: Any, place: str) -> Crontab:
    """Refuse a crontab that is well formed and never due, as a fifth Monday on the 1st."""
    try:
        next(crontab._walk(PROBE))
    except (CronSimError, StopIteration):
        raise ConfigError(place, value, "a crontab of days that exist") from None
    return crontab


def _check_zone(name: str, place: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):  # not found is a KeyError, the name of a directory an OSError
        raise ConfigError(place, name, ZONE_EXPECTED) from None


def _first_showing(zone: ZoneInfo, wall_clock: datetime) -> datetime:
    """Return the first instant at which the zone's clock shows this time, or jumps over it."""
    planned = wall_clock.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
    if _naive(planned.astimezone(zone)) == wall_clock:
        return planned
    # In a gap, fold=1 reckons with the offset after the change, which gives an instant before it.
    earlier = wall_clock.replace(tzinfo=zone, fold=1).astimezone(timezone.utc)
    return _first_change(zone, earlier, planned) or planned


def _first_change(zone: ZoneInfo, first: datetime, last: datetime) -> datetime | None:
    """Return the first instant in (first, last] with another offset than at `first`, to the second.

    Looks once a day: no zone changes its clock and changes it back within one.
    """
    offset = _offset(zone, first)
    while first < last:
        step = min(first + DAY, last)
        if _offset(zone, step) != offset:
            return _bisect_change(zone, first, step)
        first = step
    return None


def _bisect_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    offset = _offset(zone, before)
    while after - before > SECOND:
        middle = before + ((after - before) // SECOND // 2) * SECOND
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None, fold=0)


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"a time with its zone is needed, got {moment!r}")
    return moment.astimezone(timezone.utc)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
