"""How fast one Scheduler writes rows, beside a bare loop of BatchWriteItem with the same rows on the same engine.

    python -m benchmarks.schedule_rows [ROWS] [ROUNDS]

Each round runs a whole job (accept, chunk, queue file, rows with checkpoints) and then the bare loop; what is shown are
the medians, so that other load on the machine hits both alike. The engine is the local one, in memory.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from sosw_celery import clock
from sosw_celery.core.job_plan import Envelope
from sosw_celery.local import DynamoServer
from sosw_celery.services.scheduler import Scheduler
from sosw_celery.settings import greenfield_delta, load_settings
from sosw_celery.stores import dynamo, items
from sosw_celery.stores.job_table import JobTable
from sosw_celery.stores.queue_file import DirectoryQueueFiles, queue_files_from
from sosw_celery.stores.tables import Tables, create_tables
from sosw_celery.stores.task_table import TaskTable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BATCH = 25


def main(rows: int, rounds: int) -> None:
    """Run the rounds and print rows per second and CPU per row of both."""
    os.environ.update(AWS_ACCESS_KEY_ID="local", AWS_SECRET_ACCESS_KEY="local")
    server = DynamoServer()
    with server, tempfile.TemporaryDirectory() as directory:
        client = dynamo.connect(endpoint_url=server.endpoint, region_name="eu-west-1")
        tables = Tables()
        create_tables(client, tables)
        scheduler = _scheduler(client, tables, directory)
        ours, bare = [], []
        for number in range(rounds):
            job_id = f"job-{number}"
            scheduler.submit(_job(rows), job_id)
            ours.append(_measure(partial(scheduler.run, Envelope(job_id)), rows))
            stored = _items(client, tables, job_id)
            assert len(stored) == rows, f"{len(stored)} of {rows} rows"
            bare.append(_measure(partial(_bare_loop, client, tables, stored), rows))
    _show("Scheduler", ours)
    _show("bare loop", bare)
    print(f"ratio      {statistics.median(a / b for (a, _), (b, _) in zip(ours, bare, strict=True)):10.2f}")


def _scheduler(client: DynamoDBClient, tables: Tables, directory: str) -> Scheduler:
    settings = load_settings(
        {
            "labourers": {"resize": {"arn": "arn:aws:lambda:eu-west-1:000000000000:function:resize"}},
            "job_schema": {"chunkable_attrs": ["image"]},
            "queue_bucket": f"file://{directory}",
        }
    )
    job_table = JobTable(client, tables)
    delta = greenfield_delta(settings)
    queue_files = queue_files_from(settings, s3=_no_bucket)
    assert isinstance(queue_files, DirectoryQueueFiles)
    return Scheduler(
        settings,
        task_table=TaskTable(client, tables, delta=delta, job_counters=job_table.counters_update),
        job_table=job_table,
        queue_files=queue_files,
        announce=lambda labourer_id, lowest: None,
        spawn=lambda message: None,
        clock=clock.now,
    )


def _no_bucket() -> Any:
    raise AssertionError("the queue files are in a directory")


def _job(rows: int) -> dict[str, Any]:
    images = [f"image-{number:07d}.jpg" for number in range(rows)]
    return {"lambda_name": "resize", "isolate_images": True, "images": images, "target": {"width": 640, "height": 480}}


def _items(client: DynamoDBClient, tables: Tables, job_id: str) -> list[dict[str, Any]]:
    """Return the rows of a job as they stand in the table, with other ids: the same items for the bare loop."""
    found: list[dict[str, Any]] = []
    for page in client.get_paginator("scan").paginate(TableName=tables.tasks):
        found += [item for item in page["Items"] if item["job_id"]["S"] == job_id]
    later = items.number(Decimal(int(time.time()) + 10))
    return [
        {**item, "task_id": {"S": item["task_id"]["S"][::-1]}, "greenfield": later, "job_id": {"S": "bare"}}
        for item in found
    ]


def _bare_loop(client: DynamoDBClient, tables: Tables, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), BATCH):
        puts: Any = [{"PutRequest": {"Item": row}} for row in rows[start : start + BATCH]]
        assert not client.batch_write_item(RequestItems={tables.tasks: puts}).get("UnprocessedItems")


def _measure(work: Callable[[], object], rows: int) -> tuple[float, float]:
    """Return rows per second, and microseconds of this process's CPU per row."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return rows / (time.perf_counter() - started), (time.process_time() - cpu) / rows * 1e6


def _show(name: str, measured: list[tuple[float, float]]) -> None:
    speed, cpu = (statistics.median(values) for values in zip(*measured, strict=True))
    print(f"{name}  {speed:10.0f} rows/s  {cpu:6.0f} us CPU per row")


if __name__ == "__main__":
    wanted = [int(text) for text in sys.argv[1:3]]
    main(*wanted, *(10_000, 5)[len(wanted) :])
