"""How fast one Scheduler writes rows, beside bare loops with the same rows on the same engine.

    python -m benchmarks.schedule_rows [--rows 10000] [--rounds 7]

Each round runs a whole job (chunk, queue file, rows with checkpoints) and then the bare loops, which do nothing but
send rows that are ready made, in full batches, with as many calls at once as ours. One of them sends the statements
that ours sends, which put no row over another one: the target is for that one. The other one sends BatchWriteItem,
which puts rows over whatever stands there; what is lost against it is what the condition costs at this engine. What is
shown are medians. The engine is the local one, in memory.
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
from sosw_celery.core.jobs.plan import Envelope
from sosw_celery.stores.dynamodb import attributes, task_rows
from sosw_celery.wiring.container import Services

FULL = {"rows": 10_000, "rounds": 7}
QUICK = {"rows": 500, "rounds": 1}

BATCH = 25
#: As many as a Scheduler has under way at once.
AT_ONCE = 4


@dataclass(frozen=True)
class Speed:
    """Rows per second, and microseconds of this process's CPU per row."""

    rows_per_s: float
    cpu_us: float


def measure(rows: int, rounds: int) -> list[Figure]:
    """Return the ratio of the speeds, both speeds, and what scheduling reads."""
    ours, inserts, puts = [], [], []
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
            _clear(services)
            inserts.append(_timed(partial(_write_bare, _insert, services, stored), rows))
            _clear(services)
            puts.append(_timed(partial(_write_bare, _put, services, stored), rows))
            _clear(services)
            shown = {"ours": ours, "bare inserts": inserts, "bare puts": puts}
            speeds = ", ".join(f"{name} {measured[-1].rows_per_s:.0f}/s" for name, measured in shown.items())
            tell(f"schedule_rows, round {number + 1} of {rounds}: {speeds}")
        for client in life.clients:
            meter.attach(client)
        life.queue(rows)
    reads = sum(cost.reads for cost in meter.take().values()) / rows
    detail = f"{rows:,} rows, {AT_ONCE} calls at once, median of {rounds} rounds"
    return [
        Figure(
            "job to rows, ours to a bare loop of the same inserts", _ratio(ours, inserts), at_least=0.8, detail=detail
        ),
        Figure("job to rows, ours to a bare loop of BatchWriteItem", _ratio(ours, puts), detail="without a condition"),
        _figure("job to rows", ours),
        _figure("bare loop of the same inserts", inserts),
        _figure("bare loop of BatchWriteItem", puts),
        Figure("read units per row scheduled", reads, at_most=0.01, detail="of the job's own item"),
    ]


def _ratio(ours: list[Speed], theirs: list[Speed]) -> float:
    return median(us.rows_per_s / them.rows_per_s for us, them in zip(ours, theirs, strict=True))


def _figure(name: str, measured: list[Speed]) -> Figure:
    cpu = median(speed.cpu_us for speed in measured)
    return Figure(name, median(speed.rows_per_s for speed in measured), "rows/s", detail=f"CPU {cpu:.0f} us per row")


def _timed(work: Callable[[], object], rows: int) -> Speed:
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return Speed(rows / (time.perf_counter() - started), (time.process_time() - cpu) / rows * 1e6)


def _rows_of(services: Services, job_id: str) -> list[dict[str, Any]]:
    """Return the rows of a job as they stand in the table, with other ids: the same items for the bare loops."""
    table = services.tables.tasks
    later = attributes.number(Decimal(int(time.time()) + 10))
    return [
        {**item, "task_id": {"S": item["task_id"]["S"][::-1]}, "greenfield": later, "job_id": {"S": "bare"}}
        for page in services.dynamodb.get_paginator("scan").paginate(TableName=table)
        for item in page["Items"]
        if item["job_id"]["S"] == job_id
    ]


def _write_bare(write: Callable[[Services, Any], None], services: Services, rows: list[dict[str, Any]]) -> None:
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(partial(write, services), batches))


def _insert(services: Services, rows: list[dict[str, Any]]) -> None:
    statements: Any = [task_rows.insert_statement(row, services.tables) for row in rows]
    answers = services.dynamodb.batch_execute_statement(Statements=statements)["Responses"]
    assert not any("Error" in answer for answer in answers), answers


def _put(services: Services, rows: list[dict[str, Any]]) -> None:
    puts: Any = [{"PutRequest": {"Item": row}} for row in rows]
    assert not services.dynamodb.batch_write_item(RequestItems={services.tables.tasks: puts}).get("UnprocessedItems")


def _clear(services: Services) -> None:
    """Have the table empty for the next round."""
    table = services.tables.tasks
    for page in services.dynamodb.get_paginator("scan").paginate(TableName=table, ProjectionExpression="task_id"):
        for start in range(0, len(page["Items"]), BATCH):
            deletes: Any = [{"DeleteRequest": {"Key": key}} for key in page["Items"][start : start + BATCH]]
            services.dynamodb.batch_write_item(RequestItems={table: deletes})


if __name__ == "__main__":
    main(__doc__, measure, FULL, QUICK)
