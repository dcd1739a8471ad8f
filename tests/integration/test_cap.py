"""The cap holds over the whole cluster, measured from inside the tasks."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.cluster import Cluster

CAP = 3
TASKS = 200
#: Seconds that may lie between a token and the first line of its body.
FIRST_LINE_S = 0.1


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
    assert cluster.most_at_once() == CAP


@pytest.mark.slow
def test_never_more_starts_than_the_rate_allows(make_cluster: Callable[..., Cluster]) -> None:
    """Judged in the bodies: in any window no more begin than burst and rate allow, also of hints that waited long."""
    rate, burst = 4.0, 2
    own = {"max_simultaneous_invocations": 12, "rate_limit": f"{rate:g}/s", "rate_burst": burst}
    cluster = make_cluster(labourers={"note": own})
    cluster.worker("sosw_scheduler,sosw_scavenger,sosw_worker_assistant", "-P", "threads", "-c", "2")
    for _ in range(2):
        cluster.worker("sosw_orchestrator", "-P", "solo")
    cluster.beat()
    values = list(range(40))
    job = cluster.submit({"lambda_name": "note", "isolate_values": True, "groups": {"all": {"values": values}}})
    cluster.wait_for(lambda: cluster.services.slots.look("note").pending == 12, 20, "hints to wait for a worker")

    cluster.worker("note", "-c", "10")
    cluster.worker("note", "-P", "threads", "-c", "4")
    assert cluster.ended(job, 90).completed == len(values)

    starts = sorted(span.start for span in cluster.spans())
    assert len(starts) == len(values)
    for first, last in itertools.combinations(range(len(starts)), 2):
        window_s = starts[last] - starts[first] + FIRST_LINE_S
        assert last - first + 1 <= burst + rate * window_s, (first, last, window_s)
    assert starts[-1] - starts[0] < 5 * len(values) / rate


@pytest.mark.slow
def test_a_cap_that_was_lowered_holds_for_workers_that_were_not_started_again(
    make_cluster: Callable[..., Cluster],
) -> None:
    """Essentials that start with another cap put it in force; who hands slots on by itself goes by it."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": 4}})
    old = cluster.worker()
    cluster.beat()
    cluster.worker("note", "-c", "6")
    shape = {"lambda_name": "note", "isolate_values": True, "seconds": 0.4}
    job = cluster.submit({**shape, "groups": {"all": {"values": list(range(60))}}})
    cluster.wait_for(lambda: cluster.most_at_once() == 4, 30, "all slots to be in use")

    lowered = {**cluster.section, "labourers": {"note": {"max_simultaneous_invocations": 2}}}
    cluster.worker(TEST_SOSW=json.dumps(lowered))
    cluster.wait_for(lambda: cluster.services.slots.look("note").cap == 2, 20, "the new cap to be in force")
    in_force_at = time.monotonic()
    old.send_signal(signal.SIGTERM)
    assert cluster.ended(job, 90).completed == 60

    spans = cluster.spans()
    # A body begins some moments after its slot was given to it.
    later = [span.start for span in spans if span.start > in_force_at + 1]
    running = [sum(span.start <= at < (span.end or at) for span in spans) for at in later]
    assert len(later) > 10
    assert max(running) == 2
