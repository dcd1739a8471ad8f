"""The life of tasks stage by stage, in this process: the services themselves, without Celery, on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from sosw_celery import clock
from sosw_celery.config.settings import load_settings
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.services.attempts import Attempts, Run
from sosw_celery.services.hint_publisher import HintPublisher
from sosw_celery.services.orchestrator import Orchestrator
from sosw_celery.stores.dynamodb.tables import create_tables
from sosw_celery.wiring.container import Services
from tests.harness.client import table_names
from tests.harness.messenger import FakeMessenger

__all__ = ["STAGES", "Life"]

LABOURER = "resize"
SLOTS = 20
STAGES = ("schedule", "dispatch", "claim", "close", "archive")
#: As workers ask for it.
ARCHIVE_EVERY = 500
#: Makes a row of about 300 bytes.
PADDING = "x" * 60

During = Callable[[str], AbstractContextManager[None]]


class Life:
    """One labourer with tables of its own, whose tasks are moved from stage to stage by `run`.

    Parameters:
        during: Gives the context in which a stage is run; what a benchmark measures, it measures there.
        client: Of Redis, instead of the services' own.
        in_lines: A task is closed and the next one of its slot claimed by the same worker, as in lines.
    """

    def __init__(
        self,
        redis_url: str,
        endpoint: str,
        directory: Path,
        during: During,
        client: redis.Redis | None = None,
        *,
        in_lines: bool = False,
    ) -> None:
        name = f"life{uuid.uuid4().hex[:8]}"
        self._in_lines = in_lines
        self._begun: Run | None = None
        self._during = during
        self._messenger = FakeMessenger()
        settings = load_settings(
            {
                "redis_url": redis_url,
                "redis_prefix": name,
                "dynamodb_endpoint": endpoint,
                "aws_region": "eu-west-1",
                "queue_bucket": (directory / name).as_uri(),
                "job_schema": {"chunkable_attrs": ["image"]},
                "labourers": {LABOURER: {"max_simultaneous_invocations": SLOTS}},
                # Hints wait here while others are measured.
                "hint_lease_s": 3600,
                "task_config": table_names(f"{name}_"),
            }
        )
        self.services = services = Services(Celery(name, broker="memory://", set_as_current=False), settings)
        if client is not None:
            services.__dict__["redis"] = client  # built when it is first asked for, which is below
        create_tables(services.dynamodb, services.tables)
        hints = HintPublisher(
            settings,
            lambda: services.task_table,
            services.slots,
            messenger=self._messenger,
            node=name,
            clock=clock.now,
        )
        self._orchestrator = Orchestrator(
            settings,
            services.task_table,
            services.slots,
            hints=hints,
            messenger=self._messenger,
            clock=clock.now,
            turns=services.turns,
            is_first_start=lambda _: True,
        )
        self._attempts = Attempts(
            settings,
            services.task_table,
            services.slots,
            node=name,
            hints=hints,
            messenger=self._messenger,
            job_ended=lambda _: None,
            clock=clock.now,
        )

    @property
    def clients(self) -> tuple[Any, ...]:
        """The clients of DynamoDB through which everything is done."""
        services = self.services
        return services.dynamodb, services.hasty_dynamodb, services.task_table.new_rows.client

    @staticmethod
    def job(tasks: int) -> dict[str, Any]:
        """Return a job of so many tasks."""
        return {"lambda_name": LABOURER, "isolate_images": True, "padding": PADDING, "images": list(range(tasks))}

    def queue(self, tasks: int) -> str:
        """Have so many more tasks in the queue, and return their job's id."""
        with self._during("schedule"):
            job_id, _ = self.services.scheduler.submit(self.job(tasks), uuid.uuid4().hex)
            self.services.scheduler.run(Envelope(job_id))
        self._messenger.request_dispatch(LABOURER)
        return job_id

    def run(self, tasks: int) -> None:
        """Take so many tasks from the head of the queue to the closed table."""
        for done in range(1, tasks + 1):
            self._run_one()
            if done % ARCHIVE_EVERY == 0 or done == tasks:
                with self._during("archive"):
                    self._sweep()

    def _sweep(self) -> None:
        """Archive what is completed, in as many sweeps as that takes."""
        self.services.scavenger.sweep(LABOURER)
        while self.services.slots.begin_sweep(LABOURER).closes:
            self.services.scavenger.sweep(LABOURER)

    def _run_one(self) -> None:
        dispatches = self._messenger.dispatches
        if dispatches:
            with self._during("dispatch"):
                self._orchestrator.dispatch(dispatches.pop())
            dispatches.clear()  # one message is pending at most
        run = self._begun or self._begin()
        outcome = run.outcome({"size": 1})
        with self._during("close"):
            if self._in_lines:
                self._begun = self._attempts.go_on(run.attempt, outcome, lambda _: None)
            else:
                self._attempts.complete(run.attempt, outcome)

    def _begin(self) -> Run:
        with self._during("claim"):
            run = self._attempts.begin(self._messenger.hints.pop(0))
        assert run is not None
        return run
