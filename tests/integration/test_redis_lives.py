"""The system on a Redis that comes back empty or with old data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sosw_celery import clock
from sosw_celery.core.tasks.model import Attempt, Hint, JobState, Task
from sosw_celery.local import RedisServer
from tests.faults.injectors.clocks import IS_AVAILABLE
from tests.faults.injectors.tcp_proxy import TcpProxy
from tests.integration.cluster import Cluster
from tests.nursery import Nursery
from tests.redis_lives import SnapshotRedis, WrongRedis, demote, follow

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
    assert cluster.most_at_once() == CAP
    assert [task.attempts for task in cluster.closed("note")] == [1] * TASKS


@pytest.mark.slow
@pytest.mark.skipif(not IS_AVAILABLE, reason="libfaketime is not made for this machine")
def test_a_clock_that_jumps_breaks_no_cap_and_holds_no_slot(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    """A minute ahead, ten minutes back: what runs runs on, nothing starts beside it, and the rest goes on."""
    labourers = {"note": {"max_simultaneous_invocations": CAP, "duration": 60}}
    with WrongRedis(tmp_path) as server:
        cluster = make_cluster(slots_url=server.url, labourers=labourers, lease_s=6, renew_s=0.5, settle_s=2)
        cluster.worker()
        cluster.beat()
        cluster.worker("note", "-c", "4")
        groups = {f"g{number}": {"seconds": 2} for number in range(TASKS)}
        job = cluster.submit({"lambda_name": "note", "isolate_groups": True, "groups": groups})
        for begun, off_s in ((CAP, 60), (2 * CAP, -540)):
            cluster.wait_for(lambda begun=begun: len(cluster.spans()) == begun, 30, f"{begun} to run")
            server.set_clock(off_s)
        assert cluster.ended(job, 60).completed == TASKS
        assert cluster.most_at_once() == CAP
        assert [task.attempts for task in cluster.closed("note")] == [1] * TASKS
        cluster.stop()


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


@pytest.mark.slow
def test_no_worker_ends_and_none_stands_still_when_the_broker_is_demoted_and_lives_on(
    tmp_path: Path, nursery: Nursery, dynamodb_endpoint: str, table_prefix: str
) -> None:
    """Nodes wait for messages, and have some to acknowledge, at what is a replica now: they find the new primary."""
    labourers = {"note": {"max_simultaneous_invocations": CAP, "duration": 60}}
    short = {"lease_s": 4, "renew_s": 0.5, "settle_s": 1}
    with ExitStack() as stack:
        primary, replica = stack.enter_context(RedisServer()), stack.enter_context(RedisServer())
        way = stack.enter_context(TcpProxy(primary.port))
        follow(primary, replica)
        url = f"redis://127.0.0.1:{way.port}/0"
        cluster = Cluster(tmp_path, nursery, url, dynamodb_endpoint, table_prefix, labourers=labourers, **short)
        stack.callback(cluster.stop)
        nodes = [cluster.worker(), cluster.worker("note", "-c", str(CAP))]
        cluster.beat()
        groups = {f"g{number}": {"seconds": 1} for number in range(TASKS)}
        jobs = [{"lambda_name": "note", "isolate_groups": True, "groups": groups, "job_id": name} for name in "ab"]
        first = cluster.submit(jobs[0])
        cluster.wait_for(lambda: len(cluster.spans()) >= CAP, 20, "all slots to be in use")
        demote(primary, replica)
        way.target = replica.port
        assert cluster.ended(cluster.submit(jobs[1]), 60).completed == TASKS
        assert cluster.ended(first, 60).completed == TASKS
        assert [node.poll() for node in nodes] == [None, None]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_result_backend_that_is_away_takes_no_node_out_of_work(
    make_cluster: Callable[..., Cluster], pool: str
) -> None:
    """A result that cannot be stored is lost; the next message is taken up all the same."""
    cluster = make_cluster(labourers={"note": {"max_simultaneous_invocations": CAP}})
    # It runs one task at a time: each has to end for the next one.
    cluster.worker("sosw_scheduler", "-P", pool, "-c", "1", TEST_RESULT_BACKEND="redis://127.0.0.1:1/0")
    jobs = [
        cluster.submit({"lambda_name": "note", "groups": {f"g{number}": {}}}, ignore_result=False)
        for number in range(3)
    ]
    records = cluster.services.job_table.record
    cluster.wait_for(
        lambda: all(records(job_id).state is JobState.SCHEDULED for job_id in jobs), 60, "all jobs to be scheduled"
    )
