"""The settings of jobs: `job_schema`, `job_schema_variants` and `scheduled_jobs`."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from sosw_celery.config.base import Section, ZoneName
from sosw_celery.core.chunking import parse_levels

__all__ = ["JobSchema", "ScheduledJob"]


class JobSchema(Section):
    """The levels of a job that can be chunked, outermost first."""

    #: Names (`"store"`), or pairs with options (`("city", {"plural": "cities"})`).
    chunkable_attrs: tuple[Any, ...] = ()

    @field_validator("chunkable_attrs", mode="before")
    @classmethod
    def _levels_can_be_read(cls, value: Any) -> tuple[Any, ...]:
        parse_levels(value, "")
        return tuple(value)


class ScheduledJob(Section):
    """A job that celery beat submits: `schedule` is seconds, a crontab text, or Celery's `crontab(...)`."""

    #: When: seconds, a crontab text of five fields, or Celery's `crontab(...)` or `schedule(...)`.
    schedule: Any
    #: What is submitted then, without a `job_id`: that is made of the entry's name and the planned time.
    job: dict[str, Any]
    #: Name of the zone whose wall clock a crontab follows; None takes that of the section.
    timezone: ZoneName | None = None
