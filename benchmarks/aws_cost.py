"""What a task costs in DynamoDB over its whole life: calls, write and read units, stage by stage.

    python -m benchmarks.aws_cost [TASKS]

Runs the services themselves, without Celery, on the local engine, which accounts for capacity as AWS documents it. Rows
are of about 300 bytes.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from sosw_celery import clock
from sosw_celery.core.job_plan import Envelope
from sosw_celery.core.model import Hint
from sosw_celery.local import LocalStack
from sosw_celery.services.attempts import Attempts
from sosw_celery.services.orchestrator import Orchestrator
from sosw_celery.settings import load_settings
from sosw_celery.stores.tables import create_tables
from sosw_celery.wiring import Services

LABOURER = "resize"
SLOTS = 20
#: Makes a row of about 300 bytes.
PADDING = "x" * 60


@dataclass
class Cost:
    """Calls and capacity units of one stage."""

    calls: int = 0
    writes: float = 0.0
    reads: float = 0.0


@dataclass
class Meter:
    """Counts what a client does, by the stage that is under way."""

    stages: dict[str, Cost] = field(default_factory=dict)
    stage: str = ""

    def attach(self, client: Any) -> None:
        """Have every call of the client counted."""
        client.meta.events.register("provide-client-params.dynamodb", self._ask)
        client.meta.events.register("after-call.dynamodb", self._count)

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Count for the stage."""
        before, self.stage = self.stage, stage
        yield
        self.stage = before

    def _ask(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _count(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        cost = self.stages.setdefault(self.stage, Cost())
        cost.calls += 1
        consumed = parsed.get("ConsumedCapacity") or []
        units = sum(part["CapacityUnits"] for part in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name in ("Query", "GetItem", "BatchGetItem"):
            cost.reads += units
        else:
            cost.writes += units


def measure(tasks: int, redis_url: str, endpoint: str, queue_bucket: str, prefix: str) -> dict[str, Cost]:
    """Return the cost of each stage for a job of so many tasks, run to its end; also checks that it ended."""
    settings = load_settings(
        {
            "redis_url": redis_url,
            "redis_prefix": f"cost-{uuid.uuid4().hex[:8]}",
            "dynamodb_endpoint": endpoint,
            "queue_bucket": queue_bucket,
            "aws_region": "eu-west-1",
            "job_schema": {"chunkable_attrs": ["image"]},
            "labourers": {LABOURER: {"max_simultaneous_invocations": SLOTS}},
            "task_config": {
                "dynamo_db_config": {"table_name": f"{prefix}tasks"},
                "sosw_closed_tasks_table": f"{prefix}closed",
                "sosw_retry_tasks_table": f"{prefix}retry",
                "sosw_jobs_table": f"{prefix}jobs",
            },
        }
    )
    services = Services(Celery("cost", broker="memory://", set_as_current=False), settings)
    create_tables(services.dynamodb, services.tables)
    meter = Meter()
    meter.attach(services.dynamodb)
    hints: list[Hint] = []
    dispatches = [LABOURER]
    orchestrator = Orchestrator(
        settings,
        services.task_table,
        services.slots,
        publish=hints.extend,
        depth=lambda _: 0,
        clock=clock.now,
    )
    attempts = Attempts(
        settings,
        services.task_table,
        services.slots,
        node="cost",
        publish=hints.extend,
        dispatch=dispatches.append,
        sweep=lambda _: None,
        job_ended=lambda _: None,
        clock=clock.now,
    )
    job = {"lambda_name": LABOURER, "isolate_images": True, "padding": PADDING, "images": list(range(tasks))}
    with meter.during("schedule"):
        job_id, _ = services.scheduler.submit(job, uuid.uuid4().hex)
        services.scheduler.run(Envelope(job_id))
    done = 0
    while done < tasks:
        if dispatches:
            with meter.during("dispatch"):
                orchestrator.dispatch(dispatches.pop())
        with meter.during("claim"):
            run = attempts.begin(hints.pop(0))
        assert run is not None
        with meter.during("close"):
            attempts.complete(run.attempt, run.outcome({"size": 1}))
        done += 1
        if done % 500 == 0 or done == tasks:
            with meter.during("archive"):
                services.scavenger.sweep(LABOURER)
    summary = services.job_table.get(job_id)
    assert summary.completed == tasks, summary
    return meter.stages


def main() -> None:
    """Measure and print."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with LocalStack() as stack:
        os.environ.update(stack.environment())
        prefix = f"cost{uuid.uuid4().hex[:6]}_"
        stages = measure(tasks, stack.redis_url, stack.dynamodb_endpoint, stack.queue_bucket, prefix)
    print(f"per task, of {tasks:,}:")
    print(f"{'stage':<10}{'calls':>8}{'WCU':>8}{'RCU':>8}")
    for name, cost in stages.items():
        print(f"{name:<10}{cost.calls / tasks:>8.3f}{cost.writes / tasks:>8.2f}{cost.reads / tasks:>8.2f}")
    total = Cost(*(sum(getattr(cost, unit) for cost in stages.values()) for unit in ("calls", "writes", "reads")))
    print(f"{'all':<10}{total.calls / tasks:>8.3f}{total.writes / tasks:>8.2f}{total.reads / tasks:>8.2f}")


if __name__ == "__main__":
    main()
