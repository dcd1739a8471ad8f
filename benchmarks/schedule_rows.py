"""How fast one Scheduler writes rows, beside a bare loop of BatchWriteItem with the same rows on the same engine.

    python -m benchmarks.schedule_rows [--rows 10000] [--rounds 7]

Each round runs a whole job (chunk, queue file, rows with checkpoints) and then the bare loop, which does nothing but
send rows that are ready made, in full batches, with as many calls at once as ours. What is shown are medians. The
engine is the local one, in memory.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from benchmarks.aws_cost import Meter
from benchmarks.figures import Figure, main, median, tell
from benchmarks.life import Life
from benchmarks.system import Servers
from sosw_celery.core.job_plan import Envelope
from sosw_celery.stores import items
from sosw_celery.wiring import Services

FULL = {"rows": 10_000, "rounds": 7}
QUICK = {"rows": 500, "rounds": 1}

BATCH = 25
#: As many as `TaskTable` has under way at once.
AT_ONCE = 4


@dataclass(frozen=True)
class Speed:
    """Rows per second, and microseconds of this process's CPU per row."""

    rows_per_s: float
    cpu_us: float


def measure(rows: int, rounds: int) -> list[Figure]:
    """Return the ratio of the speeds, both speeds, and what scheduling reads."""
    ours, bare = [], []
    meter = Meter()
    with Servers() as servers:
        life = Life(servers.redis.url, servers.dynamodb.endpoint, servers.directory, meter.during)
        services = life.services
        for number in range(rounds):
            job_id = uuid.uuid4().hex
            services.scheduler.submit(life.job(rows), job_id)
            ours.append(_timed(partial(services.scheduler.run, Envelope(job_id)), rows))
            stored = _rows_of(services, job_id)
            assert len(stored) == rows, f"{len(stored)} of {rows} rows"
            bare.append(_timed(partial(_write_bare, services, stored), rows))
            _clear(services)
            speeds = f"bare loop {bare[-1].rows_per_s:.0f}/s, ours {ours[-1].rows_per_s:.0f}/s"
            tell(f"schedule_rows, round {number + 1} of {rounds}: {speeds}")
        meter.attach(services.dynamodb)
        life.queue(rows)
    reads = sum(cost.reads for cost in meter.take().values()) / rows
    ratio = median(us.rows_per_s / them.rows_per_s for us, them in zip(ours, bare, strict=True))
    return [
        Figure(
            "job to rows, ours to a bare loop",
            ratio,
            at_least=0.8,
            detail=f"{rows:,} rows, {AT_ONCE} calls at once, median of {rounds} rounds",
        ),
        _figure("job to rows", ours),
        _figure("bare loop of BatchWriteItem", bare),
        Figure("read units per row scheduled", reads, at_most=0.01, detail="of the job's own item"),
    ]


def _figure(name: str, measured: list[Speed]) -> Figure:
    cpu = median(speed.cpu_us for speed in measured)
    return Figure(name, median(speed.rows_per_s for speed in measured), "rows/s", detail=f"CPU {cpu:.0f} us per row")


def _timed(work: Callable[[], object], rows: int) -> Speed:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return Speed(rows / (time.perf_counter() - started), (time.process_time() - cpu) / rows * 1e6)


def _rows_of(services: Services, job_id: str) -> list[dict[str, Any]]:
    """Return the rows of a job as they stand in the table, with other ids: the same items for the bare loop."""
    table = services.tables.tasks
    later = items.number(Decimal(int(time.time()) + 10))
    return [
        {**item, "task_id": {"S": item["task_id"]["S"][::-1]}, "greenfield": later, "job_id": {"S": "bare"}}
        for page in services.dynamodb.get_paginator("scan").paginate(TableName=table)
        for item in page["Items"]
        if item["job_id"]["S"] == job_id
    ]


def _write_bare(services: Services, rows: list[dict[str, Any]]) -> None:
    table = services.tables.tasks

    def write(start: int) -> None:
        puts: Any = [{"PutRequest": {"Item": row}} for row in rows[start : start + BATCH]]
        assert not services.dynamodb.batch_write_item(RequestItems={table: puts}).get("UnprocessedItems")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(write, range(0, len(rows), BATCH)))


def _clear(services: Services) -> None:
    """Have the table empty for the next round."""
    table = services.tables.tasks
    for page in services.dynamodb.get_paginator("scan").paginate(TableName=table, ProjectionExpression="task_id"):
        for start in range(0, len(page["Items"]), BATCH):
            deletes: Any = [{"DeleteRequest": {"Key": key}} for key in page["Items"][start : start + BATCH]]
            services.dynamodb.batch_write_item(RequestItems={table: deletes})


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
