"""The system on a Redis that comes back empty or with old data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sosw_celery import clock
from sosw_celery.core.model import Attempt, Hint, Task
from tests.integration.cluster import Cluster, most_at_once
from tests.redis_lives import SnapshotRedis

CAP = 2
TASKS = 6


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[SnapshotRedis]:
    """A Redis that can come back with a snapshot."""
    with SnapshotRedis(tmp_path / "redis") as server:
        yield server


@pytest.mark.slow
def test_an_old_snapshot_breaks_no_cap_and_ends_no_attempt(
    make_cluster: Callable[..., Cluster], snapshots: SnapshotRedis
) -> None:
    """What runs is not in the snapshot: it runs on, nothing starts beside it, and every task runs once."""
    labourers = {"note": {"max_simultaneous_invocations": CAP, "duration": 60}}
    short = {"lease_s": 3, "renew_s": 0.5, "settle_s": 2}
    cluster = make_cluster(slots_url=snapshots.url, labourers=labourers, **short)
    cluster.worker()
    cluster.beat()
    cluster.worker("note", "-c", "4")
    groups = {f"g{number}": {"seconds": 4} for number in range(TASKS)}
    job = cluster.submit({"lambda_name": "note", "isolate_groups": True, "groups": groups})
    cluster.wait_for(lambda: len(cluster.spans()) == CAP, 20, "all slots to be in use")
    cluster.services.redis.save()
    cluster.wait_for(lambda: len(cluster.spans()) == 2 * CAP, 20, "the next ones to run")
    last = max(span.start for span in cluster.spans())
    cluster.wait_for(lambda: time.monotonic() > last + 1, 20, "the node to renew their leases")
    snapshots.come_back()
    assert cluster.ended(job, 90).completed == TASKS
    assert most_at_once(cluster.spans()) == CAP
    assert [task.attempts for task in cluster.closed("note")] == [1] * TASKS


@pytest.mark.slow
def test_nothing_starts_beside_a_claim_that_takes_its_time(make_cluster: Callable[..., Cluster]) -> None:
    """Redis is emptied between slot and claim: the table shows nothing that runs, and nothing starts all the same."""
    services = make_cluster(labourers={"note": {"max_simultaneous_invocations": 1}}, settle_s=5).services
    now = clock.now()
    services.task_table.write([Task(f"task{n}", "note", greenfield=now - n, created_at=now) for n in (1, 2)])
    assert services.orchestrator.dispatch("note") == 1
    claim = services.task_table.claim

    def claim_slowly(*args: Any, **options: Any) -> Task:
        services.redis.flushall()
        assert services.orchestrator.dispatch("note") == 0
        return claim(*args, **options)

    services.task_table.claim = claim_slowly  # type: ignore[method-assign]
    assert services.attempts.begin(Hint(Attempt("note", "task2", 1))) is not None
    assert services.attempts.begin(Hint(Attempt("note", "task1", 1))) is None
    assert services.orchestrator.dispatch("note") == 0
    assert services.slots.look("note").ready == "settling"
