"""A job under Celery's `task_always_eager`: chunked and run in this process, for unit tests. No server is asked."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery

from sosw_celery.core.jobs.plan import check_job_id
from sosw_celery.core.tasks.model import JobState, JobSummary
from sosw_celery.errors import ConfigError
from sosw_celery.labourer.worker import Worker
from sosw_celery.services.preview import Chunker
from sosw_celery.wiring.container import settings_of

__all__ = ["run_here"]


def run_here(app: Celery, event: Any, default_job_id: str) -> JobSummary:
    """Call the labourer of a job once for each of its tasks, one after the other; return the summary of the job.

    A body that raises makes a dead task; what it raises comes through where Celery's `task_eager_propagates` says so.

    Raises:
        InvalidJob: It cannot become tasks; those before the one that is wrong have run.
        ConfigError: The labourer has no code in this process.
    """
    chunker = Chunker(settings_of(app))
    job, texts = chunker.checked(event)
    job_id = check_job_id(default_job_id if job.get("job_id") is None else job["job_id"])
    labourer_id = str(job["lambda_name"])
    labourer = app.tasks.get(labourer_id)
    if not isinstance(labourer, Worker):
        raise ConfigError("task_always_eager", labourer_id, "a labourer whose module is imported in this process")
    ended = [labourer.apply((json.loads(text),)).successful() for text in texts]
    dead = ended.count(False)
    return JobSummary(
        job_id,
        labourer_id,
        JobState.COMPLETED_WITH_DEAD if dead else JobState.COMPLETED,
        tasks=len(ended),
        written=len(ended),
        completed=len(ended) - dead,
        dead=dead,
        warnings=tuple(chunker.warnings),
    )
