"""Scheduled jobs, before their time comes and after it: whether they would be taken, and what became of them.

A tick is one job, its id follows from the entry's name and the planned time: so the table of jobs knows of every tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sosw_celery.config.places import reason_of
from sosw_celery.config.settings import Settings
from sosw_celery.core.jobs.plan import check_job_id
from sosw_celery.core.schedules import Schedule, parse_schedule, tick_job_id
from sosw_celery.core.tasks.model import JobSummary
from sosw_celery.errors import ConfigError, JobNotFound
from sosw_celery.services.preview import Chunker

__all__ = ["LastTick", "last_tick", "plan_of", "problem_of"]

#: States of a tick that the table of jobs does not know.
REFUSED, NOT_SUBMITTED = "refused", "not submitted"


@dataclass(frozen=True)
class LastTick:
    """What became of an entry's last tick.

    Parameters:
        planned_at, next_at: When it was due, and when the next one is; None: there was none, or there is no plan.
        state: That of its job; `refused` before it became one; `not submitted` while no beat has submitted it.
        error: Why it was refused.
    """

    name: str
    planned_at: datetime | None
    next_at: datetime | None
    job_id: str = ""
    state: str = "-"
    error: str = ""


def plan_of(settings: Settings, name: str) -> Schedule:
    """Return the planned times of an entry of `scheduled_jobs`.

    Raises:
        ConfigError: It cannot be planned, or has no job to submit; names the key.
    """
    key = f"sosw.scheduled_jobs.{name}"
    entry = settings.scheduled_jobs[name]
    if not isinstance(entry.job.get("lambda_name"), str):
        raise ConfigError(f"{key}.job", entry.job, "a job with its lambda_name")
    if "job_id" in entry.job:
        raise ConfigError(f"{key}.job.job_id", entry.job["job_id"], "no job_id: each tick gets its own")
    return parse_schedule(entry.schedule, entry.timezone or settings.timezone, key)


def problem_of(settings: Settings, name: str, now: datetime, at_most: int | None = None) -> ConfigError | None:
    """Return what is wrong with an entry, or why its job would be refused if it were due now, which is chained.

    Parameters:
        at_most: Tasks of the job that are looked at; None: all of them.
    """
    try:
        plan_of(settings, name)
        job = {**settings.scheduled_jobs[name].job, "job_id": check_job_id(tick_job_id(name, now))}
        _, tasks = Chunker(settings).checked(job)
        for _ in islice(tasks, at_most):
            pass
    except ConfigError as problem:
        return problem
    except Exception as problem:  # noqa: BLE001  # periods and chunkers of one's own are code, and can fail in any way
        reason = str(problem) if isinstance(problem, ValueError) else reason_of(problem)
        shown = settings.scheduled_jobs[name].job
        error = ConfigError(f"sosw.scheduled_jobs.{name}.job", shown, f"a job that can become tasks ({reason})")
        error.__cause__ = problem
        return error
    return None


def last_tick(settings: Settings, name: str, now: datetime, job_of: Callable[[str], JobSummary]) -> LastTick:
    """Return what became of the last tick of an entry.

    Parameters:
        job_of: Returns where the job of an id stands; raises JobNotFound when there is none.
    """
    try:
        plan = plan_of(settings, name)
    except ConfigError as problem:
        return LastTick(name, None, None, state=REFUSED, error=str(problem))
    planned_at, next_at = plan.latest_at_or_before(now), plan.next_after(now)
    if planned_at is None:
        return LastTick(name, None, next_at)
    job_id = tick_job_id(name, planned_at)
    try:
        job = job_of(job_id)
    except JobNotFound:
        found = problem_of(settings, name, planned_at)
        state, error = (NOT_SUBMITTED, "") if found is None else (REFUSED, str(found.__cause__ or found))
        return LastTick(name, planned_at, next_at, job_id, state, error)
    return LastTick(name, planned_at, next_at, job_id, job.state.value, job.error)
