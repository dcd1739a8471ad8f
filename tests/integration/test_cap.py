"""The cap holds over the whole cluster, measured from inside the tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.cluster import Cluster, most_at_once

CAP = 3
TASKS = 200


@pytest.mark.slow
def test_never_more_than_the_cap_run_at_once_and_all_end_once(make_cluster: Callable[..., Cluster]) -> None:
    """With four orchestrators and two nodes of four processes, 200 tasks run at most 3 at once and end once each."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": CAP, "duration": 60}})
    cluster.worker("sosw_scheduler,sosw_scavenger,sosw_worker_assistant", "-P", "threads", "-c", "2")
    for _ in range(4):
        cluster.worker("sosw_orchestrator", "-P", "solo")
    for _ in range(2):
        cluster.worker("note", "-c", "4")
    cluster.beat()

    values: list[Any] = list(range(TASKS))
    # Each task long enough that all slots are in use at some time, however slow the machine is at handing them out.
    shape = {"lambda_name": "note", "isolate_values": True, "seconds": 0.03}
    job = cluster.submit({**shape, "groups": {"all": {"values": values}}})
    summary = cluster.ended(job, 90)

    spans = cluster.spans()
    assert (summary.tasks, summary.completed, summary.dead) == (TASKS, TASKS, 0)
    assert sorted(task.extra["result_doubled"] for task in cluster.closed("note")) == [[2 * n] for n in values]
    assert len({span.task_id for span in spans}) == len(spans) == TASKS
    assert all(span.end is not None for span in spans)
    assert most_at_once(spans) == CAP


@pytest.mark.slow
def test_never_more_starts_than_the_rate_allows(make_cluster: Callable[..., Cluster]) -> None:
    """At 10/s over the whole cluster two orchestrators and two nodes start at most 10 tasks a second."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": 8, "rate_limit": "10/s"}})
    cluster.worker("sosw_scheduler,sosw_scavenger,sosw_worker_assistant", "-P", "threads", "-c", "2")
    for _ in range(2):
        cluster.worker("sosw_orchestrator", "-P", "solo")
    for _ in range(2):
        cluster.worker("note", "-c", "2")
    cluster.beat()

    job = cluster.submit(
        {"lambda_name": "note", "isolate_values": True, "groups": {"all": {"values": list(range(50))}}}
    )
    assert cluster.ended(job, 60).completed == 50

    starts = sorted(span.start for span in cluster.spans())
    # Tokens are spent by Redis; bodies start some moments later, each after its own.
    slack_s = 1
    assert all(starts[index + 40] - starts[index] >= 4 - slack_s for index in range(len(starts) - 40))
    assert starts[-1] - starts[0] < 15
