"""Submitting from a user's own code, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from sosw_celery import clock
from sosw_celery.core.tasks.model import JobState
from sosw_celery.errors import JobNotFound
from tests.integration.cluster import Cluster

PROGRAM = """
import json, sys
from cluster_labourers import Count, note

said = {}
# With no more of us imported than the labourers' module.
said["delay of a labourer"] = note.delay({"values": [6]}).get(timeout=30)["tasks"]
said["delay of an object"] = Count().delay({"values": [6]}).get(timeout=30)["labourer_id"]

from celery import group
from sosw_celery import InvalidJob, app, scheduler

job = {"lambda_name": "note", "isolate_values": True, "groups": {"a": {"values": [1, 2]}, "b": {"values": [3]}}}
said["dict"] = scheduler.delay({**job, "job_id": "first"}).get(timeout=30)
said["again"] = scheduler.delay({**job, "job_id": "first"}).get(timeout=30)
said["text"] = scheduler.delay(json.dumps({"job": json.dumps({**job, "job_id": "second"})})).get(timeout=30)
result = scheduler.delay({**job, "lambda_name": "arn:aws:lambda:eu-west-1:1:function:note:live"})
said["own id"] = result.get(timeout=30)["job_id"] == result.id
said["one task"] = scheduler.apply_async(args=({"lambda_name": "note", "values": [5]},)).get(timeout=30)["tasks"]
said["sent by name"] = app.send_task("note", [{"values": [7]}], task_id="by-name").get(timeout=30)["job_id"]
said["later"] = note.apply_async(({"values": [12]},), countdown=3, task_id="later").id
both = group(note.si({"values": [8]}), note.s({"values": [9]}))()
said["in a group"] = [summary["tasks"] for summary in both.get(timeout=30)]
try:
    scheduler.delay({**job, "lambda_name": "notes"})
except InvalidJob as problem:
    said["unknown"] = str(problem)
refused = scheduler.delay({**job, "period": "last_0_days", "job_id": "bad"})
try:
    refused.get(timeout=30)
except Exception as problem:
    said["refused"] = f"{type(problem).__name__}: {problem}"
print(json.dumps(said))
"""


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster with the essentials and a labourer."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": 4}, "count": {}}, sweep_jobs_s=1)
    cluster.worker()
    cluster.worker("note", "-c", "2")
    cluster.beat()
    return cluster


@pytest.mark.slow
def test_a_users_program_submits_jobs_and_gets_summaries(cluster: Cluster) -> None:
    """Every accepted form of a job gives its tasks once, its summary, and a clear error where it is none."""
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert program.returncode == 0, program.stderr + cluster.tails()
    said: dict[str, Any] = json.loads(program.stdout)
    first = said["dict"]
    assert (first["job_id"], first["labourer_id"], first["tasks"]) == ("first", "note", 3)
    assert said["again"]["tasks"] == said["text"]["tasks"] == 3
    assert said["own id"] is True
    assert said["one task"] == said["delay of a labourer"] == 1
    assert said["delay of an object"] == "count"
    assert said["sent by name"] == "by-name"
    assert said["in a group"] == [1, 1]
    assert said["unknown"].startswith("job.lambda_name: ")
    assert "'note'" in said["unknown"]
    assert said["refused"].startswith("InvalidJob: job.period")
    assert cluster.services.job_table.get("bad").state is JobState.REFUSED
    for job_id in ("first", "second"):
        assert cluster.ended(job_id).completed == 3
    # Of an app that knows no labourer, as Flower with a broker alone.
    cluster.app.send_task("note", kwargs={"event": {"values": [10]}}, queue="note", task_id="by-a-stranger")
    for job_id in ("by-name", "by-a-stranger"):
        cluster.wait_for(partial(_is_known, cluster, job_id), 30, f"{job_id} to be accepted")
        assert cluster.ended(job_id).completed == 1
    # One that waited for its message, and one about which there was none.
    until = time.monotonic() + 2
    cluster.services.scheduler.submit({"lambda_name": "note"}, "by a sweep", not_before=clock.now() + 2)
    assert said["later"] == "later"
    for job_id in ("later", "by a sweep"):
        assert cluster.ended(job_id).completed == 1
        not_before = cluster.services.job_table.get(job_id).not_before
        assert not_before is not None
        (task,) = [task for task in cluster.closed("note") if task.job_id == job_id]
        assert task.created_at >= not_before
    (span,) = [span for span in cluster.spans() if span.task_id == task.task_id]
    assert span.start >= until - 0.1
    assert len(cluster.spans()) == 3 + 3 + 3 + 1 + 1 + 1 + 1 + 2 + 2


def _is_known(cluster: Cluster, job_id: str) -> bool:
    """Whether the job is in the table."""
    try:
        cluster.services.job_table.get(job_id)
    except JobNotFound:
        return False
    return True
