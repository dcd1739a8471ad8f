"""Real worker processes whose slots are on a Redis that comes back with old data; their messages are on another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
