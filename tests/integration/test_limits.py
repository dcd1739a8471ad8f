"""No body outlives its time or its lease, and nobody takes its place before it is gone: judged inside the bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from sosw_celery.core.tasks.model import Hint
from tests.faults.injectors.tcp_proxy import TcpProxy
from tests.integration.cluster import Cluster

ONE_SLOT = {"max_simultaneous_invocations": 1, "retry_backoff": 0.1}
SHORT = {"lease_s": 3, "renew_s": 0.5, "settle_s": 1, "max_attempts": 2}
IMPORTS = {"TEST_IMPORTS": "lasting_labourers"}


@pytest.fixture
def start(make_cluster: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Starts a cluster with the essentials and beat running; labourers' workers are started by the test."""

    def begin(labourer_id: str, duration_s: float) -> Cluster:
        cluster = make_cluster(labourers={labourer_id: {**ONE_SLOT, "duration": duration_s}}, **SHORT)
        cluster.worker()
        cluster.beat()
        return cluster

    return begin


def job(labourer_id: str, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a job with one task for each group."""
    return {"lambda_name": labourer_id, "isolate_groups": True, "groups": groups}


def seen_beside(cluster: Cluster) -> list[list[int]]:
    """Return, for each start of a body, which processes it saw at work."""
    return [json.loads(line) for path in cluster.history.glob("*.beside") for line in path.read_text().splitlines()]


def errors(cluster: Cluster, labourer_id: str) -> dict[str, str]:
    """Return the last error of each closed task, by the manner that its event asked for."""
    return {
        json.loads(task.payload).get("manner", ""): task.extra.get("last_error", "")
        for task in cluster.closed(labourer_id)
    }


@pytest.mark.slow
def test_nobody_takes_a_slot_before_who_had_it_is_dead(start: Callable[..., Cluster]) -> None:
    """Bodies outlive their time: one that SIGTERM does not end, one in C, one with a subprocess; one leaves its own
    behind when it exits. Two processes and one slot: the next body begins at once, and sees none of them."""
    cluster = start("strict", duration_s=1)
    cluster.worker("strict", "-c", "2", **IMPORTS)
    manners = ["stubborn", "in C", "child", "orphan"]
    groups = {f"bad {manner}": {"manner": manner} for manner in manners} | {f"fine{n}": {} for n in range(12)}
    summary = cluster.ended(cluster.submit(job("strict", groups)))
    assert (summary.completed, summary.dead) == (16, 0)
    assert seen_beside(cluster) == [[]] * 20
    found = errors(cluster, "strict")
    late = "Time limit: the body ran longer than 1 s"
    assert {manner: found[manner] for manner in manners[:3]} == dict.fromkeys(manners[:3], late)
    assert found["orphan"].startswith("WorkerLostError: Worker exited prematurely: exitcode 3")


@pytest.mark.slow
def test_a_revoked_body_is_dead_before_its_slot_is_free(start: Callable[..., Cluster]) -> None:
    """`revoke(terminate=True)` sends SIGTERM, which this body ignores; Celery tells of the end at once all the same."""
    cluster = start("strict", duration_s=60)
    cluster.worker("strict", "-c", "2", **IMPORTS)
    submitted = cluster.submit(job("strict", {"bad": {"manner": "stubborn"}, "fine": {}}))
    cluster.wait_for(lambda: any(span.end is None for span in cluster.spans()), 20, "the body to run")
    (stubborn,) = [span for span in cluster.spans() if span.end is None]
    hint = Hint(cluster.services.task_table.find(stubborn.task_id).task.current_attempt)
    cluster.app.control.revoke(hint.celery_id, terminate=True)
    assert cluster.ended(submitted).completed == 2
    assert seen_beside(cluster) == [[]] * 3
    assert errors(cluster, "strict")["stubborn"] == "Revoked: terminated"


@pytest.mark.slow
def test_a_node_without_redis_ends_also_a_body_in_c(start: Callable[..., Cluster]) -> None:
    """Such a body lets no thread of its process run; the main process ends it before the lease does."""
    cluster = start("strict", duration_s=60)
    with TcpProxy(int(cluster.section["redis_url"].rpartition(":")[2].partition("/")[0])) as way:
        section = {**cluster.section, "redis_url": f"redis://127.0.0.1:{way.port}/0"}
        cluster.worker("strict", "-c", "1", **IMPORTS, TEST_SOSW=json.dumps(section))
        submitted = cluster.submit(job("strict", {"bad": {"manner": "in C"}}))
        cluster.wait_for(lambda: len(seen_beside(cluster)) == 1, 20, "the body to run")
        way.refuse()
        cluster.worker("strict", "-c", "1", **IMPORTS)
        assert cluster.ended(submitted).completed == 1
    assert seen_beside(cluster) == [[]] * 2
    assert errors(cluster, "strict")["in C"].startswith("Lost: ")


@pytest.mark.slow
def test_limits_count_from_the_first_line_of_the_body(start: Callable[..., Cluster]) -> None:
    """Neither what comes before a body counts, nor the tasks before it on account of the same message. A soft limit
    ends one body, not its neighbours."""
    cluster = start("slow", duration_s=2)
    node = cluster.worker("slow", "-c", "1", "--soft-time-limit", "1", **IMPORTS, TEST_READY_S="4")
    groups = {f"g{number:02d}": {"seconds": 0.2} for number in range(12)} | {"long": {"seconds": 60}}
    summary = cluster.ended(cluster.submit(job("slow", groups)))
    assert (summary.completed, summary.dead) == (13, 0)
    closed = cluster.closed("slow")
    assert {(task.attempts, task.extra.get("last_error", "")) for task in closed} == {(1, "")}
    (stopped,) = [task.extra["result_stopped_after"] for task in closed if "result_stopped_after" in task.extra]
    assert stopped >= 1
    # Some were run on account of one message.
    assert len(re.findall(r"Task slow\[[^\]]+\] received", cluster.log(node))) < 13
