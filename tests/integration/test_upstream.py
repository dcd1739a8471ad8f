"""sosw itself beside us, on one set of tables."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.integration.cluster import MODULES, Cluster

LABOURERS = {"note": {"arn": "arn:aws:lambda:eu-west-1:000000000000:function:note", "max_simultaneous_invocations": 2}}
JOB = {
    "lambda_name": "note",
    "isolate_values": True,
    "groups": {"a": {"values": [1, 2, 3]}, "b": {"values": [4], "period": "kept as it is"}},
}


@pytest.fixture
def aws() -> Iterator[str]:
    """Stand-ins for the other services that sosw wants: S3 for its queue file, Lambda, CloudWatch, SNS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class Upstream:
    """Runs sosw's own classes on a cluster's tables."""

    def __init__(self, cluster: Cluster, aws: str, queue_bucket: str) -> None:
        self._cluster = cluster
        self._environment = {
            **cluster.environment,
            "AWS_ENDPOINT_URL": aws,
            "AWS_ENDPOINT_URL_DYNAMODB": cluster.section["dynamodb_endpoint"],
            "stage": "test",
            "autotest": "True",
        }
        tables = cluster.services.tables
        self._config = {
            "task_config": {
                "dynamo_db_config": {
                    "table_name": tables.tasks,
                    "index_greenfield": tables.greenfield_index,
                },
                "sosw_closed_tasks_table": tables.closed,
                "sosw_retry_tasks_table": tables.retry,
                "labourers": LABOURERS,
            },
            "job_schema": {"chunkable_attrs": [["group", {}], ["value", {}]]},
            "meta_handler_config": {"dynamo_db_config": {"table_name": tables.meta}},
            "queue_bucket": queue_bucket,
            "job": JOB,
            "directory": str(cluster.directory),
        }

    def __call__(self, action: str) -> Any:
        """Return what an action of `upstream_side.py` says."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(MODULES / "upstream_side.py"), action],
            input=json.dumps(self._config),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster], table_prefix: str) -> Cluster:
    """A cluster whose processes are started by the test."""
    return make_cluster(
        labourers=LABOURERS, meta_handler_config={"dynamo_db_config": {"table_name": f"{table_prefix}meta"}}
    )


@pytest.fixture
def upstream(cluster: Cluster, aws: str, unique: str) -> Upstream:
    """The real sosw on the cluster's tables."""
    bucket = f"upstream-{unique}"  # the stand-ins of one test process share their buckets
    boto3.client("s3", endpoint_url=aws).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    return Upstream(cluster, aws, bucket)


@pytest.mark.slow
def test_tasks_of_sosws_scheduler_are_run_and_archived_by_us(cluster: Cluster, upstream: Upstream) -> None:
    """What sosw's own Scheduler has put into the tasks table runs on our workers and ends in the closed table."""
    upstream("schedule")
    cluster.worker()
    cluster.worker("note", "-c", "2")
    cluster.beat()
    cluster.wait_for(lambda: len(cluster.closed("note")) == 4, 30, "four tasks to be closed")
    assert sorted(task.extra["result_doubled"] for task in cluster.closed("note")) == [[2], [4], [6], [8]]
    assert all(task.attempts == 1 and not task.job_id for task in cluster.closed("note"))


@pytest.mark.slow
def test_sosw_reads_our_rows_without_an_error(cluster: Cluster, upstream: Upstream) -> None:
    """sosw's orchestrator finds our queued tasks, and its scavenger archives our completed ones."""
    cluster.worker()
    job_id = cluster.submit(JOB)
    services = cluster.services
    cluster.wait_for(lambda: services.job_table.get(job_id).state.value == "scheduled", 20, "the rows")
    second = int(time.time())
    cluster.wait_for(lambda: time.time() > second + 1, 3, "the next second: sosw counts whole ones")
    seen = upstream("queue")
    assert len(seen["next"]) == seen["length"] == 4
    done, running, *queued = seen["next"]
    for task_id in (done, running):
        task = services.task_table.find(task_id).task
        claimed = services.task_table.claim(task.next_attempt, now=task.created_at, node="test")
        if task_id == done:
            outcome = {"stat_values": 2, "result_size": Decimal("1.5"), "result_names": ["a"]}
            services.task_table.complete(claimed.current_attempt, now=task.created_at + 1, outcome=outcome)
    seen = upstream("queue")
    assert (seen["next"], seen["running"], seen["completed"]) == (queued, [running], [done])
    upstream("scavenge")
    assert services.task_table.find(done).where == "closed"
    assert services.task_table.find(running).where == "tasks"
