"""A client of a system that runs in other processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery

from sosw_celery.config.settings import load_settings
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.core.tasks.model import JobSummary, Task
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.wiring.broker import own_keys
from sosw_celery.wiring.container import Services
from tests.harness.waiting import wait_for

__all__ = ["Client", "table_names"]


class Client:
    """Submits jobs to a system and reads where they stand; its tables are there when it is made.

    Parameters:
        section: The `sosw` section that the system's processes have.
        broker_url: Where their messages and results are.
        tails: Returns the ends of their logs, for the message of a failed wait.
    """

    def __init__(self, section: Mapping[str, Any], broker_url: str, tails: Callable[[], str] = lambda: "") -> None:
        self.settings = load_settings(section)
        self.app = Celery("client", broker=broker_url, backend=broker_url, set_as_current=False)
        self.app.conf.broker_transport_options = own_keys(self.settings.redis_prefix, broker_url, {}) or {}
        self.services = Services(self.app, self.settings)
        self._tails = tails
        create_tables(self.services.dynamodb, self.services.tables)

    def close(self) -> None:
        """Let go of all connections."""
        self.app.close()
        self.services.redis.close()

    def submit(self, job: Mapping[str, Any], job_id: str | None = None, *, ignore_result: bool = True) -> str:
        """Have a job accepted and scheduled, as `scheduler.delay(job)` does; return its id."""
        accepted, _ = self.services.scheduler.submit(job, job_id or uuid.uuid4().hex)
        self.app.send_task(
            "scheduler", [Envelope(accepted).as_message()], queue="sosw_scheduler", ignore_result=ignore_result
        )
        return accepted

    def schedule(self, job: Mapping[str, Any]) -> JobSummary:
        """Have a job accepted, and its rows written in this process."""
        accepted, _ = self.services.scheduler.submit(job, uuid.uuid4().hex)
        return self.services.scheduler.run(Envelope(accepted))

    def ended(self, job_id: str, timeout_s: float = 60) -> JobSummary:
        """Wait until every task of the job is closed, and return where it stands.

        Raises:
            TimeoutError: They are not within the time.
        """
        jobs = self.services.job_table
        wait_for(lambda: jobs.get(job_id).state.is_ended, timeout_s, f"end of job {job_id}", why=self._tails)
        return jobs.get(job_id)

    def closed(self, labourer_id: str, status: int = 1) -> list[Task]:
        """Return the closed tasks of a labourer, 1 completed or 0 dead."""
        return list(self.services.task_table.closed(labourer_id, status=status))


def table_names(prefix: str) -> dict[str, Any]:
    """Return a `task_config` with tables that nobody else has."""
    return {
        "dynamo_db_config": {"table_name": f"{prefix}tasks"},
        "sosw_closed_tasks_table": f"{prefix}closed",
        "sosw_retry_tasks_table": f"{prefix}retry",
        "sosw_jobs_table": f"{prefix}jobs",
    }
