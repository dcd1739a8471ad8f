"""From a job to the payloads of its tasks, by methods that a subclass may override, under their names in sosw.

They delegate to the core. A service that nobody has subclassed uses the core itself, which streams; where one of the
chunkers is overridden, its lists are taken instead.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

from sosw_celery import clock as system_clock
from sosw_celery.clock import Clock
from sosw_celery.config.places import found_at
from sosw_celery.config.settings import Settings
from sosw_celery.core import chunking
from sosw_celery.core.jobs import periods
from sosw_celery.core.jobs.submission import NAME_KEYS
from sosw_celery.errors import ConfigError

__all__ = ["Chunkers"]

logger = logging.getLogger(__name__)

Payload = dict[str, Any]

#: The periods that a subclass may override, and what their texts look like.
PERIOD_METHODS = {
    "last_x_days": r"last_([0-9]+)_days",
    "previous_x_days": r"previous_([0-9]+)_days",
    "x_days_back": r"([0-9]+)_days_back",
    "yesterday": r"yesterday",
    "today": r"today",
    "last_week": r"last_week",
}
#: The chunkers that a subclass may override.
CHUNKERS = ("chunk_dates", "chunk_job", "construct_job_data")


class Chunkers:
    """What a job becomes under the settings. Needs no server.

    A period of one's own is a method that takes the text of the period (or nothing) and returns dates; it is named for
    its pattern in `custom_period_patterns`: `{"last_[0-9]+_quarters": "last_x_quarters"}`.
    """

    def __init__(self, settings: Settings, *, clock: Clock = system_clock.now) -> None:
        self.settings = settings
        self._clock = clock

    def payloads(self, job: Mapping[str, Any]) -> Iterator[Payload]:
        """Return the payloads of the tasks that a job becomes, one by one, with all that a subclass overrides.

        Parameters:
            job: As `extract_job_from_payload` returns it.

        Raises:
            InvalidJob: It cannot become tasks.
        """
        chunking.check_is_job(job)
        if any(self._overrides(name) for name in CHUNKERS):
            return iter(self.construct_job_data({k: v for k, v in job.items() if k not in NAME_KEYS}))
        return chunking.chunk_job(job, self._levels(job), self._day(job), periods=self._periods(), warn=self._warn)

    # ---- jobs

    def extract_job_from_payload(self, event: Any) -> dict[str, Any]:
        """Return the job of an event, with the bare name of its labourer as `lambda_name`.

        Raises:
            InvalidJob: There is none in it.
        """
        return chunking.extract_job(event)

    def construct_job_data(self, job: Mapping[str, Any], skeleton: Mapping[str, Any] | None = None) -> list[Payload]:
        """Return the payloads that a job becomes: its dates first, then its levels. Override it to add a chunker."""
        chunking.check_is_job(job)
        dated = self.chunk_dates(dict(job), dict(skeleton or {}))
        return [payload for one in dated for payload in self.chunk_job(one)]

    def chunk_dates(self, job: Mapping[str, Any], skeleton: Mapping[str, Any] | None = None) -> list[Payload]:
        """Return the job with its period resolved: once, or once for each day that `isolate_days` asks for."""
        return chunking.chunk_dates(
            job, self._day(job), skeleton, periods=self._periods(), chunkable_attrs=self._levels(job)
        )

    def chunk_job(
        self, job: Mapping[str, Any], skeleton: Mapping[str, Any] | None = None, attr: str | None = None
    ) -> list[Payload]:
        """Return the payloads that the levels of a job give, from the level `attr` on."""
        return list(chunking.chunk_levels(job, self._levels(job), skeleton, attr, warn=self._warn))

    def needs_chunking(self, attr: str, data: Mapping[str, Any]) -> bool:
        """Return whether something in this node asks to split it at the level `attr`, or deeper."""
        return chunking.needs_chunking(attr, data, self._levels(data))

    def get_next_chunkable_attr(self, attr: str) -> str | None:
        """Return the level below `attr`, None below the last one."""
        return chunking.get_next_chunkable_attr(attr, chunking.parse_levels(self._levels({})))

    @staticmethod
    def get_index_from_list(attr: str, data: Any) -> int:
        """Return where an attribute stands in a list, in either spelling."""
        return chunking.get_index_from_list(attr, data)

    def validate_list_of_vals(self, data: Any) -> list[Any]:
        """Return the plain values of a list, or of a dict of None.

        Raises:
            InvalidJob: It is neither.
        """
        return chunking.validate_list_of_vals(data)

    # ---- periods; in a run, today is the day on which the job was accepted

    def last_x_days(self, pattern: str) -> list[str]:
        """Return the X dates that end yesterday, for `last_X_days`."""
        return periods.last_x_days(pattern, self._day({}))

    def previous_x_days(self, pattern: str) -> list[str]:
        """Return the X dates before those of `last_X_days`, for `previous_X_days`."""
        return periods.previous_x_days(pattern, self._day({}))

    def x_days_back(self, pattern: str) -> list[str]:
        """Return the one date X days ago, for `X_days_back`."""
        return periods.x_days_back(pattern, self._day({}))

    def yesterday(self, pattern: str = "yesterday") -> list[str]:
        """Return yesterday's date."""
        return periods.yesterday(pattern, self._day({}))

    def today(self, pattern: str = "today") -> list[str]:
        """Return today's date."""
        return periods.today(pattern, self._day({}))

    def last_week(self, pattern: str = "last_week") -> list[str]:
        """Return the last complete week before today, Sunday to Saturday."""
        return periods.last_week(pattern, self._day({}))

    # ---- inside

    def _levels(self, job: Mapping[str, Any]) -> Sequence[Any]:
        chunking.check_is_job(job)
        return chunking.choose_schema(job, self.settings.job_schema, self.settings.job_schema_variants)

    def _day(self, job: Mapping[str, Any]) -> date:
        """Return what periods count from: today in the job's time zone."""
        return self._date_of(job, self._clock())

    def _date_of(self, job: Mapping[str, Any], now: Decimal) -> date:
        chunking.check_is_job(job)
        moment = datetime.fromtimestamp(float(now), timezone.utc)
        return periods.job_today(job.get("timezone"), self.settings.timezone, moment)

    def _periods(self) -> periods.Periods:
        """Return the built-in periods, those that a subclass overrides, and those of the configuration."""
        own = {
            pattern: _from_method(getattr(self, name))
            for name, pattern in PERIOD_METHODS.items()
            if self._overrides(name)
        }
        custom = {
            pattern: self._custom_period(f"sosw.custom_period_patterns.{pattern}", value)
            for pattern, value in self.settings.custom_period_patterns.items()
        }
        return periods.DEFAULT_PERIODS.extended({**own, **custom})

    def check_periods(self) -> None:
        """Make sure that every custom period has its function, before a job needs it.

        Raises:
            ConfigError: One has none, or its pattern is no regular expression.
        """
        self._periods()

    def _custom_period(self, key: str, value: Callable[..., list[str]] | str) -> periods.PeriodFunction:
        if not isinstance(value, str):
            return value
        if ":" in value:
            function: periods.PeriodFunction = found_at(key, value, "a function that can be imported")
            return function
        if not hasattr(self, value):
            raise ConfigError(key, value, f"a method of {type(self).__name__}; scheduler_class names the class")
        return _from_method(getattr(self, value))

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Chunkers, name)

    def _warn(self, warning: str) -> None:
        logger.warning("job: %s", warning)


def _from_method(method: Callable[..., list[str]]) -> periods.PeriodFunction:
    """Return a method of sosw's kind, which takes the text of a period or nothing, as a function of the registry."""
    takes_text = bool(inspect.signature(method).parameters)
    return lambda match, today: method(match.string) if takes_text else method()
