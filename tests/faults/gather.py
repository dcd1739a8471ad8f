"""Collects the evidence of a run: reads what its processes wrote down, and every table."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sosw_celery.core.chunking import chunk_job
from sosw_celery.core.jobs.plan import task_id
from sosw_celery.core.tasks.greenfield import queue_end
from sosw_celery.stores.dynamodb.task_rows import from_item
from sosw_celery.wiring.container import Services
from tests.faults.evidence import Job, JobItem, Row, Run

__all__ = ["expected_job", "job_items", "labourers_of", "rows_of", "running_pids", "runs_in", "starts_in"]


def expected_job(job: Mapping[str, Any], job_id: str, submits: int, services: Services) -> Job:
    """Return what an accepted job has to become: what `chunk_job` gives for it, on the day that its item names."""
    today = services.job_table.record(job_id).today
    attributes = services.settings.job_schema.chunkable_attrs
    payloads = list(chunk_job({**job, "job_id": job_id}, attributes, today))
    return Job(job_id, job["lambda_name"], payloads, submits)


def labourers_of(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the labourer of each task of the jobs."""
    return {task_id(job.job_id, number): job.labourer_id for job in jobs for number in range(len(job.payloads))}


# ---- the history


def runs_in(history: Path) -> list[Run]:
    """Return every run of a body that any process wrote down."""
    return [run for path in history.glob("*.jsonl") for run in _runs_of(path)]


def starts_in(history: Path) -> int:
    """Return how many bodies were started so far; processes may be writing."""
    return sum(line["kind"] == "start" for path in history.glob("*.jsonl") for line in _lines(path))


def running_pids(history: Path, group: int) -> list[int]:
    """Return the processes of a group in which a body runs right now, as far as their files tell."""
    found = []
    for path in history.glob("*.jsonl"):
        lines = _lines(path)
        if lines and lines[0]["group"] == group and lines[-1]["kind"] == "start":
            found.append(int(lines[0]["pid"]))
    return sorted(found)


def _runs_of(path: Path) -> Iterator[Run]:
    lines = _lines(path)
    group = lines[0]["group"] if lines else 0
    ends = {line["run"]: line for line in lines if line["kind"] == "end"}
    started_at, beat_at = struct.unpack("dd", path.with_suffix(".beat").read_bytes())
    for line in lines:
        if line["kind"] != "start":
            continue
        end = ends.get(line["run"])
        last_beat = beat_at if started_at == line["at"] else line["at"]
        yield Run(
            name=line["run"],
            task_id=line["task"],
            number=line["n"],
            group=group,
            start=line["at"],
            alive_at=end["at"] if end else last_beat,
            how=end["how"] if end else "",
        )


def _lines(path: Path) -> list[dict[str, Any]]:
    # A process may be in the middle of its last line.
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


# ---- the tables


def rows_of(services: Services) -> list[Row]:
    """Return every task that any table holds."""
    tables = services.tables
    places = {"tasks": tables.tasks, "retry": tables.retry, "closed": tables.closed}
    return [_row(item, where, services) for where, table in places.items() for item in _scan(services, table)]


def job_items(services: Services) -> dict[str, JobItem]:
    """Return the jobs' own items, without their parts and bodies."""
    names = [item["job_id"]["S"] for item in _scan(services, services.tables.jobs)]
    found = {}
    for name in names:
        if "#" not in name:
            record = services.job_table.record(name)
            found[name] = JobItem(name, record.state.value, record.tasks, record.completed, record.dead)
    return found


def _row(item: Mapping[str, Any], where: str, services: Services) -> Row:
    task = from_item(item, services.tables)
    status = item.get(services.tables.field("labourer_id_task_status"), {}).get("S", "")
    return Row(
        task_id=task.task_id,
        job_id=task.job_id,
        labourer_id=task.labourer_id,
        payload=json.loads(task.payload),
        where=where,
        attempts=task.attempts,
        failed_attempts=task.failed_attempts,
        dead=status.endswith("_0"),
        run=str(task.extra.get("result_run", "")),
        claimed=where == "tasks" and task.greenfield > queue_end(task.created_at) + 3600,
    )


def _scan(services: Services, table: str) -> Iterator[Mapping[str, Any]]:
    for page in services.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        yield from page["Items"]
