"""Scheduled jobs: what would be refused is told before its time, and what became of a tick after it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from sosw_celery.config.settings import Settings, load_settings
from sosw_celery.core.tasks.model import JobState, JobSummary
from sosw_celery.errors import ConfigError, InvalidJob, JobNotFound
from sosw_celery.services.scheduled_jobs import LastTick, last_tick, problem_of

NOW = datetime(2026, 11, 23, 10, 0, 30, tzinfo=timezone.utc)
JOB = {"lambda_name": "resize", "isolate_kinds": True, "kinds": ["a", "b"]}


def broken_period(match: object, today: object) -> list[str]:
    """Fail as code does."""
    return [{}["absent"]]  # type: ignore[misc]


PERIODS: dict[str, Any] = {"broken": broken_period, "absent": "no_such_module_at_all:days"}


def settings_with(name: str = "nightly", schedule: Any = "0 3 * * *", **job: Any) -> Settings:
    """Return settings with one scheduled job."""
    return load_settings(
        {
            "labourers": {"resize": {}},
            "job_schema": {"chunkable_attrs": ["kind"]},
            "custom_period_patterns": {key: value for key, value in PERIODS.items() if key == job.get("period")},
            "scheduled_jobs": {name: {"schedule": schedule, "job": {**JOB, **job}}},
        }
    )


def job_of(*known: JobSummary) -> Any:
    """Return what finds these jobs, and no others."""

    def get(job_id: str) -> JobSummary:
        for job in known:
            if job.job_id == job_id:
                return job
        raise JobNotFound(job_id)

    return get


def test_a_job_that_would_be_taken_has_no_problem() -> None:
    """Nothing is told of it."""
    assert problem_of(settings_with(), "nightly", NOW) is None


@pytest.mark.parametrize(
    ("name", "job", "reason"),
    [
        ("nightly", {"period": "last_month"}, "job.period: "),
        ("nightly", {"isolate_kinds": "maybe"}, "job.isolate_kinds: "),
        ("nightly", {"kinds": ["a", None]}, "job.kinds"),
        ("nightly", {"lambda_name": "resise"}, "did you mean 'resize'?"),
        ("night#ly", {}, "job.job_id: expected a text without '#'"),
        ("n" * 600, {}, "job.job_id: expected at most 512 bytes"),
        ("nightly", {"job_schema_name": "absent"}, "absent"),
        ("nightly", {"period": "broken"}, "KeyError: 'absent', at test_scheduled_jobs.py line "),
    ],
)
def test_a_job_that_would_be_refused_is_told_with_its_reason(name: str, job: dict[str, Any], reason: str) -> None:
    """In one line that names the entry; whatever the job's values or code of one's own make of it."""
    problem = problem_of(settings_with(name, **job), name, NOW)
    assert problem is not None
    assert problem.key == f"sosw.scheduled_jobs.{name}.job"
    assert reason in problem.expected
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("schedule", "job", "key"),
    [
        ("0 3 * *", {}, "sosw.scheduled_jobs.nightly.schedule"),
        (60, {"job_id": "own"}, "sosw.scheduled_jobs.nightly.job.job_id"),
        (60, {"lambda_name": None}, "sosw.scheduled_jobs.nightly.job"),
        (60, {"period": "absent"}, "sosw.custom_period_patterns.absent"),
    ],
)
def test_what_is_wrong_with_the_entry_itself_is_told_by_its_own_key(
    schedule: Any, job: dict[str, Any], key: str
) -> None:
    """As beat refuses it when it starts, and as the Scheduler does."""
    problem = problem_of(settings_with(schedule=schedule, **job), "nightly", NOW)
    assert isinstance(problem, ConfigError)
    assert problem.key == key


def test_a_big_job_is_looked_at_as_far_as_is_asked() -> None:
    """Beat does not chunk millions before it starts; what is wrong behind that shows when it is due."""
    kinds = ["fine", "x" * 500_000]
    settings = settings_with(kinds=kinds)
    assert problem_of(settings, "nightly", NOW, at_most=1) is None
    problem = problem_of(settings, "nightly", NOW)
    assert problem is not None
    assert isinstance(problem.__cause__, InvalidJob)


LAST, NEXT = datetime(2026, 11, 23, 3, tzinfo=timezone.utc), datetime(2026, 11, 24, 3, tzinfo=timezone.utc)
TICK = "nightly@2026-11-23T03:00:00Z"


@pytest.mark.parametrize(
    ("job", "known", "state", "error"),
    [
        ({}, [JobSummary(TICK, "resize", JobState.COMPLETED)], "completed", ""),
        ({}, [JobSummary(TICK, "resize", JobState.REFUSED, error="job.period: why")], "refused", "job.period: why"),
        ({}, [], "not submitted", ""),
        ({"lambda_name": "resise"}, [], "refused", "did you mean 'resize'?"),
    ],
)
def test_what_became_of_the_last_tick(job: dict[str, Any], known: list[JobSummary], state: str, error: str) -> None:
    """The table of jobs knows; a job that was refused before it got there is tried again here."""
    found = last_tick(settings_with(**job), "nightly", NOW, job_of(*known))
    assert (found.planned_at, found.next_at, found.job_id) == (LAST, NEXT, TICK)
    assert found.state == state
    assert error in found.error
    assert bool(error) is bool(found.error)


def test_an_entry_that_cannot_be_planned_says_so() -> None:
    """It stands in the list all the same."""
    found = last_tick(settings_with(schedule="0 3 * *"), "nightly", NOW, job_of())
    assert found == LastTick("nightly", None, None, state="refused", error=found.error)
    assert "sosw.scheduled_jobs.nightly.schedule" in found.error
