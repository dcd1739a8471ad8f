"""What a task costs in DynamoDB over its whole life: calls, write and read units, stage by stage.

    python -m benchmarks.aws_cost [--tasks 2000] [--few-tasks 100] [--queued 20000]

Runs the services themselves, without Celery, on the local engine, which accounts for capacity as AWS documents it. Rows
are of about 300 bytes. It is measured with nothing else in the tables, for a small job, and behind a long queue with a
history of as many closed tasks as are measured; and for short tasks, which one worker runs one after the other in
lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, main
from benchmarks.life import STAGES, Life
from benchmarks.system import Servers
from sosw_celery.core.tasks.model import JobState

FULL = {"tasks": 2000, "few_tasks": 100, "queued": 20_000}
QUICK = {"tasks": 500, "few_tasks": 50, "queued": 1000}

#: What DynamoDB lets be written on one key of a table or index in a second.
UNITS_PER_KEY = 1000


@dataclass
class Cost:
    """Calls and capacity units of one stage. `on_key` are the write units on the labourer's key in the tasks' index."""

    calls: int = 0
    writes: float = 0.0
    reads: float = 0.0
    on_key: float = 0.0


@dataclass
class Meter:
    """Counts what a client does, by the stage that is under way.

    Parameters:
        index: Whose write units are those on the labourer's key.
    """

    index: str = ""
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

    def take(self) -> dict[str, Cost]:
        """Return what was counted since the last call."""
        taken, self.stages = self.stages, {}
        return taken

    def _ask(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "INDEXES"}

    def _count(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        cost = self.stages.setdefault(self.stage, Cost())
        cost.calls += 1
        consumed = parsed.get("ConsumedCapacity") or []
        parts = consumed if isinstance(consumed, list) else [consumed]
        units = sum(part["CapacityUnits"] for part in parts)
        if model.name in ("Query", "GetItem", "BatchGetItem"):
            cost.reads += units
            return
        cost.writes += units
        indexes = [part.get("GlobalSecondaryIndexes", {}).get(self.index, {}) for part in parts]
        cost.on_key += sum(index.get("CapacityUnits", 0.0) for index in indexes)


def costs(
    tasks: int, queued: int, redis_url: str, endpoint: str, directory: Path, *, in_lines: bool = False
) -> list[dict[str, Cost]]:
    """Return the cost of each stage for so many tasks: alone, and then behind so many queued ones."""
    meter = Meter()
    life = Life(redis_url, endpoint, directory, meter.during, in_lines=in_lines)
    meter.index = life.services.tables.greenfield_index
    for client in life.clients:
        meter.attach(client)
    job_id = life.queue(tasks)
    life.run(tasks)
    alone = meter.take()
    summary = life.services.job_table.get(job_id)
    assert (summary.state, summary.completed) == (JobState.COMPLETED, tasks), summary
    life.queue(queued)
    meter.take()
    life.queue(tasks)
    life.run(tasks)
    return [alone, meter.take()]


def total(stages: dict[str, Cost]) -> Cost:
    """Return the cost of all stages."""
    return Cost(
        *(sum(getattr(cost, unit) for cost in stages.values()) for unit in ("calls", "writes", "reads", "on_key"))
    )


def measure(tasks: int, few_tasks: int, queued: int) -> list[Figure]:
    """Return calls and units per task."""
    with Servers() as servers:
        alone, behind = costs(tasks, queued, servers.redis.url, servers.dynamodb.endpoint, servers.directory)
        few, _ = costs(few_tasks, few_tasks, servers.redis.url, servers.dynamodb.endpoint, servers.directory)
        lines, _ = costs(tasks, 1, servers.redis.url, servers.dynamodb.endpoint, servers.directory, in_lines=True)
    per_task = total(alone).on_key / tasks
    return [
        *_figures(alone, tasks, "alone"),
        *_figures(few, few_tasks, f"of {few_tasks} alone"),
        *_figures(behind, tasks, f"behind {queued:,} queued"),
        *_figures(lines, tasks, "in lines"),
        Figure("write units per task on the labourer's key", per_task, detail=_by_stage(alone, "on_key", tasks)),
        Figure(
            f"of one labourer at {UNITS_PER_KEY:,} units/s of a key",
            UNITS_PER_KEY / per_task,
            "tasks/s",
            detail="on paper",
        ),
    ]


def _figures(stages: dict[str, Cost], tasks: int, place: str) -> list[Figure]:
    cost = total(stages)
    measured = [("AWS calls", "calls", 2.5), ("write units", "writes", 13), ("read units", "reads", 2)]
    return [
        Figure(
            f"{name} per task, {place}",
            getattr(cost, unit) / tasks,
            at_most=at_most,
            detail=_by_stage(stages, unit, tasks),
        )
        for name, unit, at_most in measured
    ]


def _by_stage(stages: dict[str, Cost], unit: str, tasks: int) -> str:
    return ", ".join(f"{name} {getattr(stages[name], unit) / tasks:.2f}" for name in STAGES)


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
