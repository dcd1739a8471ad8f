"""`sosw-celery health` beside real worker nodes: alive while they work, dead however they stop working."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sosw_celery.local import RedisServer
from tests.integration.cluster import Cluster
from tests.nursery import Nursery, Process

#: Seconds of silence that count in these tests, and between two signs of life.
LIMIT_S, HEARTBEAT_S = 2, 0.2
LABOURERS = {"note": {"max_simultaneous_invocations": 3, "duration": 60}}


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster whose nodes give signs of life often; no process runs yet."""
    return make_cluster(labourers=LABOURERS, heartbeat_s=HEARTBEAT_S)


@contextlib.contextmanager
def stopped(cluster: Cluster) -> Iterator[Cluster]:
    """Have all processes of the cluster ended with the block."""
    try:
        yield cluster
    finally:
        cluster.stop()


def probe(cluster: Cluster, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a container's health check does."""
    main = "from sosw_celery.cli import main; main()"
    command = [sys.executable, "-c", main, "health", "--limit", str(LIMIT_S), *options]
    return subprocess.run(command, env=cluster.environment, cwd=cluster.directory, capture_output=True, text=True)


def node_of(process: Process) -> str:
    """Return the name of a worker's node."""
    return process.arguments[process.arguments.index("-n") + 1]


def wait_until_dead(cluster: Cluster, words: str) -> None:
    """Wait until the probe fails, which it has to do for the right reason."""
    found: list[subprocess.CompletedProcess[str]] = []

    def is_dead() -> bool:
        found[:] = [probe(cluster)]
        return found[0].returncode != 0

    cluster.wait_for(is_dead, 40, f"the probe to say: {words}")
    assert found[0].returncode == 1
    assert "not alive" in found[0].stderr
    assert words in found[0].stderr


def held(cluster: Cluster, seconds: float) -> None:
    """Let some seconds pass, in which every probe has to find the nodes alive."""
    end = time.monotonic() + seconds
    cluster.wait_for(lambda: _still_alive(cluster) and time.monotonic() > end, seconds + 30, "the time to pass")


def _still_alive(cluster: Cluster) -> bool:
    answer = probe(cluster)
    assert answer.returncode == 0, answer.stderr
    return True


@pytest.mark.slow
def test_a_node_is_alive_from_its_start_idle_and_busy_until_it_is_stopped(cluster: Cluster) -> None:
    """Right after its start, with nothing to do, with more to do than it can for longer than the limit, and ending."""
    essentials = cluster.worker()
    worker = cluster.worker("note", "-c", "1")
    answer = probe(cluster)
    assert answer.returncode == 0, answer.stderr
    assert {line.split(":")[0] for line in answer.stdout.splitlines()} == {node_of(essentials), node_of(worker)}
    held(cluster, 1.5 * LIMIT_S)
    groups = {f"g{number}": {"seconds": 2 * LIMIT_S} for number in range(2)}
    submitted = cluster.submit({"lambda_name": "note", "isolate_groups": True, "groups": groups})
    cluster.wait_for(cluster.spans, 20, "the first task to run")
    held(cluster, 1.5 * LIMIT_S)
    worker.send_signal(signal.SIGTERM)
    (beating,) = [one for one in json.loads(probe(cluster, "--json").stdout) if one["node"] == node_of(worker)]
    assert beating["alive"]
    worker.wait(30)
    assert probe(cluster, "-n", node_of(worker)).returncode == 1
    assert probe(cluster, "-n", node_of(essentials)).returncode == 0
    assert cluster.services.job_table.get(submitted).tasks == 2


@pytest.mark.slow
def test_a_frozen_node_and_a_killed_one_are_dead(cluster: Cluster) -> None:
    """A node that is stopped falls silent; one whose process is gone is dead at once."""
    worker = cluster.worker("note", "-c", "1")
    assert probe(cluster).returncode == 0
    os.kill(worker.pid, signal.SIGSTOP)
    wait_until_dead(cluster, "no sign of life")
    os.kill(worker.pid, signal.SIGCONT)
    cluster.wait_for(lambda: probe(cluster).returncode == 0, 20, "the node to be alive again")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(20)
    answer = probe(cluster)
    assert answer.returncode == 1
    assert "is gone" in answer.stderr


@pytest.mark.slow
def test_a_deaf_node_is_dead_once_messages_wait_for_it(cluster: Cluster) -> None:
    """A consumer that takes no messages is noticed as soon as there are some, though process and loop are well."""
    cluster.worker()
    worker = cluster.worker("note", "-c", "1")
    replies = cluster.app.control.cancel_consumer("note", destination=[node_of(worker)], reply=True, timeout=10)
    assert replies
    held(cluster, 1.5 * LIMIT_S)  # nobody can tell while no message waits
    cluster.submit({"lambda_name": "note", "groups": {"g": {}}})
    wait_until_dead(cluster, "messages wait on note")


@pytest.mark.slow
def test_a_node_whose_event_loop_stands_still_is_dead(cluster: Cluster) -> None:
    """A loop that is blocked is noticed though all of the node's threads go on."""
    worker = cluster.worker("note", "-c", "1", TEST_IMPORTS="wedge")
    assert probe(cluster).returncode == 0
    cluster.app.control.broadcast("wedge", arguments={"seconds": 60}, destination=[node_of(worker)])
    wait_until_dead(cluster, "event loop has not turned")


@pytest.mark.slow
def test_connections_that_are_cut_come_back_and_the_node_is_alive_all_the_time(cluster: Cluster) -> None:
    """A node whose every connection to Redis is cut reconnects, works on, and is never taken for dead."""
    cluster.worker()
    cluster.worker("note", "-c", "2")
    cluster.services.redis.client_kill_filter(_type="normal", skipme=True)
    cluster.services.redis.client_kill_filter(_type="pubsub", skipme=True)
    held(cluster, 1.5 * LIMIT_S)
    cluster.beat()
    assert cluster.ended(cluster.submit({"lambda_name": "note", "groups": {"g": {}}})).completed == 1


@pytest.mark.slow
def test_a_redis_that_is_away_is_told_and_no_reason_for_a_restart(
    tmp_path: Path, nursery: Nursery, dynamodb_endpoint: str, table_prefix: str
) -> None:
    """While Redis does not answer the probe says so and does not fail; after that the node is alive as it was."""
    section = {"labourers": LABOURERS, "heartbeat_s": HEARTBEAT_S}
    with (
        RedisServer() as server,
        stopped(Cluster(tmp_path, nursery, server.url, dynamodb_endpoint, table_prefix, **section)) as cluster,
    ):
        cluster.worker("note", "-c", "1")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            cluster.wait_for(lambda: "a restart would not help" in probe(cluster).stdout, 30, "the probe to tell")
            held(cluster, 2 * LIMIT_S)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        cluster.wait_for(lambda: "does not answer" not in probe(cluster).stdout, 30, "Redis to be back")
        held(cluster, 2 * LIMIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_are_alive_idle_and_busy(cluster: Cluster, pool: str) -> None:
    """With threads, and with the pool that runs its tasks in the loop itself."""
    cluster.worker()
    cluster.worker("note", "-P", pool, "-c", "1")
    held(cluster, 1.5 * LIMIT_S)
    cluster.submit({"lambda_name": "note", "groups": {"g": {}}, "seconds": 2 * LIMIT_S})
    cluster.wait_for(cluster.spans, 20, "the task to run")
    held(cluster, 1.5 * LIMIT_S)


@pytest.mark.slow
def test_all_nodes_of_the_cluster_are_shown_from_redis(cluster: Cluster) -> None:
    """`--all` lists every node with its queues, from wherever one asks."""
    nodes = [cluster.worker(), cluster.worker("note", "-c", "2")]
    asked = probe(cluster, "--all", "--json")
    assert asked.returncode == 0, asked.stderr
    shown = {one["node"]: one for one in json.loads(asked.stdout)}
    assert shown.keys() == {node_of(node) for node in nodes}
    mine = shown[node_of(nodes[1])]
    assert (mine["queues"], mine["capacity"], mine["problems"]) == (["note"], 2, [])


@pytest.mark.slow
def test_a_node_whose_processes_fail_before_their_claims_is_not_alive(cluster: Cluster) -> None:
    """A process that is broken for a reason of its own ends and says why; where fresh ones are as well, health tells.

    No attempt is counted for it: the task runs, in its first one, as soon as a node works.
    """
    cluster.worker()
    cluster.beat()
    broken = cluster.worker("note", "-c", "1", TEST_IMPORTS="broken_labourers")
    submitted = cluster.submit({"lambda_name": "note", "isolate_groups": True, "groups": {"g1": {}, "g2": {}}})
    wait_until_dead(cluster, "its processes fail before they do anything")
    assert "process ends: it failed 5 times in a row, the last time by ArithmeticError" in cluster.log(broken)
    os.killpg(broken.pid, signal.SIGKILL)
    cluster.worker("note", "-c", "1")
    assert cluster.ended(submitted).completed == 2
    assert [task.attempts for task in cluster.closed("note")] == [1, 1]
