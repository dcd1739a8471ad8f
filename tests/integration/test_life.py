"""The life of tasks in real worker processes: however a run ends, the task ends once and its slot is free again."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState
from tests.integration.cluster import Cluster
from tests.nursery import Process, groups_of

LABOURERS = {
    "note": {"max_simultaneous_invocations": 3, "duration": 3, "cooldown": 1, "retry_backoff": 0.1},
    "count": {"max_simultaneous_invocations": 2, "duration": 30, "retry_backoff": 0.1},
}
#: Short leases, so that a lost attempt is noticed within the test.
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "max_attempts": 3}


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster with the essentials and beat running; labourers' workers are started by the test."""
    cluster = make_cluster(labourers=LABOURERS, **SHORT)
    cluster.worker()
    cluster.beat()
    return cluster


def job(labourer_id: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": groups}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_functions_and_classes_close_with_their_stats_and_results(cluster: Cluster, pool: str) -> None:
    """Both forms of a labourer keep what each single run counted and found, under processes and under threads."""
    cluster.worker("note,count", "-P", pool, "-c", "4")
    groups = {f"g{number}": {"values": list(range(number + 1)), "seconds": 0.01} for number in range(12)}
    jobs = [cluster.submit(job(name, groups)) for name in ("note", "count")]
    for submitted in jobs:
        summary = cluster.ended(submitted)
        assert (summary.state, summary.completed) == (JobState.COMPLETED, 12)
    counted = {task.extra["result_last"]: task.extra["stat_values"] for task in cluster.closed("count")}
    assert counted == {number: number + 1 for number in range(12)}
    noted = sorted((task.extra["result_doubled"] for task in cluster.closed("note")), key=len)
    assert noted == [[2 * value for value in range(number + 1)] for number in range(12)]


@pytest.mark.slow
def test_every_manner_of_failing_ends_in_a_retry(cluster: Cluster) -> None:
    """A body that raises, dies, exits, hangs or asks for a retry runs again; all tasks end completed, none twice."""
    cluster.worker("note", "-c", "3")
    manners = ["raise", "kill", "exit", "later", "ignore", "hang", ""]
    summary = cluster.ended(cluster.submit(job("note", {name or "fine": {"manner": name} for name in manners})))
    assert (summary.tasks, summary.completed, summary.dead) == (len(manners), len(manners), 0)
    closed = {task.extra.get("last_error", "").split(":")[0]: task for task in cluster.closed("note")}
    assert closed.keys() == {"ValueError", "WorkerLostError", "RetryLater", "Ignore", "Time limit", ""}
    assert all(task.attempts == 2 and task.failed_attempts == 1 for error, task in closed.items() if error)
    assert closed[""].attempts == 1
    ends = Counter(span.task_id for span in cluster.spans() if span.end is not None)
    assert set(ends.values()) == {1}
    assert cluster.most_at_once() <= 3


@pytest.mark.slow
def test_a_task_that_always_fails_dies_after_its_attempts_and_the_rest_goes_on(cluster: Cluster) -> None:
    """A poisoned task is dead after `max_attempts`, whether it raises or kills its process; others are not harmed."""
    cluster.worker("note", "-c", "3")
    groups: dict[str, dict[str, Any]] = {f"good{number}": {} for number in range(5)}
    groups |= {name: {"manner": name, "bad_attempts": 99} for name in ("raise", "kill")}
    summary = cluster.ended(cluster.submit(job("note", groups)))
    assert (summary.state, summary.completed, summary.dead) == (JobState.COMPLETED_WITH_DEAD, 5, 2)
    assert {task.attempts for task in cluster.closed("note", status=0)} == {3}
    assert len([span for span in cluster.spans() if span.end is None]) == 6


@pytest.mark.slow
def test_celerys_retry_goes_through_the_table(cluster: Cluster) -> None:
    """`self.retry(countdown=...)` makes the task's next attempt, and no message beside the table."""
    cluster.worker("count", "-c", "2")
    summary = cluster.ended(cluster.submit(job("count", {"one": {"manner": "retry", "values": [7]}})))
    assert (summary.tasks, summary.completed) == (1, 1)
    (task,) = cluster.closed("count")
    assert (task.attempts, task.extra["last_error"]) == (2, "RetryLater: ValueError: once more; again in 0.05 s")


@pytest.mark.slow
def test_tasks_of_a_killed_node_run_again_elsewhere(cluster: Cluster) -> None:
    """When a node dies with all its processes, its tasks are noticed by their leases and end on another node."""
    doomed = cluster.worker("note", "-c", "3")
    submitted = cluster.submit(job("note", {f"g{number}": {"seconds": 1} for number in range(6)}))
    cluster.wait_for(lambda: len(cluster.spans()) >= 3, 20, "three tasks to run")
    os.killpg(doomed.pid, signal.SIGKILL)
    cluster.worker("note", "-c", "3")
    summary = cluster.ended(submitted)
    assert (summary.completed, summary.dead) == (6, 0)
    lost = [task for task in cluster.closed("note") if task.extra.get("last_error", "").startswith("Lost")]
    assert 1 <= len(lost) <= 3
    assert cluster.most_at_once() <= 3


@pytest.mark.slow
def test_a_warm_shutdown_ends_running_tasks_and_loses_none(cluster: Cluster) -> None:
    """SIGTERM lets running tasks close; what was handed out is run by the next node, in its first attempt."""
    first = cluster.worker("note", "-c", "3")
    submitted = cluster.submit(job("note", {f"g{number}": {"seconds": 0.5} for number in range(9)}))
    cluster.wait_for(lambda: len(cluster.spans()) >= 3, 20, "three tasks to run")
    first.send_signal(signal.SIGTERM)
    first.wait(20)
    cluster.worker("note", "-c", "3")
    assert cluster.ended(submitted).completed == 9
    assert {task.attempts for task in cluster.closed("note")} == {1}
    assert all(span.end is not None for span in cluster.spans())


@pytest.mark.slow
def test_a_warm_shutdown_does_not_wait_for_what_nobody_reads(cluster: Cluster) -> None:
    """A process of the pool that took its task up during the shutdown ends with it, and the node with the process."""
    node = cluster.worker("note", "-c", "1")
    (child,) = set(groups_of(node.pid)) - {node.pid}
    os.kill(child, signal.SIGSTOP)
    submitted = cluster.submit(job("note", {"g": {"seconds": 0.1}}))
    cluster.wait_for(lambda: "received" in cluster.log(node), 20, "the task to be on its way to the process")
    node.send_signal(signal.SIGTERM)
    cluster.wait_for(lambda: not _answers(cluster, node), 20, "the node to leave the broker")
    os.kill(child, signal.SIGCONT)
    node.wait(20)
    cluster.worker("note", "-c", "1")
    assert cluster.ended(submitted).completed == 1


def _answers(cluster: Cluster, node: Process) -> bool:
    name = node.arguments[node.arguments.index("-n") + 1]
    # Over a connection of its own: those of kombu's pools are shared, and other tests have the server close them.
    with cluster.app.connection_for_write() as connection:
        return bool(cluster.app.control.ping([name], timeout=0.5, connection=connection))


@pytest.mark.slow
def test_redis_that_comes_back_empty_loses_nothing_and_keeps_the_cap(cluster: Cluster) -> None:
    """A flush in mid-flight takes messages, slots and cursors; the tasks still all end, never more than 3 at once."""
    cluster.worker("note", "-c", "5")
    submitted = cluster.submit(job("note", {f"g{number}": {"seconds": 0.3} for number in range(30)}))
    cluster.wait_for(lambda: len(cluster.spans()) >= 5, 20, "five tasks to run")
    cluster.services.redis.flushall()
    assert cluster.ended(submitted, 90).completed == 30
    assert cluster.most_at_once() <= 3


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["main", "node"])
def test_a_frozen_node_does_not_run_on_without_its_leases(cluster: Cluster, whom: str) -> None:
    """A node frozen for longer than its leases finds them gone when it wakes, and ends those attempts at once."""
    # The bodies sleep for longer than the second node needs to start, so that none is over when the first one wakes.
    frozen = cluster.worker("count", "-c", "2")
    groups: dict[str, dict[str, Any]] = {f"g{number}": {"values": [number], "seconds": 12} for number in range(2)}
    submitted = cluster.submit(job("count", groups))
    cluster.wait_for(lambda: len(cluster.spans()) >= 2, 20, "two tasks to run")
    frozen.send_signal(signal.SIGSTOP, group=whom == "node")
    cluster.worker("count", "-c", "2")
    cluster.wait_for(lambda: len(cluster.spans()) >= 4, 30, "the tasks to run elsewhere")
    frozen.send_signal(signal.SIGCONT, group=whom == "node")
    assert cluster.ended(submitted).completed == 2
    assert {task.attempts for task in cluster.closed("count")} == {2}
    assert cluster.most_at_once() <= 2
