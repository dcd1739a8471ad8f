"""Lines: tasks that a process runs one after another on account of one message keep every promise of a task."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import JobState
from tests.integration.cluster import Cluster

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


def messages(log: str, labourer_id: str) -> int:
    """Return how many messages of a labourer a node's main process has received."""
    return len(re.findall(rf"Task {labourer_id}\[[^\]]+\] received", log))


@pytest.mark.slow
def test_many_short_tasks_take_few_messages(start: Callable[..., Cluster]) -> None:
    """Each is run by itself all the same, with its own stats, and told of in the log as Celery does it."""
    cluster = start()
    node = cluster.worker("count", "-c", "1")
    groups = {f"g{number:02d}": {"values": [number]} for number in range(60)}
    summary = cluster.ended(cluster.submit(job("count", groups)))
    assert (summary.state, summary.completed) == (JobState.COMPLETED, 60)
    assert messages(cluster.log(node), "count") <= 30
    closed = cluster.closed("count")
    assert sorted(task.extra["result_last"] for task in closed) == list(range(60))
    assert {(task.attempts, task.extra["stat_values"]) for task in closed} == {(1, 1)}
    assert cluster.most_at_once() == 1
    succeeded = re.findall(r"Task count\[([^\]]+)\] succeeded", cluster.log(node))
    assert sorted(succeeded) == sorted(f"{task.task_id}.1" for task in closed)


@pytest.mark.slow
def test_while_events_are_watched_each_task_has_a_message(start: Callable[..., Cluster]) -> None:
    """Flower, and whoever else follows events, sees all of them."""
    cluster = start()
    node = cluster.worker("count", "-c", "1", "-E")
    groups = {f"g{number:02d}": {"values": [number]} for number in range(30)}
    assert cluster.ended(cluster.submit(job("count", groups))).completed == 30
    assert messages(cluster.log(node), "count") == 30


@pytest.mark.slow
def test_where_lines_would_do_harm_every_task_takes_a_message(start: Callable[..., Cluster]) -> None:
    """Where hints of another labourer would wait for the line, and where a process ends after so many messages."""
    cluster = start()
    tasks = {f"g{number}": {} for number in range(20)}
    both = cluster.worker("count,note", "-c", "1")
    assert cluster.ended(cluster.submit(job("count", tasks))).completed == 20
    both.send_signal(signal.SIGTERM)
    both.wait(20)
    counting = cluster.worker("count", "-c", "1", "--max-tasks-per-child", "50")
    assert cluster.ended(cluster.submit(job("count", tasks))).completed == 20
    assert all(messages(cluster.log(node), "count") >= 20 for node in (both, counting))


@pytest.mark.slow
def test_without_lines_every_task_takes_a_message(start: Callable[..., Cluster]) -> None:
    """`line_s` of 0 switches them off."""
    cluster = start(line_s=0)
    node = cluster.worker("count", "-c", "1")
    assert cluster.ended(cluster.submit(job("count", {f"g{number}": {} for number in range(20)}))).completed == 20
    assert messages(cluster.log(node), "count") >= 20


@pytest.mark.slow
def test_a_node_that_is_asked_to_end_waits_for_no_line(start: Callable[..., Cluster]) -> None:
    """The task that runs is finished and closed; those behind it in its line are left to other nodes."""
    cluster = start(line_s=60)
    node = cluster.worker("count", "-c", "1")
    groups = {f"g{number:02d}": {"values": [number], "seconds": 0.2} for number in range(300)}
    cluster.submit(job("count", groups))
    cluster.wait_for(lambda: len(cluster.spans()) > 5, 30, "a line under way")
    node.send_signal(signal.SIGTERM)
    begun = len(cluster.spans())
    assert node.wait(30) == 0
    assert begun <= len(cluster.spans()) <= begun + 3
    assert "Warm shutdown" in cluster.log(node)


@pytest.mark.slow
def test_a_task_within_a_line_fails_as_itself(start: Callable[..., Cluster]) -> None:
    """The one that ran is told as failed, not the message's own, and at once: it is not found lost; none is run again
    beside it."""
    cluster = start()
    node = cluster.worker("note", "-c", "1")
    manners = {2: "kill", 5: "hang", 8: "exit", 11: "raise", 14: "ignore"}
    groups = {f"g{number:02d}": {"manner": manners.get(number, "")} for number in range(18)}
    summary = cluster.ended(cluster.submit(job("note", groups)))
    assert (summary.completed, summary.dead) == (18, 0)
    assert messages(cluster.log(node), "note") < 18
    failed = [task for task in cluster.closed("note") if task.attempts > 1]
    assert {json.loads(task.payload)["manner"]: task.extra["last_error"].split(":")[0] for task in failed} == {
        "kill": "WorkerLostError",
        "hang": "Time limit",
        "exit": "WorkerLostError",
        "raise": "ValueError",
        "ignore": "Ignore",
    }
    assert {task.attempts for task in failed} == {2}
    assert len(cluster.spans()) == 18 + len(manners)


@pytest.mark.slow
def test_a_long_task_within_a_line_keeps_its_slot(start: Callable[..., Cluster]) -> None:
    """Its node renews its lease, which is shorter than the task: it is run once."""
    cluster = start()
    node = cluster.worker("count", "-c", "1")
    groups = {"g0": {}, "g1": {}, "g2": {"values": [1, 2, 3], "seconds": 2}, "g3": {}}
    summary = cluster.ended(cluster.submit(job("count", groups)))
    assert summary.completed == 4
    assert {task.attempts for task in cluster.closed("count")} == {1}
    assert len(cluster.spans()) == 4
    assert messages(cluster.log(node), "count") < 4
