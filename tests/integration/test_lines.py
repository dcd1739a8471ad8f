"""Lines: tasks that a process runs one after another on account of one message keep every promise of a task."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.model import JobState
from tests.integration.cluster import Cluster, most_at_once

#: One slot, so that whichever task is in it hands it on to the next one.
LABOURERS = {
    "note": {"max_simultaneous_invocations": 1, "duration": 2, "cooldown": 1, "retry_backoff": 0.1},
    "count": {"max_simultaneous_invocations": 1, "duration": 30},
}
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "line_s": 1}


@pytest.fixture
def start(make_cluster: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Starts a cluster with the essentials and beat running; labourers' workers are started by the test."""

    def begin(**section: Any) -> Cluster:
        cluster = make_cluster(labourers=LABOURERS, **{**SHORT, **section})
        cluster.worker()
        cluster.beat()
        return cluster

    return begin


def job(labourer_id: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": groups}


def messages(cluster: Cluster, labourer_id: str) -> int:
    """Return how many messages of a labourer Celery's main processes have received."""
    received = rf"Task {labourer_id}\[[^\]]+\] received"
    return sum(len(re.findall(received, cluster.log(process))) for process in cluster.processes)


@pytest.mark.slow
def test_many_short_tasks_take_few_messages(start: Callable[..., Cluster]) -> None:
    """Each is run by itself all the same, with its own stats, and told of in the log as Celery does it."""
    cluster = start()
    cluster.worker("count", "-c", "1")
    groups = {f"g{number:02d}": {"values": [number]} for number in range(60)}
    summary = cluster.ended(cluster.submit(job("count", groups)))
    assert (summary.state, summary.completed) == (JobState.COMPLETED, 60)
    assert messages(cluster, "count") <= 30
    closed = cluster.closed("count")
    assert sorted(task.extra["result_last"] for task in closed) == list(range(60))
    assert {(task.attempts, task.extra["stat_values"]) for task in closed} == {(1, 1)}
    assert most_at_once(cluster.spans()) == 1
    log = cluster.log(cluster.processes[-1])
    assert {f"{task.task_id}.1" for task in closed} == set(re.findall(r"Task count\[([^\]]+)\] succeeded", log))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "queues", "options"),
    [({"line_s": 0}, "count", ()), ({}, "count,note", ()), ({}, "count", ("--max-tasks-per-child", "50"))],
    ids=["switched off", "a node of two labourers", "a process that ends after so many tasks"],
)
def test_where_there_are_no_lines_every_task_takes_a_message(
    start: Callable[..., Cluster], section: dict[str, Any], queues: str, options: tuple[str, ...]
) -> None:
    """Where the configuration says so, where hints of another labourer would wait, where messages are counted."""
    cluster = start(**section)
    cluster.worker(queues, "-c", "1", *options)
    summary = cluster.ended(cluster.submit(job("count", {f"g{number}": {} for number in range(20)})))
    assert summary.completed == 20
    assert messages(cluster, "count") >= 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manner", "error"),
    [
        ("kill", "WorkerLostError"),
        ("exit", "WorkerLostError"),
        ("hang", "TimeLimitExceeded"),
        ("raise", "ValueError"),
        ("ignore", "Ignore"),
    ],
)
def test_a_task_within_a_line_fails_as_itself(start: Callable[..., Cluster], manner: str, error: str) -> None:
    """The one that ran is told as failed at once, not the message's own, and no other one is run twice for it."""
    cluster = start()
    cluster.worker("note", "-c", "1")
    names = [f"g{number}" for number in range(6)]
    groups = {name: {"manner": manner} if name == "g3" else {} for name in names}
    summary = cluster.ended(cluster.submit(job("note", groups)))
    assert (summary.completed, summary.dead) == (6, 0)
    assert messages(cluster, "note") < 7
    failed = [task for task in cluster.closed("note") if task.attempts > 1]
    assert [(task.attempts, task.extra["last_error"].split(":")[0]) for task in failed] == [(2, error)]
    assert f'"manner": "{manner}"' in failed[0].payload
    assert len(cluster.spans()) == 7


@pytest.mark.slow
def test_a_long_task_within_a_line_keeps_its_slot(start: Callable[..., Cluster]) -> None:
    """Its node renews its lease, which is shorter than the task: it is run once."""
    cluster = start()
    cluster.worker("count", "-c", "1")
    groups = {"g0": {}, "g1": {}, "g2": {"values": [1, 2, 3], "seconds": 2}, "g3": {}}
    summary = cluster.ended(cluster.submit(job("count", groups)))
    assert summary.completed == 4
    assert {task.attempts for task in cluster.closed("count")} == {1}
    assert len(cluster.spans()) == 4
    assert messages(cluster, "count") < 4
